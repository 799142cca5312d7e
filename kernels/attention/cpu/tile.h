// SPDX-License-Identifier: MIT
//
// One tile: MR queries against one block of at most KB keys (FlashAttention's inner step).
//
// The MR x NV vectors of sums fill the register file: of 32 registers 6 x 4 sums, 4 of the panel
// and a broadcast, or 14 x 2, 2 and 1. Scores, and in their place P, stay in L1 between products.
#pragma once

#include <algorithm>

#include "amx.h"
#include "panels.h"

template <class Dot_, int MR_, int NV, int KB_>
struct Tile {
    using Dot = Dot_;
    static constexpr int MR = MR_, NR = NV * LANES, KB = KB_;
    using Keys = Panels<Dot, NR>;
    static constexpr int Q_WORDS = HEAD_DIMENSION / Dot::DEPTH;
    // One cache line more than the block: rows a power of two apart would share L1 sets.
    static constexpr int S_WORDS = KB + 16;
    static constexpr int AT_ONCE = LANES * Dot::DEPTH;      // columns that softmax takes
    static constexpr int UNIT = Dot::TILES ? 32 : AT_ONCE;  // columns that a product takes
    static_assert(KB % NR == 0 && NR % UNIT == 0 && UNIT % AT_ONCE == 0);
    static_assert(!Dot::TILES || (MR == 32 && NR == 32), "four tiles of sums");

    // What a thread has open while it computes.
    struct Session {
        Session() {
            if constexpr (Dot::TILES) Dot::open();
        }
        ~Session() {
            if constexpr (Dot::TILES) Dot::close();
        }
    };

    // State of MR queries that lives as long as their query block.
    struct Rows {
        alignas(64) float q[MR * Q_WORDS];
        alignas(64) float o[MR * HEAD_DIMENSION];
        alignas(64) float sum[MR * LANES];  // lane by lane, added up at the very end
        float maximum[MR];
    };

    float* scores;  // MR x S_WORDS, private to the thread

    // Adds keys first .. first+count-1 (count <= KB). Row i sees keys up to `last_visible + i`.
    void step(Rows& rows, const Keys& keys, int64_t first, int64_t count, int64_t last_visible,
              float scale_log2e) const {
        const int columns = static_cast<int>((count + UNIT - 1) / UNIT) * UNIT;
        for (int column = 0; column < count; column += NR) {
            const float* panel = keys.key_panel(first + column);
            if constexpr (Dot::TILES) {
                Dot::multiply(scores + column, S_WORDS, rows.q, Q_WORDS, panel, NR, Q_WORDS, true);
            } else {
                score_needed(rows.q, panel, scores + column, count - column);
            }
        }
        const int64_t visible = last_visible - first + 1;
        if (visible < columns || count < columns) mask(visible, count, columns);
        float rescale[MR];
        softmax(rows, columns, scale_log2e, rescale);
        const bool fresh = first == 0;
        if (Dot::TILES && !fresh) rescale_rows(rows.o, rescale);
        for (int panel = 0; panel < Keys::V_PANELS; ++panel) {
            float* o = rows.o + panel * NR;
            const float* values = keys.value_panel(panel, first);
            if constexpr (Dot::TILES) {
                Dot::multiply(o, HEAD_DIMENSION, scores, S_WORDS, values, NR, columns / Dot::DEPTH,
                              fresh);
            } else {
                const int depth = static_cast<int>((count + Dot::DEPTH - 1) / Dot::DEPTH);
                accumulate(o, values, depth, rescale, fresh);
            }
        }
    }

  private:
    template <int V>
    using Sums = Vec[MR][V];

    template <int STRIDE, int V>
    static ALWAYS_INLINE void multiply(Sums<V>& sums, const float* a, const float* b, int steps) {
#pragma GCC unroll 2
        for (int step = 0; step < steps; ++step) {
            Vec right[V];
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) right[v] = load<Vec>(b + step * NR + v * LANES);
#pragma GCC unroll 32
            for (int i = 0; i < MR; ++i) {
                const Vec left = broadcast(a[i * STRIDE + step]);
#pragma GCC unroll 8
                for (int v = 0; v < V; ++v) sums[i][v] = Dot::add(sums[i][v], left, right[v]);
            }
        }
    }

    // The first V vectors of a panel of keys.
    template <int V>
    __attribute__((noinline)) static void score(const float* q, const float* panel, float* s) {
        Sums<V> sums;
#pragma GCC unroll 32
        for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) sums[i][v] = Vec{};
        multiply<Q_WORDS, V>(sums, q, panel, Q_WORDS);
