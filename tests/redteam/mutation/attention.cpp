// SPDX-License-Identifier: MIT
// The correct kernel that mutants.toml changes in one place each: tiled online softmax, several threads.
// It has what attention kernels go wrong in: tails, masks, rescaling, head groups, packing, barriers.
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

constexpr int64_t D = 128;
constexpr int64_t QUERIES = 32, KEYS = 48;  // of a tile

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

struct Head {
    const uint16_t *q, *k, *v;
    uint16_t* o;
    int64_t seq, q_stride, kv_stride;
    int32_t causal;
    float scale;
};

struct Tile {
    float q[QUERIES * D], k[KEYS * D], v[KEYS * D], p[QUERIES * KEYS], o[QUERIES * D];
    float peak[QUERIES], total[QUERIES];
};

static void load(float* to, const uint16_t* from, int64_t rows, int64_t most, int64_t stride) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t d = 0; d < D; ++d) to[i * D + d] = widen(from[i * stride + d]);
    for (int64_t i = rows; i < most; ++i)
        for (int64_t d = 0; d < D; ++d) to[i * D + d] = 0;
}

static void scores(const Head& head, Tile& t, int64_t first, int64_t key, int64_t rows, int64_t keys) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < KEYS; ++j) {
            float dot = 0;
            for (int64_t d = 0; d < D; ++d) dot += t.q[i * D + d] * t.k[j * D + d];
            const bool hidden = j >= keys || (head.causal && key + j > first + i);
            t.p[i * KEYS + j] = hidden ? -INFINITY : dot * head.scale;
        }
}

static void softmax(Tile& t, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i) {
        float* const p = t.p + i * KEYS;
        float highest = t.peak[i];
        for (int64_t j = 0; j < KEYS; ++j) highest = std::fmax(highest, p[j]);
        const float base = highest == -INFINITY ? 0 : highest;
        const float shrink = std::exp(t.peak[i] - base);
        float sum = 0;
        for (int64_t j = 0; j < KEYS; ++j) {
            p[j] = std::exp(p[j] - base);
            sum += p[j];
        }
        t.total[i] = t.total[i] * shrink + sum;
        for (int64_t d = 0; d < D; ++d) t.o[i * D + d] *= shrink;
        t.peak[i] = highest;
    }
}

static void weigh(Tile& t, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < KEYS; ++j) {
            const float weight = t.p[i * KEYS + j];
            for (int64_t d = 0; d < D; ++d) t.o[i * D + d] += weight * t.v[j * D + d];
        }
}

static void tile(const Head& head, Tile& t, int64_t first) {
    const int64_t rows = head.seq - first < QUERIES ? head.seq - first : QUERIES;
    const int64_t end = head.causal ? first + rows : head.seq;
    load(t.q, head.q + first * head.q_stride, rows, QUERIES, head.q_stride);
    for (int64_t i = 0; i < QUERIES; ++i) t.peak[i] = -INFINITY, t.total[i] = 0;
    std::memset(t.o, 0, sizeof t.o);
    for (int64_t key = 0; key < end; key += KEYS) {
        const int64_t keys = head.seq - key < KEYS ? head.seq - key : KEYS;
        load(t.k, head.k + key * head.kv_stride, keys, KEYS, head.kv_stride);
        load(t.v, head.v + key * head.kv_stride, keys, KEYS, head.kv_stride);
        scores(head, t, first, key, rows, keys);
        softmax(t, rows);
        weigh(t, rows);
    }
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t d = 0; d < D; ++d)
            head.o[(first + i) * head.q_stride + d] = narrow(t.o[i * D + d] / t.total[i]);
}

extern "C" void attention_forward(const uint16_t* q, const uint16_t* k, const uint16_t* v, uint16_t* o,
                                  int64_t batch, int64_t seq, int64_t heads, int64_t kv_heads,
                                  int32_t causal, float scale, int32_t threads) {
    const int64_t group = heads / kv_heads, pieces = batch * heads;
    std::atomic<int64_t> next{0};
    auto work = [&] {
        std::vector<Tile> room(1);
        for (int64_t piece = next++; piece < pieces; piece = next++) {
            const int64_t b = piece / heads, h = piece % heads;
            const int64_t query = (b * seq * heads + h) * D, key = (b * seq * kv_heads + h / group) * D;
            const Head head = {q + query, k + key, v + key, o + query, seq, heads * D, kv_heads * D, causal, scale};
            for (int64_t first = 0; first < seq; first += QUERIES) tile(head, room[0], first);
        }
    };
    std::vector<std::thread> team;
    for (int32_t i = 0; i < threads; ++i) team.emplace_back(work);
    for (auto& one : team) one.join();
}
