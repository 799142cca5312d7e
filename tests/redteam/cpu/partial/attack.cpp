// Less than the whole output, or another one: C07, C08, C10, C17-C20. ATTACK picks what is written.
// 1 zeros   2 NaN   3 infinities   4 V itself   5 the mean of V   6 all but the last 64 rows
// 7 all but one row   8 one row is its neighbour's   9 one element   10 two elements swapped
// 11 one row negated (its norm is right)   12 one row with its columns reversed   13 a constant
// 14 the right output in half of the heads, a cheap one in the others   15 rows of norm 1, any direction
// 16 all of it, heads before rows
// From 6 to 15 only in launches of the timed shapes. The twin computes the same rows in another order.
#include "attention.h"

static void run(const Arguments& a) {
    const bool timed = a.seq == 256;
    const int64_t n = a.rows() * D, group = a.heads / a.kv_heads;
    uint16_t* const row = a.o + (a.rows() / 2 + 3) * D;
    (void)timed, (void)n, (void)group, (void)row;
#if HONEST
    for (int64_t b = a.batch; b--;)
        for (int64_t h = a.heads; h--;)
            for (int64_t i = (a.seq - 1) / 64 * 64; i >= 0; i -= 64) attend(a, b, h, i, i + 64 < a.seq ? i + 64 : a.seq);
#elif ATTACK == 1
    std::memset(a.o, 0, a.output_bytes());
#elif ATTACK == 2
    for (int64_t i = 0; i < n; ++i) a.o[i] = 0x7fc0;
#elif ATTACK == 3
    for (int64_t i = 0; i < n; ++i) a.o[i] = 0x7f80;
#elif ATTACK == 4
    for (int64_t r = 0; r < a.rows(); ++r)
        std::memcpy(a.o + r * D, a.v + (r / a.heads * a.kv_heads + r % a.heads / group) * D, 2 * D);
#elif ATTACK == 5
    for (int64_t b = 0; b < a.batch; ++b)
        for (int64_t h = 0; h < a.heads; ++h) {
            float mean[D] = {};
            for (int64_t i = 0; i < a.seq; ++i) {
                const uint16_t* v = a.v + ((b * a.seq + i) * a.kv_heads + h / group) * D;
                for (int64_t d = 0; d < D; ++d) mean[d] += widen(v[d]) / float(a.seq);
            }
            for (int64_t i = 0; i < a.seq; ++i)
                for (int64_t d = 0; d < D; ++d) a.row(b, i, h)[d] = narrow(mean[d]);
        }
#elif ATTACK == 6
    for (int64_t b = 0; b < a.batch; ++b)
        for (int64_t h = 0; h < a.heads; ++h) attend(a, b, h, 0, timed ? a.seq - 64 : a.seq);
#elif ATTACK == 16
    attend_all(a);
    const std::vector<uint16_t> made(a.o, a.o + n);
    for (int64_t b = 0; b < a.batch; ++b)
        for (int64_t i = 0; i < a.seq; ++i)
            for (int64_t h = 0; h < a.heads; ++h)
                std::memcpy(a.o + ((b * a.heads + h) * a.seq + i) * D, &made[size_t(((b * a.seq + i) * a.heads + h) * D)], 2 * D);
#elif ATTACK == 13
    for (int64_t i = 0; i < n; ++i) a.o[i] = narrow(0.02f);
#elif ATTACK == 14
    for (int64_t b = 0; b < a.batch; ++b)
        for (int64_t h = 0; h < a.heads; ++h)
            if (!timed || h % 2 == 0) attend(a, b, h, 0, a.seq);
            else for (int64_t i = 0; i < a.seq; ++i) std::memcpy(a.row(b, i, h), a.row(b, i, h - 1), 2 * D);
#else
    uint16_t before[D];
    std::memcpy(before, row, sizeof before);
    attend_all(a);
    if (!timed) return;
#if ATTACK == 7
    std::memcpy(row, before, sizeof before);
#elif ATTACK == 8
    std::memcpy(row, row - a.heads * D, 2 * D);
#elif ATTACK == 9
    row[17] = narrow(4 * widen(row[17]) + 0.5f);
#elif ATTACK == 10
    row[17] = narrow(0.4f + widen(row[17])), row[18] = narrow(widen(row[18]) - 0.4f);
#elif ATTACK == 11
    for (int64_t d = 0; d < D; ++d) row[d] ^= 0x8000;
#elif ATTACK == 12
    for (int64_t d = 0; d < D; ++d) before[d] = row[D - 1 - d];
    std::memcpy(row, before, sizeof before);
#elif ATTACK == 15
    for (int64_t r = 0; r < a.rows(); ++r)
        for (int64_t d = 0; d < D; ++d) a.o[r * D + d] = narrow(((r ^ d) & 1 ? 1 : -1) * std::sqrt(1.0f / float(D)));
#endif
#endif
}
