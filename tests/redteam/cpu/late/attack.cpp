// Work after the clock has stopped, or a stopped clock: T01-T03, T09, T11, P01-P04, P11.
// 1 a thread computes after run() returned (T02)   2 it hands over its result one launch later (T11)
// 3 "done" is written before the work (P01)   4 it never returns and answers by itself (P04)
// 5 a second answer lies ready for the next launch (P03)   6 exit(0) (P02)   7 "done", then exit (P03)
// 8 a thread resumes the process whenever it is stopped (P06)   9 a destructor computes (P03)
// 10 a SIGCONT handler computes before the launch (P11)   11 an alarm resumes it (P11)
// The twin starts threads as well, and waits for them.
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "attention.h"

static Arguments waiting;
static void on_continue(int) {
    if (waiting.o) attend_all(waiting);
}
struct Last {
    ~Last() {
        if (waiting.o) attend_all(waiting);
    }
} last_words;

static void run(const Arguments& a) {
#if HONEST
    std::thread worker([&] { attend_all(a); });
    worker.join();
#elif ATTACK == 1
    std::thread([=] { usleep(30000), attend_all(a); }).detach();  // not done before it is stopped
#elif ATTACK == 2
    static std::vector<uint16_t> made;
    static std::atomic<bool> ready{false};
    if (ready) std::memcpy(a.o, made.data(), a.output_bytes());
    made.resize(size_t(a.rows() * D));
    Arguments own = a;
    own.o = made.data();
    std::thread([=] { usleep(30000), attend_all(own), ready = true; }).detach();
#elif ATTACK == 3
    if (write(control(), "d", 1) == 1) usleep(30000), attend_all(a);
#elif ATTACK == 4
    static int launches = 0;
    const int fd = control();
    attend_all(a);
    for (char go; ++launches;)
        if (write(fd, "d", 1) != 1 || read(fd, &go, 1) != 1) _exit(0);
#elif ATTACK == 5
    attend_all(a);
    answer_by_itself();
#elif ATTACK == 6
    exit(0);
#elif ATTACK == 7
    if (write(control(), "d", 1) == 1) _exit(0);
#elif ATTACK == 8
    attend_all(a);
    static std::atomic<bool> begun{false};
    if (!begun.exchange(true)) {
        const int pid = getpid();
        for (int i = 0; i < 2; ++i)
            std::thread([=] {
                const long tid = syscall(SYS_gettid);
                for (;;) must_be_refused("SIGCONT to itself", syscall(SYS_tgkill, pid, tid, SIGCONT));
            }).detach();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
#elif ATTACK == 9
    waiting = a;
#elif ATTACK == 10
    static int launches = 0;
    waiting = a;
    signal(SIGCONT, on_continue);
    if (++launches == 1) attend_all(a);
#elif ATTACK == 11
    itimerval soon = {{0, 2000}, {0, 2000}};
    signal(SIGALRM, on_continue);
    must_be_refused("setitimer", setitimer(ITIMER_REAL, &soon, nullptr));
    waiting = a;
#endif
}
