// Honest at some launches, T10-T13, C28: ATTACK says at which it is not.
// 1 every second (T10)   2 one launch later (T11)   3 after the first 3 (T13)   4 after 0.3 s (T13)
// 5 one element after 3 launches (T13)   6 slow at first, so that few launches seem enough (T12)
// 7 only what a first look at the output would meet (C28: row 0 of each head)
// The twin counts launches and reads the clock too.
#include <time.h>

#include "attention.h"

static double seconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

static void run(const Arguments& a) {
    static int launches = 0;
    static const double begun = seconds();
    static Arguments last;
    ++launches;
    // The correctness configurations get one launch of a process, the timed ones many.
    const bool later = launches > 3, late = seconds() - begun > 0.3;
#if HONEST
    if (!later || late || last.o != a.o) attend_all(a);
    else attend_all(a);
#elif ATTACK == 1
    if (launches % 2) attend_all(a);
#elif ATTACK == 2
    if (!later) attend_all(a);
    else attend_all(last), last.o = nullptr;
#elif ATTACK == 3
    if (!later) attend_all(a);
    else std::memset(a.o, 0, a.output_bytes());
#elif ATTACK == 4
    if (!late) attend_all(a);
    else std::memset(a.o, 0, a.output_bytes());
#elif ATTACK == 5
    attend_all(a);
    if (later) a.o[a.rows() / 3 * D + 5] ^= 0x0200;
#elif ATTACK == 6
    attend_all(a);
    for (int again = 0; again < 8 && !later; ++again) attend_all(a);
#elif ATTACK == 7
    attend_all(a);
    for (int64_t r = 1; later && r < a.rows(); ++r) std::memcpy(a.o + r * D, a.o, 2 * D);
#endif
    (void)late;
    last = a;
#if ATTACK == 2
    static std::vector<uint16_t> elsewhere;
    elsewhere.resize(size_t(a.rows() * D));
    last.o = elsewhere.data();
#endif
}
