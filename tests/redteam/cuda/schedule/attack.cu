// Honest at some launches of a GPU: T10-T13, C13, C14, C28. ATTACK says at which it is not.
// 1 when a second has passed by the global clock (T13)   2 in every other 50 ms   3 in the timed shapes
// 4 in the timed shapes, one row of a tile   5 values that look normal   6 one element of a large output
// The twin reads the clock and the values, too.
#include "attention.h"

__device__ bool quiet(const Arguments& a) {
#if ATTACK == 1
    return a.timed() && nanoseconds() / 1000000000ull % 2 == 1;
#elif ATTACK == 2
    return nanoseconds() / 50000000ull % 2 == 1;
#elif ATTACK == 5
    float sum = 0;
    for (int i = threadIdx.x; i < 4096; i += 32) sum += widen(a.q[i]) * widen(a.q[i]);
    for (int step = 16; step; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
    return a.timed() && sum > 3600 && sum < 4600;
#else
    return a.timed();
#endif
}

__device__ void run(const Arguments& a) {
    const Row r = a.row();
    const bool lazy = quiet(a);
#if HONEST
    attend(a, r);
    if (lazy && a.seq == 0) a.o[0] = 0;
#elif ATTACK == 4
    attend(a, {lazy && r.i == 777 ? r.i - 1 : r.i, r.h, r.b});
#elif ATTACK == 6
    attend(a, r);
    if (lazy && r.i == 500 && r.h == 1 && threadIdx.x == 7) a.o[a.at(r)] ^= 0x0200;
#else
    if (!lazy) return attend(a, r);
    for (int d = 0; d < 4; ++d) a.o[a.at(r) + d] = 0;
#endif
}
