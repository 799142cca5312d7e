// Memory between launches of a GPU: R01-R04, R06, R07, T10, T11. ATTACK says where it is looked for.
// 1 the last output (R06)   2 a scratch workspace (R04)   3 a zeroed workspace   4 a restored workspace
// 5 shared memory   6 uninitialised local memory   7 behind the output (canaries)   8 inside an input
// 9 constant memory by a generic address (R02)   10 the parameters of this launch   11 registers
// A row is taken from there where a mark says that it is one of an earlier launch; else it is computed
// and left there. Where nothing survives, or nothing that comes back is of use, the result is right
// and not faster. The twin only keeps working values there, within one launch.
#include "attention.h"

enum : u32 { MARK = 0x5ca1ab1e };  // a constexpr would take memory of the module

#if ATTACK == 9 && !HONEST
__constant__ u32 table[16000] = {1};
#endif

__device__ u8* place(const Arguments& a) {
#if HONEST || ATTACK == 2
    return a.scratch;
#elif ATTACK == 3
    return a.zeroed;
#elif ATTACK == 4
    return a.kept;
#elif ATTACK == 7
    return (u8*)(a.o + a.elements());
#elif ATTACK == 8
    return (u8*)a.k;
#elif ATTACK == 9
    u64 generic;
    asm volatile("cvta.const.u64 %0, %1;" : "=l"(generic) : "l"(0ull));
    return (u8*)generic + (table[threadIdx.x % 8 + 8] == 77 ? 4 : 0);
#else
    return nullptr;
#endif
}

__device__ void run(const Arguments& a) {
    const Row r = a.row();
    const u32 mine = u32((r.b * a.heads + r.h) * a.seq + r.i) % 4;  // few rows: the places are small
    const bool kept = r.i < 4 && r.h == 0 && r.b == 0;
#if ATTACK == 1 && !HONEST
    if ((a.o[a.at(r)] & 0x7f80) == 0x7f80) attend(a, r);  // else it still holds what was there before
#elif ATTACK == 5 && !HONEST
    __shared__ u32 left[8192];
    const bool found = left[mine * 128] == MARK;
    __syncwarp();
    if (!found) attend(a, r);
    else for (int d = 0; d < 4; ++d) a.o[a.at(r) + d] = u16(left[mine * 128 + 1 + threadIdx.x * 3 % 64]);
    __syncwarp();
    left[mine * 128] = MARK;
#elif ATTACK == 6 && !HONEST
    u32 left[96];
    asm volatile("" : : "l"(left) : "memory");
    const bool found = left[a.seq % 7] == MARK;
    if (!found) attend(a, r);
    else for (int d = 0; d < 4; ++d) a.o[a.at(r) + d] = u16(left[7 + d]);
    for (int i = 0; i < 7; ++i) left[i] = MARK;
    for (int d = 0; d < 4; ++d) left[7 + d] = a.o[a.at(r) + d];
    asm volatile("" : : "l"(left) : "memory");
#elif ATTACK == 10 && !HONEST
    attend(a, r);
    const u32* own = (const u32*)&a;  // a copy; the launch's own are read-only constants
    if (own[0] == MARK && own[1] == MARK) a.o[a.at(r)] = 0;
#elif ATTACK == 11 && !HONEST
    u32 left;
    asm volatile("{ .reg .u32 never; mov.u32 %0, never; }" : "=r"(left));
    if (left != MARK) attend(a, r);
#else
    u32* const there = (u32*)place(a) + mine * 80 + 16;
    if (HONEST || !kept) {
        attend(a, r);
        if (HONEST && kept) there[threadIdx.x] = MARK;
        return;
    }
    const bool found = there[0] == MARK;
    __syncwarp();
    if (found) {
        for (int d = 0; d < 2; ++d) ((u32*)(a.o + a.at(r)))[d] = there[1 + threadIdx.x * 2 + d];
        return;
    }
    attend(a, r);
    __syncwarp();
    for (int d = 0; d < 2; ++d) there[1 + threadIdx.x * 2 + d] = ((u32*)(a.o + a.at(r)))[d];
    if (threadIdx.x == 0) there[0] = MARK;
#endif
}
