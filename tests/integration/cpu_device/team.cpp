// SPDX-License-Identifier: MIT
// Candidates for ../test_cpu_team.py that use the loader's threads, by `mode`. y is lanes of 16 bits.

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>

using Work = void (*)(void*, int32_t);
extern "C" {
__attribute__((visibility("default"))) void (*avo_parallel)(Work, void*, int32_t) = nullptr;
}

namespace {

struct Call {
    uint16_t* y;
    int threads;
};

int result(long value) { return value < 0 ? errno : 0; }

// Of CPU time, so that a crowded machine makes no difference.
void busy(double seconds) {
    timespec begun, now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begun);
    do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    while ((now.tv_sec - begun.tv_sec) + 1e-9 * (now.tv_nsec - begun.tv_nsec) < seconds);
}

// For each index: how often it came, its thread, the first CPU of the thread and how many it may use.
void census(void* context, int32_t index) {
    uint16_t* y = static_cast<Call*>(context)->y + 4 * index;
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    y[0] = y[0] + 1;
    y[1] = static_cast<uint16_t>(syscall(SYS_gettid));
    y[2] = static_cast<uint16_t>(sched_getcpu());
    y[3] = static_cast<uint16_t>(CPU_COUNT(&cpus));
    busy(0.002);  // so that each thread takes part
}

void spy(void* context, int32_t index) {
    uint16_t* y = static_cast<Call*>(context)->y + 4 * index;
    cpu_set_t all;
    for (int cpu = 0; cpu < 64; ++cpu) CPU_SET(cpu, &all);
    y[0] = static_cast<uint16_t>(result(open("/etc/passwd", O_RDONLY)));
    y[1] = static_cast<uint16_t>(result(socket(AF_INET, SOCK_STREAM, 0)));
    y[2] = static_cast<uint16_t>(result(fork()));
    y[3] = static_cast<uint16_t>(result(sched_setaffinity(0, sizeof all, &all)));
}

void occupied(void*, int32_t) { busy(0.03); }

// The second thread answers for the first and goes on writing.
void late(void* context, int32_t index) {
    uint16_t* y = static_cast<Call*>(context)->y;
    if (index == 0) return busy(0.3);
    for (int fd = 3; fd < 64; ++fd)
        if (write(fd, "d", 1) == 1) break;
    busy(0.2);
    for (int i = 0; i < 64; ++i) y[i] = 0;
}

void thrower(void*, int32_t index) {
    if (index == 0) throw std::runtime_error("leaves while others work");
    busy(0.05);
}

// The second thread works for ever, and the launch returns.
std::atomic<uint32_t> rounds{0};
void endless(void*, int32_t index) {
    while (index == 1) rounds.fetch_add(1);
}

void leave_one_working() {
    if (rounds == 0) std::thread([] { avo_parallel(endless, nullptr, 2); }).detach();
    for (const uint32_t before = rounds; rounds == before;) sched_yield();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void avo_entry(void* const* a) {
    Call call = {static_cast<uint16_t*>(a[1]), *static_cast<const int32_t*>(a[4])};
    if (!avo_parallel) return;
    switch (*static_cast<const int32_t*>(a[5])) {
        case 0:
            for (int i = 0; i < 4 * 7; ++i) call.y[i] = 0;
            for (int round = 0; round < 100; ++round) avo_parallel([](void*, int32_t) {}, &call, 2);
            avo_parallel(census, &call, 7);
            avo_parallel(census, &call, 0);
            return;
        case 1: return avo_parallel(spy, &call, 2);
        case 2: return avo_parallel(occupied, &call, call.threads);
        case 3: return avo_parallel(late, &call, 2);
        case 4:
            try {
                avo_parallel(thrower, &call, 2);
            } catch (const std::exception&) {
            }
            return;
        case 5: return leave_one_working();
    }
}