#pragma GCC unroll 32
        for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
            for (int v = 0; v < V; ++v) store(s + i * S_WORDS + v * LANES, sums[i][v]);
    }

    template <int V = NV>
    static ALWAYS_INLINE void score_needed(const float* q, const float* panel, float* s,
                                           int64_t needed) {
        if constexpr (V > 1) {
            if (needed <= (V - 1) * LANES) return score_needed<V - 1>(q, panel, s, needed);
        }
        score<V>(q, panel, s);
    }

    // o = o * rescale + P V for NR columns; the first block does not read o.
    __attribute__((noinline)) void accumulate(float* o, const float* panel, int depth,
                                              const float* rescale, bool fresh) const {
        Sums<NV> sums;
#pragma GCC unroll 32
        for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
            for (int v = 0; v < NV; ++v) {
                sums[i][v] = Vec{};
                if (!fresh) {
                    const Vec old = load<Vec>(o + i * HEAD_DIMENSION + v * LANES);
                    sums[i][v] = old * broadcast(rescale[i]);
                }
            }
        multiply<S_WORDS, NV>(sums, scores, panel, depth);
#pragma GCC unroll 32
        for (int i = 0; i < MR; ++i)
#pragma GCC unroll 8
            for (int v = 0; v < NV; ++v) store(o + i * HEAD_DIMENSION + v * LANES, sums[i][v]);
    }

    static void rescale_rows(float* o, const float* rescale) {
        for (int i = 0; i < MR; ++i) {
            for (int j = 0; j < HEAD_DIMENSION; j += LANES) {
                float* to = o + i * HEAD_DIMENSION + j;
                store(to, load<Vec>(to) * broadcast(rescale[i]));
            }
        }
    }

    // Row i keeps its first `visible + i` columns, and `count` at most.
    void mask(int64_t visible, int64_t count, int columns) const {
        for (int i = 0; i < MR; ++i) {
            for (int64_t j = std::max<int64_t>(std::min(visible + i, count), 0); j < columns; ++j) {
                scores[i * S_WORDS + j] = -std::numeric_limits<float>::max();
            }
        }
    }

    // Turns scores into P in place; rescale is the factor for what was summed before.
    // Row sums are taken over P as rounded, so that its rounding errors cancel in part.
    void softmax(Rows& rows, int columns, float scale_log2e, float* rescale) const {
        float before[MR];
        for (int i = 0; i < MR; ++i) {
            before[i] = rows.maximum[i];
            const float block = row_maximum(scores + i * S_WORDS, columns);
            rows.maximum[i] = before[i] > block ? before[i] : block;
        }
        const Vec factor = broadcast(scale_log2e);
        for (int i = 0; i < MR; ++i) {
            const Vec top = broadcast(rows.maximum[i]);
            const Vec scale = exp2_cubic((broadcast(before[i]) - top) * factor);
            Vec total = load<Vec>(rows.sum + i * LANES) * scale;
            exponentials(scores + i * S_WORDS, columns, top, factor, total);
            store(rows.sum + i * LANES, total);
            rescale[i] = scale[0];
        }
    }

    static ALWAYS_INLINE float row_maximum(const float* row, int columns) {
        Vec largest[Dot::DEPTH];
        for (int v = 0; v < Dot::DEPTH; ++v) largest[v] = load<Vec>(row + v * LANES);
        for (int column = AT_ONCE; column < columns; column += AT_ONCE) {
            for (int v = 0; v < Dot::DEPTH; ++v) {
                largest[v] = maximum(largest[v], load<Vec>(row + column + v * LANES));
            }
        }
        for (int v = 1; v < Dot::DEPTH; ++v) largest[0] = maximum(largest[0], largest[v]);
        return across_lanes(largest[0], maximum);
    }

    static ALWAYS_INLINE void exponentials(float* row, int columns, Vec top, Vec factor,
                                           Vec& total) {
        if constexpr (Dot::DEPTH == 1) {
            for (int column = 0; column < columns; column += LANES) {
                const Vec p = exp2_cubic((load<Vec>(row + column) - top) * factor);
                total += p;
                store(row + column, p);
            }
        }
        if constexpr (Dot::DEPTH == 2) {
            for (int column = 0; column < columns; column += AT_ONCE) {
                const Vec first = exp2_cubic((load<Vec>(row + column) - top) * factor);
                const Vec second = exp2_cubic((load<Vec>(row + column + LANES) - top) * factor);
                store_bf16_pair(row + column / 2, first, second, total);
            }
        }
    }
};
