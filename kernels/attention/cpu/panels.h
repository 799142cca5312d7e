// SPDX-License-Identifier: MIT
//
// Packing of one KV head, done once per launch and shared by all query heads of its group.
//
// K panel p: keys p*NR .. p*NR+NR-1; word [step][key] holds head dimensions step*DEPTH .. of key.
// V panel c: columns c*NR .. c*NR+NR-1; word [step][column] holds keys step*DEPTH .. of column.
// Both are what `multiply` in tile.h streams: NR words per step, one after another. Keys past the
// end are zeros, so that the last panel needs no special case (0 * 0 adds nothing).
#pragma once

#include "simd.h"

constexpr int HEAD_DIMENSION = 128;

template <class Dot, int NR>
struct Panels {
    static constexpr int K_STEPS = HEAD_DIMENSION / Dot::DEPTH;
    static constexpr int V_PANELS = HEAD_DIMENSION / NR;
    static_assert(HEAD_DIMENSION % NR == 0 && NR % LANES == 0 && NR % Dot::DEPTH == 0);

    int64_t seq, padded;  // padded: seq rounded up to whole panels
    float *keys, *values;

    static int64_t padded_length(int64_t seq) { return (seq + NR - 1) / NR * NR; }
    static int64_t words(int64_t seq) { return 2 * padded_length(seq) * K_STEPS; }

    Panels(int64_t seq_, float* memory)
        : seq(seq_), padded(padded_length(seq_)), keys(memory), values(memory + padded * K_STEPS) {}

    const float* key_panel(int64_t first_key) const { return keys + first_key * K_STEPS; }
    const float* value_panel(int panel, int64_t first_key) const {
        return values + (panel * padded + first_key) * NR / Dot::DEPTH;
    }

    // Packs keys first .. first+NR-1 of K and V; `stride` is the distance between keys.
    void pack(const uint16_t* k, const uint16_t* v, int64_t stride, int64_t first) const {
        static const uint16_t nothing[HEAD_DIMENSION] = {};
        const uint16_t *k_rows[NR], *v_rows[NR];
        for (int i = 0; i < NR; ++i) {
            const bool inside = first + i < seq;
            k_rows[i] = inside ? k + (first + i) * stride : nothing;
            v_rows[i] = inside ? v + (first + i) * stride : nothing;
            if (first + i + NR >= seq) continue;
            for (int j = 0; j < HEAD_DIMENSION; j += 32) {
                __builtin_prefetch(k + (first + i + NR) * stride + j);
                __builtin_prefetch(v + (first + i + NR) * stride + j);
            }
        }
        pack_keys(k_rows, keys + first * K_STEPS);
        for (int i = 0; i < NR; i += Dot::DEPTH) pack_values(v_rows + i, first + i);
    }

  private:
    static void pack_keys(const uint16_t* const* rows, float* panel) {
        for (int step = 0; step < K_STEPS; step += LANES) {
            for (int group = 0; group < NR; group += LANES) {
                Vec block[LANES];
#pragma GCC unroll 16
                for (int i = 0; i < LANES; ++i) {
                    const uint16_t* from = rows[group + i] + step * Dot::DEPTH;
                    block[i] = Dot::DEPTH == 2 ? load<Vec>(from) : widen_bf16(from);
                }
                transpose(block);
#pragma GCC unroll 16
                for (int i = 0; i < LANES; ++i) store(panel + (step + i) * NR + group, block[i]);
            }
        }
    }

    void pack_values(const uint16_t* const* rows, int64_t key) const {
        for (int column = 0; column < HEAD_DIMENSION; column += LANES) {
            UintVec word = (UintVec)widen_bf16(rows[0] + column);
            if constexpr (Dot::DEPTH == 2) {
                word = (word >> 16) | (UintVec)widen_bf16(rows[1] + column);
            }
            float* panel = const_cast<float*>(value_panel(column / NR, key));
            store(panel + column % NR, word);
        }
    }
};
