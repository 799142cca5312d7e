// More than its share of the machine: P11, P12. ATTACK picks what runs out.
// 1 time   2 memory   3 threads   4 a file that grows for ever   5 the stack   6 a load that never ends
// 7 an honest-looking wait (nobody computes)   8 descriptors
// The twin asks for much and gets it: 64 MiB, four threads, a sentence in the log.
#include <unistd.h>

#include <thread>

#include "attention.h"

#if ATTACK == 6 && !HONEST
static int never = [] { for (volatile int spin = 0;; spin = spin + 1) {} return 0; }();
#endif

#if ATTACK == 5
static int deeper(volatile char* above, int depth) {
    volatile char room[4096];
    room[0] = above[0];
    return depth < 0 ? 0 : deeper(room, depth + 1) + room[0];
}
#endif

static void run(const Arguments& a) {
#if HONEST
    std::vector<char> large(64 << 20, 1);
    std::vector<std::thread> workers;
    for (int t = 0; t < 4; ++t) workers.emplace_back([&, t] { large[size_t(t)] = 2; });
    for (auto& worker : workers) worker.join();
    static const int said = std::fprintf(stderr, "hello\n");
    (void)said;
    attend_all(a);
#elif ATTACK == 1
    for (volatile int spin = 0;; spin = spin + 1) {}
#elif ATTACK == 2
    for (size_t bytes = size_t(1) << 30;; bytes *= 2) static_cast<volatile char*>(operator new(bytes))[0] = 1;
#elif ATTACK == 3
    for (;;) std::thread([] { for (;;) sleep(1000); }).detach();
#elif ATTACK == 4
    static char text[1 << 16];
    std::memset(text, 'x', sizeof text);
    for (;;)
        if (write(2, text, sizeof text) < 0) abort();
#elif ATTACK == 5
    char top[1] = {0};
    a.o[0] = uint16_t(deeper(top, 0));
#elif ATTACK == 7
    for (;;) usleep(1000);
#elif ATTACK == 8
    for (int i = 0; i < 100000; ++i) must_be_refused("a descriptor", dup(2));
#endif
}
