// SPDX-License-Identifier: MIT
// Rung 4, register-tiled: both products on tiles of 8 queries by 32 columns whose sums stay in registers,
// from panels of the packed keys and values.
// All scores of the 8 queries are in memory between the products.

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

// One KV head in FP32, in panels of 32 columns that a tile reads from end to end: of K [128][32 keys],
// of V [padded][32 of 128]. Zeros past the end.
struct Packed {
    int64_t padded;
    std::vector<float> k, v;

    Packed(const uint16_t* from_k, const uint16_t* from_v, int64_t seq, int64_t stride)
        : padded((seq + 31) / 32 * 32), k(D * padded), v(D * padded) {
        for (int64_t j = 0; j < seq; ++j) {
            for (int64_t d = 0; d < D; ++d) {
                k[(j / 32 * D + d) * 32 + j % 32] = widen(from_k[j * stride + d]);
                v[(d / 32 * padded + j) * 32 + d % 32] = widen(from_v[j * stride + d]);
            }
        }
    }
};

constexpr int ROWS = 8, COLUMNS = 32;
typedef float Half __attribute__((vector_size(4 * COLUMNS / 2)));

// c[ROWS][COLUMNS] = a[ROWS][steps] b[steps][COLUMNS], b a panel.
void multiply(float* c, int64_t c_stride, const float* a, int64_t a_stride, const float* b,
              int64_t steps) {
    Half sums[ROWS][2] = {};
    for (int64_t step = 0; step < steps; ++step) {
        Half left_half, right_half;
        std::memcpy(&left_half, b + step * COLUMNS, sizeof left_half);
        std::memcpy(&right_half, b + step * COLUMNS + COLUMNS / 2, sizeof right_half);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i) {
            const Half factor = a[i * a_stride + step] - Half{};
            sums[i][0] += factor * left_half;
            sums[i][1] += factor * right_half;
        }
    }
    for (int i = 0; i < ROWS; ++i) std::memcpy(c + i * c_stride, sums[i], sizeof sums[i]);
}

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
            const int64_t width = packed.padded, tiles = (seq + ROWS - 1) / ROWS;
            std::vector<float> p(ROWS * width), query(ROWS * D), total(ROWS * D);
            for (int64_t unit = thread; unit < group * tiles; unit += threads) {
                const int64_t first = unit / group * ROWS;
                const int64_t h = head % kv_heads * group + unit % group;
                const int64_t end = first + ROWS < seq ? first + ROWS : seq;
                const int64_t limit = causal ? end : seq;
                auto at = [=](int64_t i) { return ((b * seq + i) * heads + h) * D; };
                for (int64_t i = first; i < end; ++i) {
                    for (int64_t d = 0; d < D; ++d) {
                        query[(i - first) * D + d] = widen(q[at(i) + d]) * scale_log2e;
                    }
                }
                for (int64_t j = 0; j < limit; j += COLUMNS) {
                    multiply(&p[j], width, query.data(), D, &packed.k[j * D], D);
                }
                float sums[ROWS];
                for (int64_t i = first; i < first + ROWS; ++i) {
                    float* row = &p[(i - first) * width];
                    const int64_t visible = causal && i < seq ? i + 1 : limit;
                    float top = -std::numeric_limits<float>::infinity(), sum = 0;
                    for (int64_t j = 0; j < visible; ++j) top = row[j] > top ? row[j] : top;
                    for (int64_t j = 0; j < visible; ++j) row[j] = exp2_cubic(row[j] - top);
                    for (int64_t j = 0; j < visible; ++j) sum += row[j];
                    for (int64_t j = visible; j < limit; ++j) row[j] = 0;
                    sums[i - first] = sum;
                }
                for (int64_t d = 0; d < D; d += COLUMNS) {
                    multiply(&total[d], D, p.data(), width, &packed.v[d * width], limit);
                }
                for (int64_t i = first; i < end; ++i) {
                    const float* row = &total[(i - first) * D];
                    for (int64_t d = 0; d < D; ++d) o[at(i) + d] = narrow(row[d] / sums[i - first]);
                }
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
