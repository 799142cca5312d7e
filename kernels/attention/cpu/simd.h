// SPDX-License-Identifier: MIT
//
// One vector type for every machine. Plain arithmetic, loads and transposes use the vector
// extensions of GCC (12 on) and clang, so the same source is right on AVX-512, AVX2 and, four lanes
// wide, anywhere else; intrinsics appear where the extensions cannot name an instruction, or where
// GCC 12 makes slow code of them.
//
// A "word" is 32 bits: one float, or two consecutive BF16 numbers with the first in the low half.
// Words are moved as floats; moving never changes bits.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of its own header's deliberately undefined values once they are inlined.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define SIMD_AVX512 1
#else
#define SIMD_AVX512 0
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))

#if SIMD_AVX512
constexpr int LANES = 16;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t IntVec __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t UintVec __attribute__((vector_size(4 * LANES), may_alias));
typedef uint16_t HalfVec __attribute__((vector_size(2 * LANES), may_alias));

template <class V>
ALWAYS_INLINE V load(const void* from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class V>
ALWAYS_INLINE void store(void* to, V value) {
    std::memcpy(to, &value, sizeof value);
}

// Minus zero changes no number, so compilers see a broadcast; they must keep an addition of zero.
ALWAYS_INLINE Vec broadcast(float value) { return value - Vec{}; }

// Where a lane is NaN the result is `b`'s lane, as with x86's max: NaN scores stay NaN below.
ALWAYS_INLINE Vec maximum(Vec a, Vec b) {
#if SIMD_AVX512
    return _mm512_max_ps(a, b);
#elif defined(__AVX2__) && defined(__FMA__)
    return _mm256_max_ps(a, b);
#else
    return a > b ? a : b;
#endif
}

template <int HALF, int... LANE>
ALWAYS_INLINE Vec swap_halves(Vec a, std::integer_sequence<int, LANE...>) {
    return __builtin_shufflevector(a, a, (LANE ^ HALF)...);
}

template <int HALF = LANES / 2, class Combine>
ALWAYS_INLINE float across_lanes(Vec a, Combine combine) {
    if constexpr (HALF == 0) {
        return a[0];
    } else {
        const Vec other = swap_halves<HALF>(a, std::make_integer_sequence<int, LANES>());
        return across_lanes<HALF / 2>(combine(a, other), combine);
    }
}

// a / b, correctly rounded, where one `inverse` = 1 / b serves many a: a division takes the time of
// ten multiplications on some cores. A NaN remainder (infinite a) leaves the quotient alone.
ALWAYS_INLINE Vec divide(Vec a, Vec b, Vec inverse) {
#if SIMD_AVX512
    const __m512 quotient = _mm512_mul_ps(a, inverse);
    const __m512 remainder = _mm512_fnmadd_ps(quotient, b, a);
    const __mmask16 number = _mm512_cmp_ps_mask(remainder, remainder, _CMP_ORD_Q);
    return _mm512_mask3_fmadd_ps(remainder, inverse, quotient, number);
#else
    (void)inverse;
    return a / b;
#endif
}

// 2^x for x <= 0. Cubic minimax for the fraction of x with the constant term fixed at 1, so that
// 2^0 is exact; relative error 1.0e-4 at most, far below a BF16 rounding (2e-3).
// x far below zero, -inf included, gives exactly +0; NaN gives NaN.
ALWAYS_INLINE Vec exp2_cubic(Vec x) {
#if SIMD_AVX512
    const float c1 = 0.6951166391372681f, c2 = 0.22764497995376587f, c3 = 0.07706724107265472f;
    const Vec f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const Vec p = ((c3 * f + c2) * f + c1) * f + 1.0f;
    return _mm512_scalef_ps(p, x);
#else
    const float c1 = 0.6932829022407532f, c2 = 0.2422109693288803f, c3 = 0.055009059607982635f;
    // At x = -127 exactly, f = 0 and p = 1, and taking 127 off the exponent leaves all bits zero.
    const Vec clamped = maximum(broadcast(-127.0f), x);
    const float magic = 12582912.0f;  // 1.5 * 2^23: its addition rounds to an integer, low bits
    const Vec shifted = clamped + magic;
    const Vec f = clamped - (shifted - magic);
    const Vec p = ((c3 * f + c2) * f + c1) * f + 1.0f;
    const Vec result = (Vec)((IntVec)p + (IntVec)((UintVec)shifted << 23));
    return x == x ? result : x;
#endif
}

// Round to nearest even, all cases by integer arithmetic (denormals kept, NaN kept quiet).
ALWAYS_INLINE UintVec bf16_bits(Vec x) {
    const UintVec bits = (UintVec)x;
    const UintVec rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    const UintVec quiet = (bits >> 16) | 0x40u;
    return x == x ? rounded : quiet;
}

ALWAYS_INLINE void store_bf16(uint16_t* to, Vec x) {
#if SIMD_AVX512
    store(to, _mm512_cvtepi32_epi16((__m512i)bf16_bits(x)));
#else
    store(to, __builtin_convertvector(bf16_bits(x), HalfVec));
#endif
}

// Two vectors as BF16, one after another; `total` gains what was stored.
ALWAYS_INLINE void store_bf16_pair(void* to, Vec first, Vec second, Vec& total) {
#if SIMD_AVX512 && defined(__AVX512BF16__)
    const __m512bh pair = _mm512_cvtne2ps_pbh(second, first);
    total = _mm512_dpbf16_ps(total, pair, (__m512bh)(UintVec{} + 0x3F803F80u));
    store(to, pair);
#else
    for (const Vec x : {first, second}) {
        const UintVec bits = bf16_bits(x);
        total += (Vec)(bits << 16);
        store(to, __builtin_convertvector(bits, HalfVec));
        to = static_cast<uint16_t*>(to) + LANES;
    }
#endif
}

ALWAYS_INLINE Vec widen_bf16(const uint16_t* from) {
#if SIMD_AVX512
    return (Vec)((UintVec)_mm512_cvtepu16_epi32(load<__m256i>(from)) << 16);
#else
    return (Vec)(__builtin_convertvector(load<HalfVec>(from), UintVec) << 16);
#endif
}

// Transposes the 2 x 2 arrangement of STEP x STEP blocks, all over a LANES x LANES block.
template <int STEP, int... LANE>
ALWAYS_INLINE void exchange(Vec (&rows)[LANES], std::integer_sequence<int, LANE...>) {
#pragma GCC unroll 16
    for (int row = 0; row < LANES; ++row) {
        if (row & STEP) continue;
        const Vec a = rows[row], b = rows[row + STEP];
        rows[row] = __builtin_shufflevector(a, b, (LANE & STEP ? LANE - STEP + LANES : LANE)...);
        rows[row + STEP] =
            __builtin_shufflevector(a, b, (LANE & STEP ? LANE + LANES : LANE + STEP)...);
    }
}

ALWAYS_INLINE void transpose(Vec (&rows)[LANES]) {
    constexpr auto lanes = std::make_integer_sequence<int, LANES>();
    if constexpr (LANES > 8) exchange<8>(rows, lanes);
    if constexpr (LANES > 4) exchange<4>(rows, lanes);
    exchange<2>(rows, lanes);
    exchange<1>(rows, lanes);
}

// How products are formed: `DEPTH` consecutive terms of a dot product share one word.
struct FloatDot {
    static constexpr int DEPTH = 1;
    static constexpr bool TILES = false;
    static ALWAYS_INLINE Vec add(Vec sum, Vec a, Vec b) { return a * b + sum; }
};

#if SIMD_AVX512 && defined(__AVX512BF16__)
#define SIMD_BF16_DOT 1
struct Bf16Dot {
    static constexpr int DEPTH = 2;
    static constexpr bool TILES = false;
    static ALWAYS_INLINE Vec add(Vec sum, Vec a, Vec b) {
        return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
    }
};
#else
#define SIMD_BF16_DOT 0
#endif
