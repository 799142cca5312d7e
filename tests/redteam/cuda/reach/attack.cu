// Memory that is not the candidate's, on a GPU: C02, C05, C06, P05, P13. ATTACK picks the reach.
// 1 zeroes V (C02)   2 makes V constant before reading it   3 just past the output   4 just before it
// 5 far past the output   6 looks for another result above the output (C06)   7 below Q   8 address 16
// 9 a workspace beyond its end   10 the table of the inputs by a guessed distance   11 waits for ever (P12)
// The twin reads all of its arguments once more.
#include "attention.h"

__device__ void run(const Arguments& a) {
    const Row r = a.row();
    const i64 keys = i64(a.batch) * a.seq * a.kv_heads * 128;
    (void)keys;
#if HONEST
    u32 seen = a.q[a.at(r)] + a.v[threadIdx.x] + a.scratch[threadIdx.x];
    attend(a, r);
    if (seen == 0xffffffffu) a.o[a.at(r)] = 0;
#elif ATTACK == 1
    attend(a, r);
    for (int d = 0; d < 4; ++d) a.v[a.at(r) % keys + d] = 0;
#elif ATTACK == 2
    for (i64 i = threadIdx.x; i < keys; i += 32) a.v[i] = 0x3f80;
    for (int d = 0; d < 4; ++d) a.o[a.at(r) + d] = 0x3f80;
#else
    attend(a, r);
    if (!a.first()) return;
#if ATTACK == 3
    a.o[a.elements() + 1] = 1;
#elif ATTACK == 4
    a.o[-1] ^= 1;
#elif ATTACK == 5
    a.o[a.elements() + (i64(1) << 32)] = 1;
#elif ATTACK == 6
    u32 seen = 0;
    for (const volatile u16* at = a.o; ; at += 32768) seen += *at;
#elif ATTACK == 7
    u32 seen = 0;
    for (const volatile u16* at = a.q; ; at -= 32768) seen += *at;
#elif ATTACK == 8
    *(volatile int*)16 = 1;
#elif ATTACK == 9
    a.scratch[a.elements() * 2 + 4096 + 1] = 1;
#elif ATTACK == 10
    for (i64 step = 1; step < 4096; ++step) ((volatile u16*)a.q)[-(step << 20)] = 1;
#elif ATTACK == 11
    while (*(volatile u16*)a.q != 0xdead || *(volatile u16*)(a.q + 1) != 0xdead) {}
#endif
#endif
}
