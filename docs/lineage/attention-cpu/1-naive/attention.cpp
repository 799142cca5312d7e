// SPDX-License-Identifier: MIT
// Rung 1, naive: the definition, one query at a time, the queries shared among threads.

#include <cmath>
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

}  // namespace

extern "C" void attention_forward(const uint16_t* q, const uint16_t* k, const uint16_t* v,
                                  uint16_t* o, int64_t batch, int64_t seq, int64_t heads,
                                  int64_t kv_heads, int32_t causal, float scale_log2e,
                                  int32_t threads) {
    auto rows = [=](int32_t thread) {
        std::vector<float> p(seq);
        for (int64_t row = thread; row < batch * seq * heads; row += threads) {
            const int64_t b = row / (seq * heads), i = row / heads % seq, h = row % heads;
            const int64_t kv = (b * seq * kv_heads + h / (heads / kv_heads)) * D;
            const int64_t visible = causal ? i + 1 : seq;
            float top = -std::numeric_limits<float>::infinity(), sum = 0, total[D] = {};
            for (int64_t j = 0; j < visible; ++j) {
                float dot = 0;
                for (int64_t d = 0; d < D; ++d) {
                    dot += widen(q[row * D + d]) * widen(k[kv + j * kv_heads * D + d]);
                }
                p[j] = dot * scale_log2e;
                top = p[j] > top ? p[j] : top;
            }
            for (int64_t j = 0; j < visible; ++j) {
                const float weight = std::exp2(p[j] - top);
                sum += weight;
                for (int64_t d = 0; d < D; ++d) {
                    total[d] += weight * widen(v[kv + j * kv_heads * D + d]);
                }
            }
            for (int64_t d = 0; d < D; ++d) o[row * D + d] = narrow(total[d] / sum);
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
