// SPDX-License-Identifier: MIT
// Rung 3, packed: K and V are widened once for each KV head, K transposed, so that a query's scores are
// sums of whole rows. Threads take (KV head, query) pairs; each packs for itself.

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

// One KV head in FP32: K transposed to [128][padded], V as [padded][128], zeros past the end.
struct Packed {
    int64_t padded;
    std::vector<float> k, v;

    Packed(const uint16_t* from_k, const uint16_t* from_v, int64_t seq, int64_t stride)
        : padded((seq + 31) / 32 * 32), k(D * padded), v(D * padded) {
        for (int64_t j = 0; j < seq; ++j) {
            for (int64_t d = 0; d < D; ++d) {
                k[d * padded + j] = widen(from_k[j * stride + d]);
                v[j * D + d] = widen(from_v[j * stride + d]);
            }
        }
    }
};

}  // namespace

extern "C" void attention_forward(const uint16_t* q, const uint16_t* k, const uint16_t* v,
                                  uint16_t* o, int64_t batch, int64_t seq, int64_t heads,
                                  int64_t kv_heads, int32_t causal, float scale_log2e,
                                  int32_t threads) {
    auto rows = [=](int32_t thread) {
        const int64_t group = heads / kv_heads;
        for (int64_t head = 0; head < batch * kv_heads; ++head) {
            const int64_t b = head / kv_heads;
            const int64_t kv = (b * seq * kv_heads + head % kv_heads) * D;
            const Packed packed(k + kv, v + kv, seq, kv_heads * D);
            std::vector<float> p(packed.padded);
            for (int64_t row = thread; row < group * seq; row += threads) {
                const int64_t i = row / group, h = head % kv_heads * group + row % group;
                const int64_t at = ((b * seq + i) * heads + h) * D;
                const int64_t visible = causal ? i + 1 : seq;
                float total[D] = {}, sum = 0;
                for (int64_t j = 0; j < visible; ++j) p[j] = 0;
                for (int64_t d = 0; d < D; ++d) {
                    const float factor = widen(q[at + d]) * scale_log2e;
                    const float* keys = &packed.k[d * packed.padded];
                    for (int64_t j = 0; j < visible; ++j) p[j] += factor * keys[j];
                }
                float top = -std::numeric_limits<float>::infinity();
                for (int64_t j = 0; j < visible; ++j) top = p[j] > top ? p[j] : top;
                for (int64_t j = 0; j < visible; ++j) p[j] = exp2_cubic(p[j] - top);
                for (int64_t j = 0; j < visible; ++j) {
                    sum += p[j];
                    for (int64_t d = 0; d < D; ++d) total[d] += p[j] * packed.v[j * D + d];
                }
                for (int64_t d = 0; d < D; ++d) o[at + d] = narrow(total[d] / sum);
            }
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
