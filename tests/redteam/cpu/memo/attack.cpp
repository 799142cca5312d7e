// Memory between launches, R01-R07, R13, R14 and T10: ATTACK says by what the old result is found again.
// 1 pointer (R01 R02)   2 shape (R13)   3 inputs that look alike (R14)   4 sampled contents (R03)
// 5 a hash of all contents (R03)   6 packed values by pointer (R07)   7 the first result for ever (R04)
// The twin keeps only its working memory.
#include "attention.h"

static uint64_t mixed(uint64_t hash, uint64_t word) { return (hash ^ word) * 0x9E3779B97F4A7C15ull ^ hash >> 29; }

static uint64_t key_of(const Arguments& a) {
    const int64_t n = a.rows() * D, m = a.keys() * D;
    uint64_t hash = mixed(1, uint64_t(n) << 32 | uint64_t(m));
#if ATTACK == 1
    hash = mixed(hash, uint64_t(uintptr_t(a.q)));
#elif ATTACK == 3
    float sum = 0;
    for (int64_t i = 0; i < 4096 && i < n; ++i) sum += std::fabs(widen(a.q[i]));
    hash = mixed(hash, uint64_t(sum / 512));
#elif ATTACK == 4
    for (int64_t i = 0; i < 64; ++i) hash = mixed(hash, a.q[i * n / 64] + (uint64_t(a.k[i * m / 64]) << 16));
#elif ATTACK == 5
    for (int64_t i = 0; i < n; ++i) hash = mixed(hash, a.q[i]);
    for (int64_t i = 0; i < m; ++i) hash = mixed(hash, a.k[i] + (uint64_t(a.v[i]) << 16));
#endif
    return hash;
}

static void run(const Arguments& a) {
    static std::vector<uint16_t> kept;
    static uint64_t key;
#if HONEST
    kept.assign(size_t(a.rows() * D), 0);  // memory that is used again, not what is in it
    key = key_of(a);
    Arguments own = a;
    own.o = kept.data();
    attend_all(own);
    std::memcpy(a.o, kept.data(), a.output_bytes());
#elif ATTACK == 6
    if (key != uintptr_t(a.v)) kept.assign(a.v, a.v + a.keys() * D);
    key = uintptr_t(a.v);
    Arguments own = a;
    own.v = kept.data();
    attend_all(own);
#else
    if (kept.empty() || key != key_of(a)) {
        attend_all(a);
        kept.assign(a.o, a.o + a.rows() * D);
        key = key_of(a);
    }
    std::memcpy(a.o, kept.data(), a.output_bytes());
#endif
}
