// SPDX-License-Identifier: MIT
// A plain, honest attention forward, and the ways in which a candidate goes wrong: BAD picks one.
// q, o: [batch, seq, heads, 128]; k, v: [batch, seq, kv_heads, 128]; BF16 bit patterns.
// One warp a row, four dimensions a lane; grid (seq, heads, batch), 32 threads.

typedef unsigned short u16;
typedef long long i64;

__device__ float widen(u16 bits) { return __uint_as_float(unsigned(bits) << 16); }

__device__ u16 narrow(float value) {
    unsigned word = __float_as_uint(value);
    return u16((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

#if BAD == 8
__device__ float remembered;  // state that would survive a launch
#endif

extern "C" __global__ void attention_forward(u16* q, const u16* k, u16* v, u16* o, int seq,
                                             int heads, int kv_heads, int causal, float scale) {
#if BAD == 1
#error "this candidate does not compile"
#endif
    const int i = blockIdx.x, h = blockIdx.y, lane = threadIdx.x;
    const i64 b = blockIdx.z, base = (b * seq) * kv_heads + h / (heads / kv_heads);
    const i64 at = (((b * seq + i) * heads) + h) * 128 + lane * 4;
    const i64 total = i64(gridDim.z) * seq * heads * 128;
#if BAD == 2
    while (*(volatile u16*)q != 0xdead) {}
#elif BAD == 3
    *(volatile int*)16 = 1;
#elif BAD == 4
    if (i == 0 && h == 0) o[total + lane] = 1;  // just past the output
#elif BAD == 5
    for (int d = 0; d < 4; ++d) o[at + d] = 0xffff;
    return;
#elif BAD == 6
    for (int d = 0; d < 4; ++d) o[at + d] = 0;
    return;
#elif BAD == 7
    for (int d = 0; d < 4; ++d) v[at % (i64(gridDim.z) * seq * kv_heads * 128) + d] = 0;
#elif BAD == 8
    remembered = scale;
#elif BAD == 9
    o[total + (i64(1) << 32)] = 1;  // far past the output
#elif BAD == 11
    scale *= 1.02f;
#elif BAD == 12
    causal = 0;
#elif BAD == 13
    if (i == seq - 1 && seq > 1) return;  // one row is never written
#endif
    float query[4], row[4] = {};
    for (int d = 0; d < 4; ++d) query[d] = widen(q[at + d]);
    float peak = -__int_as_float(0x7f800000), sum = 0;
    const int visible = causal ? i + 1 : seq;
    for (int j = 0; j < visible; ++j) {
        const i64 from = (base + i64(j) * kv_heads) * 128 + lane * 4;
        float dot = 0;
        for (int d = 0; d < 4; ++d) dot += query[d] * widen(k[from + d]);
        for (int step = 16; step; step >>= 1) dot += __shfl_xor_sync(~0u, dot, step);
        const float score = dot * scale, higher = fmaxf(peak, score);
        const float shrink = expf(peak - higher), weight = expf(score - higher);
        sum = sum * shrink + weight;
        for (int d = 0; d < 4; ++d) row[d] = row[d] * shrink + weight * widen(v[from + d]);
        peak = higher;
    }
    for (int d = 0; d < 4; ++d) o[at + d] = narrow(row[d] / sum);
}
