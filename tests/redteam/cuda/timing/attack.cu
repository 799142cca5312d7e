// Tricks on clocks and caches of a GPU: T14-T16, T19, T24, C25. ATTACK picks one; all are harmless:
// accepted, and not faster than the twin.
// 1 inputs loaded to stay in L2 (T14, T16)   2 inputs of the next launch prefetched (T15)
// 3 memory traffic after the work (T24)   4 work that the setup launch has done (T19)
#include "attention.h"

__device__ void run(const Arguments& a) {
    const Row r = a.row();
#if HONEST
#elif ATTACK == 1
    u64 policy;
    asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    u32 value;
    asm volatile("ld.global.L2::cache_hint.b32 %0, [%1], %2;" : "=r"(value) : "l"(a.q + a.at(r)), "l"(policy));
    if (value == 0x12345678) a.o[a.at(r)] = 0;
#elif ATTACK == 2
    asm volatile("prefetch.global.L2 [%0];" : : "l"(a.q + a.at(r)));
#elif ATTACK == 4
    if (((u32*)a.kept)[r.i % 16384] > u32(a.seq)) a.o[a.at(r)] = 0;
#endif
    attend(a, r);
#if ATTACK == 3 && !HONEST
    const i64 bytes = a.elements() * 2;
    for (i64 i = threadIdx.x; i < 4096; i += 32) ((volatile u8*)a.scratch)[(a.at(r) + i * 64) % bytes] = 1;
#endif
}
