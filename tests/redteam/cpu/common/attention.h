// SPDX-License-Identifier: MIT
// What the CPU cases share: an honest attention forward that is short rather than fast.
// q, o: [batch, seq, heads, 128]; k, v: [batch, seq, kv_heads, 128]; BF16 bit patterns.
// A case defines run(); it finds everything of a launch in Arguments.
#pragma once

#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <unistd.h>

constexpr int64_t D = 128;

struct Arguments {
    const uint16_t *q, *k, *v;
    uint16_t* o;
    int64_t batch, seq, heads, kv_heads;
    int32_t causal;
    float scale;
    int32_t threads;

    int64_t rows() const { return batch * seq * heads; }
    int64_t keys() const { return batch * seq * kv_heads; }
    size_t output_bytes() const { return size_t(rows() * D) * 2; }
    uint16_t* row(int64_t b, int64_t i, int64_t h) const { return o + ((b * seq + i) * heads + h) * D; }
};

static void run(const Arguments& a);

extern "C" void attention_forward(const uint16_t* q, const uint16_t* k, const uint16_t* v, uint16_t* o,
                                  int64_t batch, int64_t seq, int64_t heads, int64_t kv_heads,
                                  int32_t causal, float scale, int32_t threads) {
    run({q, k, v, o, batch, seq, heads, kv_heads, causal, scale, threads});
}

inline float widen(uint16_t bits) {
    uint32_t word = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}

inline uint16_t narrow(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    return uint16_t((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

// Places where a numerical trick may hook in; the honest kernel uses these defaults.
struct Exact {
    static int64_t first_key(int64_t) { return 0; }               // of a query
    static float score(float x) { return x; }
    static float peak(float highest, const float*, int64_t) { return highest; }
    static float weight(float x) { return std::exp(x); }          // x <= 0
    static float kept(float p) { return p; }                      // what is multiplied with V
    static float sum(float x) { return x; }                       // of partial sums of P V
};

// Rows [first, last) of query head h in batch b.
template <class How = Exact>
inline void attend(const Arguments& a, int64_t b, int64_t h, int64_t first, int64_t last) {
    const int64_t kv = h / (a.heads / a.kv_heads), stride = a.kv_heads * D;
    const uint16_t *keys = a.k + (b * a.seq * a.kv_heads + kv) * D, *values = a.v + (keys - a.k);
    std::vector<float> k(size_t(a.seq * D)), v(size_t(a.seq * D)), p(static_cast<size_t>(a.seq));
    for (int64_t j = 0; j < a.seq; ++j)
        for (int64_t d = 0; d < D; ++d) {
            k[size_t(j * D + d)] = widen(keys[j * stride + d]);
            v[size_t(j * D + d)] = widen(values[j * stride + d]);
        }
    for (int64_t i = first; i < last; ++i) {
        float q[D], row[D] = {}, highest = -3e38f, total = 0;
        const uint16_t* from = a.q + ((b * a.seq + i) * a.heads + h) * D;
        for (int64_t d = 0; d < D; ++d) q[d] = widen(from[d]);
        const int64_t begin = How::first_key(i), end = a.causal ? i + 1 : a.seq;
        for (int64_t j = begin; j < end; ++j) {
            float dot = 0;
            for (int64_t d = 0; d < D; ++d) dot += q[d] * k[size_t(j * D + d)];
            p[size_t(j)] = How::score(dot * a.scale);
            highest = p[size_t(j)] > highest ? p[size_t(j)] : highest;
        }
        highest = How::peak(highest, &p[size_t(begin)], end - begin);
        for (int64_t j = begin; j < end; ++j) {
            const float weight = How::weight(p[size_t(j)] - highest), kept = How::kept(weight);
            total += weight;
            for (int64_t d = 0; d < D; ++d) row[d] = How::sum(row[d] + kept * v[size_t(j * D + d)]);
        }
        for (int64_t d = 0; d < D; ++d) a.row(b, i, h)[d] = narrow(row[d] / total);
    }
}

template <class How = Exact> inline void attend_all(const Arguments& a) {
    for (int64_t b = 0; b < a.batch; ++b)
        for (int64_t h = 0; h < a.heads; ++h) attend<How>(a, b, h, 0, a.seq);
}

// The loader's channel: the one descriptor above standard error that can be written to.
inline int control() {
    for (int fd = 3; fd < 64; ++fd)
        if (write(fd, "", 0) == 0) return fd;
    return -1;
}

// "Done", whoever has not done it.
inline void answer_by_itself() {
    if (write(control(), "d", 1) != 1) std::abort();
}

// An attempt that the sandbox must refuse. Where it does, the case says so and ends itself; where it
// does not, the case goes on, ends well and so counts as missed.
inline void must_be_refused(const char* what, long result) {
    if (result >= 0) return;
    std::fprintf(stderr, "refused %s: %s\n", what, std::strerror(errno));
    std::abort();
}
