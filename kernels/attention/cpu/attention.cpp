// SPDX-License-Identifier: MIT
// Rung 2, vector: the loops of rung 1 in a form that the compiler vectorises.

#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

// Set by the loader: threads with cores of their own (docs/kernel-toml.md).
extern "C" {
__attribute__((visibility("default"))) void (*avo_parallel)(void (*work)(void*, int32_t), void* context,
                                                            int32_t count) = nullptr;
}

namespace {

constexpr int64_t D = 128;

float widen(uint16_t bits) {
    const uint32_t word = uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}

uint16_t narrow(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    if (value != value) return static_cast<uint16_t>(word >> 16 | 0x40);
    return static_cast<uint16_t>((word + 0x7FFF + (word >> 16 & 1)) >> 16);
}

// 2^x for x <= 0 by a cubic and the exponent field: loops over it vectorise, loops over std::exp2 do not.
inline float exp2_cubic(float x) {
    const float clamped = x > -127.0f ? x : -127.0f;
    const float shifted = clamped + 12582912.0f;  // 1.5 * 2^23: rounds to an integer, in the low bits
    const float f = clamped - (shifted - 12582912.0f);
    const float p = ((0.0550090596f * f + 0.2422109693f) * f + 0.6932829022f) * f + 1.0f;
    uint32_t bits, exponent;
    std::memcpy(&bits, &p, 4);
    std::memcpy(&exponent, &shifted, 4);
    bits += exponent << 23;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// Sixteen partial sums: the order of additions is then the program's, not the compiler's to keep.
float dot(const float* a, const uint16_t* b) {
    constexpr int LANES = 16;
    float sums[LANES] = {};
    for (int64_t d = 0; d < D; d += LANES) {
        for (int lane = 0; lane < LANES; ++lane) sums[lane] += a[d + lane] * widen(b[d + lane]);
    }
    float total = 0;
    for (float sum : sums) total += sum;
    return total;
}

}  // namespace

extern "C" void attention_forward(const uint16_t* q, const uint16_t* k, const uint16_t* v,
                                  uint16_t* o, int64_t batch, int64_t seq, int64_t heads,
                                  int64_t kv_heads, int32_t causal, float scale_log2e,
                                  int32_t threads) {
    auto rows = [=](int32_t thread) {
        std::vector<float> p(seq);
        for (int64_t row = thread; row < batch * seq * heads; row += threads) {
            const int64_t h = row / seq % heads, i = row % seq, b = row / (seq * heads);
            const int64_t at = ((b * seq + i) * heads + h) * D, stride = kv_heads * D;
            const int64_t kv = (b * seq * kv_heads + h / (heads / kv_heads)) * D;
            const int64_t visible = causal ? i + 1 : seq;
            float query[D], total[D] = {}, sum = 0;
            for (int64_t d = 0; d < D; ++d) query[d] = widen(q[at + d]) * scale_log2e;
            float top = -std::numeric_limits<float>::infinity();
            for (int64_t j = 0; j < visible; ++j) {
                p[j] = dot(query, k + kv + j * stride);
                top = p[j] > top ? p[j] : top;
            }
            for (int64_t j = 0; j < visible; ++j) p[j] = exp2_cubic(p[j] - top);
            for (int64_t j = 0; j < visible; ++j) {
                sum += p[j];
                for (int64_t d = 0; d < D; ++d) total[d] += p[j] * widen(v[kv + j * stride + d]);
            }
            for (int64_t d = 0; d < D; ++d) o[at + d] = narrow(total[d] / sum);
        }
    };
    if (avo_parallel) {
        using Rows = decltype(rows);
        avo_parallel([](void* all, int32_t thread) { (*static_cast<const Rows*>(all))(thread); }, &rows,
                     threads);
        return;
    }
    std::vector<std::thread> others;
    for (int32_t t = 1; t < threads; ++t) others.emplace_back(rows, t);
    rows(0);
    for (std::thread& other : others) other.join();
}
