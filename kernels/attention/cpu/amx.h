// SPDX-License-Identifier: MIT
//
// Intel's tile registers: eight of 16 rows x 64 bytes, and sums += a b on 16 x 32 by 32 x 16 BF16.
//
// With AMX_EMULATED the same operations work on plain arrays, so that every line of the kernel but
// the instructions themselves is tested on machines without them.
#pragma once

#include "simd.h"

#ifndef AMX_EMULATED
#define AMX_EMULATED 0
#endif
#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__linux__)
#define SIMD_AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#else
#define SIMD_AMX AMX_EMULATED
#endif

#if SIMD_AMX

constexpr int TILE = 16;  // rows, and words in a row

#if AMX_EMULATED

inline thread_local float tiles[8][TILE][TILE];
inline thread_local bool tiles_configured = false;

inline bool tiles_allowed() { return true; }
inline void configure_tiles() { tiles_configured = true; }
inline void release_tiles() { tiles_configured = false; }
ALWAYS_INLINE void written() {}

template <int T>
ALWAYS_INLINE void tile_zero() {
    std::memset(tiles[T], 0, sizeof tiles[T]);
}
template <int T>
ALWAYS_INLINE void tile_load(const float* from, int stride) {
    for (int i = 0; i < TILE; ++i) std::memcpy(tiles[T][i], from + i * stride, 4 * TILE);
}
template <int T>
ALWAYS_INLINE void tile_store(float* to, int stride) {
    for (int i = 0; i < TILE; ++i) std::memcpy(to + i * stride, tiles[T][i], 4 * TILE);
}
template <int C, int A, int B>
ALWAYS_INLINE void tile_dot() {
    if (!tiles_configured) __builtin_trap();
    for (int i = 0; i < TILE; ++i) {
        for (int k = 0; k < TILE; ++k) {
            for (int j = 0; j < TILE; ++j) {
                uint16_t a[2], b[2];
                std::memcpy(a, &tiles[A][i][k], 4);
                std::memcpy(b, &tiles[B][k][j], 4);
                for (int half = 0; half < 2; ++half) {
                    const uint32_t wide_a = uint32_t{a[half]} << 16;
                    const uint32_t wide_b = uint32_t{b[half]} << 16;
                    tiles[C][i][j] += load<float>(&wide_a) * load<float>(&wide_b);
                }
            }
        }
    }
}

#else

// Linux grants the 8 KiB of state to a process that asks.
inline bool tiles_allowed() {
    constexpr int request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

// GCC's tile loads do not tell it that they read memory.
ALWAYS_INLINE void written() { asm volatile("" ::: "memory"); }

inline void configure_tiles() {
    struct alignas(64) {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE};
    } shape;
    written();
    _tile_loadconfig(&shape);
}
inline void release_tiles() { _tile_release(); }

// GCC makes the tile's number part of the instruction's text, so it must be a literal.
template <int T>
ALWAYS_INLINE void tile_zero() {
    if constexpr (T == 0) _tile_zero(0);
    if constexpr (T == 1) _tile_zero(1);
    if constexpr (T == 2) _tile_zero(2);
    if constexpr (T == 3) _tile_zero(3);
}
template <int T>
ALWAYS_INLINE void tile_load(const float* from, int stride) {
    if constexpr (T == 0) _tile_loadd(0, from, 4 * stride);
    if constexpr (T == 1) _tile_loadd(1, from, 4 * stride);
    if constexpr (T == 2) _tile_loadd(2, from, 4 * stride);
    if constexpr (T == 3) _tile_loadd(3, from, 4 * stride);
    if constexpr (T == 4) _tile_loadd(4, from, 4 * stride);
    if constexpr (T == 5) _tile_loadd(5, from, 4 * stride);
    if constexpr (T == 6) _tile_loadd(6, from, 4 * stride);
    if constexpr (T == 7) _tile_loadd(7, from, 4 * stride);
}
template <int T>
ALWAYS_INLINE void tile_store(float* to, int stride) {
    if constexpr (T == 0) _tile_stored(0, to, 4 * stride);
    if constexpr (T == 1) _tile_stored(1, to, 4 * stride);
    if constexpr (T == 2) _tile_stored(2, to, 4 * stride);
    if constexpr (T == 3) _tile_stored(3, to, 4 * stride);
}
template <int C, int A, int B>
ALWAYS_INLINE void tile_dot() {
    static_assert(C == 2 * (A - 4) + (B - 6), "the four of multiply");
    if constexpr (C == 0) _tile_dpbf16ps(0, 4, 6);
    if constexpr (C == 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (C == 2) _tile_dpbf16ps(2, 5, 6);
    if constexpr (C == 3) _tile_dpbf16ps(3, 5, 7);
}

#endif

struct AmxDot {
    static constexpr int DEPTH = 2;
    static constexpr bool TILES = true;
    static void open() { configure_tiles(); }
    static void close() { release_tiles(); }

    // c[32][32] (+)= a[32][steps] b[steps][32], in words; steps is a multiple of TILE.
    static ALWAYS_INLINE void multiply(float* c, int c_stride, const float* a, int a_stride,
                                       const float* b, int b_stride, int steps, bool fresh) {
        written();
        if (fresh) {
            tile_zero<0>();
            tile_zero<1>();
            tile_zero<2>();
            tile_zero<3>();
        } else {
            tile_load<0>(c, c_stride);
            tile_load<1>(c + TILE, c_stride);
            tile_load<2>(c + TILE * c_stride, c_stride);
            tile_load<3>(c + TILE * c_stride + TILE, c_stride);
        }
        for (int step = 0; step < steps; step += TILE) {
            tile_load<4>(a + step, a_stride);
            tile_load<6>(b + step * b_stride, b_stride);
            tile_dot<0, 4, 6>();
            tile_load<7>(b + step * b_stride + TILE, b_stride);
            tile_dot<1, 4, 7>();
            tile_load<5>(a + TILE * a_stride + step, a_stride);
            tile_dot<2, 5, 6>();
            tile_dot<3, 5, 7>();
        }
        tile_store<0>(c, c_stride);
        tile_store<1>(c + TILE, c_stride);
        tile_store<2>(c + TILE * c_stride, c_stride);
        tile_store<3>(c + TILE * c_stride + TILE, c_stride);
    }
};

#endif
