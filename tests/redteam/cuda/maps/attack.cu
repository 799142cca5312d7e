// Tensor maps that leave their tensor: C06, C20, P13. The code is honest and only prefetches them.
#include "attention.h"

struct alignas(64) Map {
    u64 words[16];
};

extern "C" __global__ void mapped_forward(const __grid_constant__ Map map, u16* q, u16* k, u16* v, u16* o, int batch,
                                          int seq, int heads, int kv_heads, int causal, float scale) {
    asm volatile("prefetch.tensormap [%0];" : : "l"(&map) : "memory");
    run({q, k, v, o, nullptr, nullptr, nullptr, batch, seq, heads, kv_heads, causal, scale});
}

__device__ void run(const Arguments& a) { attend(a, a.row()); }
