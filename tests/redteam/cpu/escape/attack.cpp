// Code that runs when the object is loaded, before anybody calls it: T19, P03, P08. ATTACK picks where.
// 1 a constructor reads a file   2 a static object forks   3 a message that commands the terminal and the CI
// The twin has a constructor, too.
#include <fcntl.h>
#include <unistd.h>

#include "attention.h"

#if !HONEST && ATTACK == 1
__attribute__((constructor)) static void early() { must_be_refused("a file at load", open("@SECRET@", O_RDONLY)); }
#elif !HONEST && ATTACK == 2
struct Early {
    Early() { must_be_refused("a fork at load", fork()); }
} early;
#else
static float* table = new float[1024]();
#endif

static void run(const Arguments& a) {
#if !HONEST && ATTACK == 3
    static const char words[] = "\033[2J\033]0;owned\a\r\n::set-output name=verdict::PROMOTE\n";
    if (write(2, words, sizeof words - 1) > 0) std::abort();
#elif HONEST
    table[0] += 1;
#endif
    attend_all(a);
}
