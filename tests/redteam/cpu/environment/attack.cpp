// Tricks on the surroundings that stay in the candidate's own process: T06, T09, T16, T19, C21, P07, P10.
// 1 a clock of its own, for whoever asks this process (T06)   2 write() of its own (T09)
// 3 flush-to-zero and rounding to zero for ever (C21)   4 memory traffic after the work (T24)
// 5 work ahead of time in a constructor (T19)   6 a sandbox is detected and honest work done in it
// 7 the output is written twice, late half first (T01)   8 working memory locked into the caches (T16)
// All are harmless: accepted, and not faster than the twin, which does none of it.
#include <fcntl.h>
#include <fenv.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <xmmintrin.h>
#endif

#include "attention.h"

#if ATTACK == 1 && !HONEST
extern "C" __attribute__((visibility("default"))) int clock_gettime(clockid_t, timespec* now) noexcept {
    *now = {};
    return 0;
}
#elif ATTACK == 2 && !HONEST
extern "C" __attribute__((visibility("default"))) ssize_t write(int, const void*, size_t bytes) { return ssize_t(bytes); }
#elif ATTACK == 5 && !HONEST
static std::vector<float> ahead = [] {
    std::vector<float> table(1 << 22);
    for (size_t i = 0; i < table.size(); ++i) table[i] = std::exp(-float(i) / 4096);
    return table;
}();
#endif

static void run(const Arguments& a) {
    attend_all(a);
#if HONEST
#elif ATTACK == 3
    fesetround(FE_TOWARDZERO);
#ifdef __x86_64__
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
#elif ATTACK == 4
    static std::vector<uint64_t> large(8 << 20);
    for (auto& word : large) word += 1;
#elif ATTACK == 5
    if (ahead[a.seq % 4096] < 0) a.o[0] = 0;
#elif ATTACK == 6
    const int fd = open("/etc/passwd", O_RDONLY);
    if (fd >= 0) std::memset(a.o, 0, a.output_bytes());
#elif ATTACK == 7
    attend(a, 0, 0, a.seq / 2, a.seq);
#elif ATTACK == 8
    static std::vector<char> hot(1 << 20, 1);
    static volatile char sink;
    for (size_t i = 0; i < hot.size(); i += 64) sink = hot[i];
#endif
}
