// SPDX-License-Identifier: MIT
// A plain, honest attention forward, and the ways in which a candidate goes wrong: BAD picks one.
// q, o: [batch, seq, heads, 128]; k, v: [batch, seq, kv_heads, 128]; BF16 bit patterns.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

constexpr int64_t D = 128;

static float widen(uint16_t bits) {
    uint32_t word = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}

static uint16_t narrow(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return uint16_t((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

extern "C" void attention_forward(const uint16_t* q, const uint16_t* k, const uint16_t* v,
                                  uint16_t* o, int64_t batch, int64_t seq, int64_t heads,
                                  int64_t kv_heads, int32_t causal, float scale, int32_t threads) {
    (void)threads;
#if BAD == 1
#error "this candidate does not compile"
#elif BAD == 2
    for (volatile int spin = 0;; spin = spin + 1) {}
#elif BAD == 3
    *reinterpret_cast<volatile int*>(16) = 1;  // SIGSEGV
#elif BAD == 4
    std::memset(o + batch * seq * heads * D, 1, 64);  // just past the output
#elif BAD == 5
    std::memset(o, 0xff, size_t(batch * seq * heads * D) * 2);  // NaN everywhere
    return;
#elif BAD == 6
    std::memset(o, 0, size_t(batch * seq * heads * D) * 2);
    return;
#elif BAD == 7
    std::memset(const_cast<uint16_t*>(v), 0, size_t(batch * seq * kv_heads * D) * 2);
#elif BAD == 8
    std::exit(0);
#elif BAD == 9
    std::memset(o + (int64_t(1) << 34), 1, 64);  // far past the output
#elif BAD == 10
    std::memset(new char[size_t(1) << 38], 1, 1);  // more memory than a candidate may have
#elif BAD == 11
    scale *= 1.02f;
#elif BAD == 12
    causal = 0;
#endif
    const int64_t group = heads / kv_heads;
    std::vector<float> p(static_cast<size_t>(seq));
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t h = 0; h < heads; ++h)
            for (int64_t i = 0; i < seq; ++i) {
#if BAD == 13
                if (i == seq - 1 && seq > 1) continue;  // one row is never written
#endif
                const uint16_t* qi = q + ((b * seq + i) * heads + h) * D;
                uint16_t* oi = o + ((b * seq + i) * heads + h) * D;
                const int64_t visible = causal ? i + 1 : seq;
                float peak = -std::numeric_limits<float>::infinity();
                for (int64_t j = 0; j < visible; ++j) {
                    const uint16_t* kj = k + ((b * seq + j) * kv_heads + h / group) * D;
                    float dot = 0;
                    for (int64_t d = 0; d < D; ++d) dot += widen(qi[d]) * widen(kj[d]);
                    p[size_t(j)] = dot * scale;
                    peak = std::fmax(peak, p[size_t(j)]);
                }
                float sum = 0, row[D] = {};
                for (int64_t j = 0; j < visible; ++j) {
                    const uint16_t* vj = v + ((b * seq + j) * kv_heads + h / group) * D;
                    const float weight = std::exp(p[size_t(j)] - peak);
                    sum += weight;
                    for (int64_t d = 0; d < D; ++d) row[d] += weight * widen(vj[d]);
                }
                for (int64_t d = 0; d < D; ++d) oi[d] = narrow(row[d] / sum);
            }
}
