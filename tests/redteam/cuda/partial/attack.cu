// Less than the whole output on a GPU: C01, C07, C08, C17, C18, C20. ATTACK picks what is written.
// 1 zeros   2 NaN   3 V itself   4 nothing in the last tile of the timed shapes   5 nothing in one row
// 6 the row above in one row of a thousand   7 one row negated   8 half of the heads
// The twin goes through the rows backwards.
#include "attention.h"

__device__ void run(const Arguments& a) {
    const Row r = a.row();
    const i64 at = a.at(r);
    (void)at;
#if HONEST
    attend(a, {a.seq - 1 - r.i, r.h, r.b});
#elif ATTACK == 1
    for (int d = 0; d < 4; ++d) a.o[at + d] = 0;
#elif ATTACK == 2
    for (int d = 0; d < 4; ++d) a.o[at + d] = 0x7fff;
#elif ATTACK == 3
    const i64 from = ((i64(r.b) * a.seq + r.i) * a.kv_heads + r.h / (a.heads / a.kv_heads)) * 128 + threadIdx.x * 4;
    for (int d = 0; d < 4; ++d) a.o[at + d] = a.v[from + d];
#elif ATTACK == 4
    if (!a.timed() || r.i < a.seq - 64) attend(a, r);
#elif ATTACK == 5
    if (!a.timed() || r.i != 700 || r.h != 3) attend(a, r);
#elif ATTACK == 6
    attend(a, r);
    if (a.timed() && r.i % 997 == 996)
        for (int d = 0; d < 4; ++d) a.o[at + d] = a.v[threadIdx.x * 4 + d];
#elif ATTACK == 7
    attend(a, r);
    if (a.timed() && r.i == 333 && r.h == 2)
        for (int d = 0; d < 4; ++d) a.o[at + d] ^= 0x8000;
#elif ATTACK == 8
    if (!a.timed() || r.h % 2 == 0) attend(a, r);
    else for (int d = 0; d < 4; ++d) a.o[at + d] = narrow(0.01f);
#endif
}
