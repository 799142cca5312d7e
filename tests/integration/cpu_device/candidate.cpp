// SPDX-License-Identifier: MIT
// Candidates for ../test_cpu_device.py: y = scale · x by rows of 128, honestly or not, by `mode`.

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#endif

extern char** environ;

namespace {

constexpr int kWidth = 128;

int result(long value) { return value < 0 ? errno : 0; }

// What a static constructor meets: the loader must have confined us before.
int early_open = result(open("/etc/passwd", O_RDONLY));
int early_socket = result(socket(AF_INET, SOCK_STREAM, 0));

uint16_t scaled(uint16_t bits, float scale) {
    uint32_t word = static_cast<uint32_t>(bits) << 16;
    float value;
    memcpy(&value, &word, 4);
    value *= scale;  // a power of two: exact
    memcpy(&word, &value, 4);
    return static_cast<uint16_t>(word >> 16);
}

void scale_rows(const uint16_t* x, uint16_t* y, int64_t rows, float scale, int threads) {
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; ++t)
        workers.emplace_back([=] {
            for (int64_t i = rows * t / threads * kWidth; i < rows * (t + 1) / threads * kWidth; ++i)
                y[i] = scaled(x[i], scale);
        });
    for (auto& worker : workers) worker.join();
}

int forked() {
    pid_t pid = fork();
    if (pid == 0) _exit(0);
    return result(pid);
}

int executed() {
    char* const arguments[] = {const_cast<char*>("true"), nullptr};
    return result(execve("/usr/bin/true", arguments, arguments + 1));
}

int strangers_descriptors() {
    int found = 0;
    for (int fd = 4; fd < 256; ++fd) found += lseek(fd, 0, SEEK_CUR) >= 0;
    return found;
}

// errno of each attempt, 0 where it succeeded; the order of ATTEMPTS in the test.
void spy(const uint16_t* x, uint16_t* y) {
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    rlimit none = {0, 0};
    int results[] = {
        early_open,
        early_socket,
        result(open("/etc/passwd", O_RDONLY)),
        result(open("/proc/self/environ", O_RDONLY)),
        result(open("/tmp/avo-candidate", O_CREAT | O_RDWR, 0600)),
        result(open("/dev/null", O_WRONLY)),
        result(socket(AF_INET, SOCK_STREAM, 0)),
        result(socket(AF_UNIX, SOCK_STREAM, 0)),
        forked(),
        executed(),
        result(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)),
        result(kill(getppid(), 0)),
        result(kill(getpid(), 0)),
        result(syscall(SYS_memfd_create, "x", 0)),
        result(sched_setaffinity(0, sizeof cpus, &cpus)),
        result(setpriority(PRIO_PROCESS, 0, 1)),
        result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)),
        result(prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)),
        result(syscall(SYS_perf_event_open, nullptr, 0, 0, 0, 0)),
        result(syscall(SYS_io_uring_setup, 1, nullptr)),
        result(syscall(SYS_process_vm_readv, getppid(), nullptr, 0, nullptr, 0, 0)),
        result(syscall(SYS_shmget, 0, 4096, 0600)),
        result(syscall(SYS_prlimit64, getppid(), RLIMIT_CORE, &none, nullptr)),
        result(syscall(SYS_unshare, 0x10000000)),
        result(mprotect(const_cast<uint16_t*>(x), 4096, PROT_READ | PROT_WRITE)),
    };
    int n = sizeof results / sizeof *results;
    for (int i = 0; i < n; ++i) y[i] = static_cast<uint16_t>(results[i]);
    y[n] = environ && *environ;
    y[n + 1] = static_cast<uint16_t>(strangers_descriptors());
}

// What honest code may need must work.
void ordinary(uint16_t* y) {
    std::vector<char> large(64 << 20, 1);
    void* pages = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char noise[8];
    cpu_set_t cpus;
    int failures = pages == MAP_FAILED;
    failures += madvise(pages, 1 << 20, MADV_WILLNEED) != 0;
    failures += munmap(pages, 1 << 20) != 0;
    failures += syscall(SYS_getrandom, noise, sizeof noise, 0) != sizeof noise;
    failures += sched_getaffinity(0, sizeof cpus, &cpus) != 0;
    failures += sched_yield() != 0;
    failures += prctl(PR_SET_NAME, "worker", 0, 0, 0) != 0;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    try {
        throw std::runtime_error("unwinding");
    } catch (const std::exception&) {
        failures += large[12345] != 1;
    }
#ifdef __x86_64__
    uint64_t features = 0;  // AMX permission must be askable; old kernels know no such call
    failures += syscall(SYS_arch_prctl, 0x1022, &features) != 0 && errno == EPERM;
#endif
    y[0] = static_cast<uint16_t>(failures);
}

void in_background(void (*act)(uint16_t*), uint16_t* y) { std::thread(act, y).detach(); }

void write_late(uint16_t* y) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    memset(y, 0, 4096);
}

void count_forever(uint16_t* y) {
    for (volatile uint16_t* to = y;; ++*to) {
    }
}

void answer_twice() {
    for (int fd = 3; fd < 64; ++fd)
        if (write(fd, "dd", 2) == 2) break;
}

enum Mode {
    kHonest, kCrash, kHang, kWriteInput, kPastEnd, kFarPastEnd, kHalf, kSpy, kOrdinary, kLate, kForever,
    kAnswerTwice, kExit, kAbort, kBusy, kWorkspace,
};

}  // namespace

extern "C" void avo_entry(void* const* a) {
    auto x = static_cast<const uint16_t*>(a[0]);
    auto y = static_cast<uint16_t*>(a[1]);
    int64_t rows = *static_cast<const int64_t*>(a[2]);
    float scale = *static_cast<const float*>(a[3]);
    int threads = *static_cast<const int32_t*>(a[4]);
    switch (*static_cast<const int32_t*>(a[5])) {
        case kHonest: return scale_rows(x, y, rows, scale, threads);
        case kCrash: raise(SIGSEGV); return;
        case kHang: for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
        case kWriteInput: const_cast<uint16_t*>(x)[0] = 1; return;
        case kPastEnd: scale_rows(x, y, rows, scale, threads); y[rows * kWidth + 3] ^= 1; return;
        case kFarPastEnd: y[rows * kWidth + 8192] = 1; return;
        case kHalf: return scale_rows(x, y, rows / 2, scale, threads);
        case kSpy: return spy(x, y);
        case kOrdinary: return ordinary(y);
        case kLate: return in_background(write_late, y);
        case kForever: scale_rows(x, y, rows, scale, threads); return in_background(count_forever, y);
        case kAnswerTwice: return answer_twice();
        case kExit: _exit(0);
        case kAbort: abort();
        case kBusy: {
            auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(40);
            while (std::chrono::steady_clock::now() < end) {
            }
            return;
        }
        case kWorkspace: {  // reports a workspace's first lane and then writes to it
            auto workspace = static_cast<uint16_t*>(a[6]);
            y[0] = workspace[0];
            workspace[0] = 7;
            return;
        }
    }
}
