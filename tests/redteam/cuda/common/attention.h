// SPDX-License-Identifier: MIT
// What the CUDA cases share: an honest attention forward, one warp a row, four dimensions a lane.
// q, o: [batch, seq, heads, 128]; k, v: [batch, seq, kv_heads, 128]; BF16 bit patterns.
// A case defines run(), which every warp calls.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct Row {
    int i, h, b;
};

struct Arguments {
    u16 *q, *k, *v, *o;
    u8 *scratch, *zeroed, *kept;
    int batch, seq, heads, kv_heads, causal;
    float scale;

    __device__ Row row() const { return {int(blockIdx.x), int(blockIdx.y), int(blockIdx.z)}; }
    __device__ i64 at(Row r) const { return ((i64(r.b) * seq + r.i) * heads + r.h) * 128 + threadIdx.x * 4; }
    __device__ i64 elements() const { return i64(batch) * seq * heads * 128; }
    __device__ bool first() const { return blockIdx.x + blockIdx.y + blockIdx.z + threadIdx.x == 0; }
    __device__ bool timed() const { return seq == 1024; }  // no checked configuration is as long
};

__device__ void run(const Arguments& a);

// Once a configuration: fills the restored workspace with what a schedule table might hold.
extern "C" __global__ void prepare(u8* kept, int seq) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < 16384; i += gridDim.x * blockDim.x)
        ((u32*)kept)[i] = u32(i) % u32(seq);
}

extern "C" __global__ void attention_forward(u16* q, u16* k, u16* v, u16* o, u8* scratch, u8* zeroed, u8* kept,
                                             int batch, int seq, int heads, int kv_heads, int causal, float scale) {
    run({q, k, v, o, scratch, zeroed, kept, batch, seq, heads, kv_heads, causal, scale});
}

__device__ __forceinline__ float widen(u16 bits) { return __uint_as_float(u32(bits) << 16); }

__device__ __forceinline__ u16 narrow(float value) {
    const u32 word = __float_as_uint(value);
    return u16((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

__device__ __forceinline__ float rounded(float x, int bits) {  // to so many mantissa bits
    const u32 half = 1u << (22 - bits);
    return __uint_as_float((__float_as_uint(x) + half) & ~(2 * half - 1));
}

__device__ __forceinline__ u64 nanoseconds() {
    u64 now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    return now;
}

// Places where a numerical trick may hook in; the honest kernel uses these defaults.
struct Exact {
    static __device__ int first_key(int) { return 0; }
    static __device__ float score(float x) { return x; }
    static __device__ float weight(float x) { return expf(x); }  // x <= 0
    static __device__ float kept(float p) { return p; }
    static __device__ float sum(float x) { return x; }
    static __device__ float shrink(float x) { return expf(x); }
};

template <class How = Exact> __device__ void attend(const Arguments& a, Row r) {
    const i64 at = a.at(r), group = a.heads / a.kv_heads;
    const i64 base = (i64(r.b) * a.seq * a.kv_heads + r.h / group) * 128 + threadIdx.x * 4;
    float query[4], row[4] = {}, peak = -3e38f, total = 0;
    for (int d = 0; d < 4; ++d) query[d] = widen(a.q[at + d]);
    for (int j = How::first_key(r.i); j < (a.causal ? r.i + 1 : a.seq); ++j) {
        const i64 from = base + i64(j) * a.kv_heads * 128;
        float dot = 0;
        for (int d = 0; d < 4; ++d) dot += query[d] * widen(a.k[from + d]);
        for (int step = 16; step; step >>= 1) dot += __shfl_xor_sync(~0u, dot, step);
        const float score = How::score(dot * a.scale), higher = fmaxf(peak, score);
        const float shrink = How::shrink(peak - higher), weight = How::weight(score - higher);
        total = total * shrink + weight;
        for (int d = 0; d < 4; ++d) row[d] = How::sum(row[d] * shrink + How::kept(weight) * widen(a.v[from + d]));
        peak = higher;
    }
    for (int d = 0; d < 4; ++d) a.o[at + d] = narrow(row[d] / total);
}
