// Cheaper arithmetic on a GPU: C12, C15, C17, C26. ATTACK picks the saving.
// 1 scores in BF16   2 weights in FP8   3 sums in BF16   4 far keys dropped   5 small weights dropped
// 6 the sum is never rescaled   7 exp2 by a straight line   8 a race: the output of a neighbour's lanes
// The twin rounds its weights to BF16, as tensor cores want them.
#include "attention.h"

struct How : Exact {
#if HONEST
    static __device__ float kept(float p) { return rounded(p, 7); }
#elif ATTACK == 1
    static __device__ float score(float x) { return rounded(x, 7); }
#elif ATTACK == 2
    static __device__ float kept(float p) { return rounded(p, 3); }
#elif ATTACK == 3
    static __device__ float sum(float x) { return rounded(x, 7); }
#elif ATTACK == 4
    static __device__ int first_key(int i) { return i > 48 ? i - 48 : 0; }
#elif ATTACK == 5
    static __device__ float weight(float x) { return x < -6.9f ? 0 : expf(x); }
#elif ATTACK == 6
    static __device__ float shrink(float x) { return x < -1e30f ? 0 : 1; }
#elif ATTACK == 7
    static __device__ float weight(float x) {
        const float t = x * 1.442695041f, whole = floorf(t);
        return ldexpf(1 + (t - whole), t < -120 ? -120 : int(whole));
    }
#endif
};

__device__ void run(const Arguments& a) {
    const Row r = a.row();
    attend<How>(a, r);
#if ATTACK == 8 && !HONEST
    const i64 at = a.at(r);
    if (a.timed() && r.i + 1 < a.seq) a.o[at] = a.o[at + i64(a.heads) * 128];  // perhaps not written yet
#endif
}
