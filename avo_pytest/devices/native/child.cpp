// SPDX-License-Identifier: MIT
// The trusted loader of a CPU candidate: one process, one shared object, one configuration.
//
//   child SOCKET OBJECT THREADS ITEM...   in the order of the manifest's arguments, ITEM one of
//   in:FD:BYTES   out:FD:BYTES       a shared mapping, read-only or writable
//   zero:FD:BYTES                    a workspace that is cleared before each call, inside the timed span
//   i32:V u32:V i64:V f32:V          a scalar
//
// Files, network and namespaces are already taken away (confine.py executed us). What is left to do before
// any candidate code runs: map, close the descriptors, start the threads of an object that has a pointer
// `avo_parallel` for us to set, and allow all of them only the system calls that computing needs.
// Then 'c' (confined) or 'u' (not) goes out, the object is loaded, 'r' (ready) goes out, and each 'g' (go)
// is answered by 'd' (done). The parent stops us before it reads its clock.

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "team.h"

#ifdef __linux__
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

namespace {

constexpr int kMaxItems = 64;
constexpr int kLoadFailed = 3;

union Slot {
    int32_t i32;
    uint32_t u32;
    int64_t i64;
    float f32;
};

struct Cleared {
    void* data;
    size_t bytes;
};

[[noreturn]] void die(const char* what, const char* detail) {
    fprintf(stderr, "%s: %s\n", what, detail);
    _exit(kLoadFailed);
}

#ifdef __linux__

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "no system call filter for this architecture"
#endif

#ifndef SYS_clone3
#define SYS_clone3 435
#endif

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;
constexpr uint32_t kUnknown = SECCOMP_RET_ERRNO | ENOSYS;

// Allowed whatever the arguments.
const int kPlain[] = {
    SYS_read, SYS_pread64, SYS_readv, SYS_lseek, SYS_close, SYS_fstat, SYS_newfstatat, SYS_statx,
    SYS_faccessat, SYS_readlinkat, SYS_getdents64, SYS_getcwd,
    SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_brk,
    SYS_futex, SYS_set_robust_list, SYS_get_robust_list, SYS_rseq, SYS_set_tid_address, SYS_membarrier,
    SYS_exit, SYS_exit_group, SYS_gettid, SYS_getpid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
    SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_getparam, SYS_sched_getscheduler,
    SYS_sched_get_priority_max, SYS_sched_get_priority_min, SYS_getcpu, SYS_getrusage, SYS_times,
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall,
    SYS_getrandom, SYS_uname, SYS_sysinfo,
#ifdef __x86_64__
    SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_time, SYS_getrlimit,
#endif
};

class Filter {
  public:
    void load(uint32_t offset) { add(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); }
    void decide(uint32_t verdict) { add(BPF_STMT(BPF_RET | BPF_K, verdict)); }
    // Skip the next `steps` instructions unless the loaded word equals / has a bit of `value`.
    void unless_equal(uint32_t value, uint8_t steps) { add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, steps)); }
    void unless_any(uint32_t bits, uint8_t steps) { add(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, steps)); }

    void plain(int number, uint32_t verdict) {
        unless_equal(number, 1);
        decide(verdict);
    }
    // Allow `number` only if the low word of an argument is one of `values`.
    template <size_t N> void only(int number, int argument, const uint32_t (&values)[N]) {
        unless_equal(number, 2 + 2 * N);
        load(low_word(argument));
        for (uint32_t value : values) plain(value, kAllow);
        decide(kRefuse);
    }
    // Allow a tgkill of this process's own threads by one of these signals.
    template <size_t N> void signals(int number, uint32_t process, const uint32_t (&values)[N]) {
        unless_equal(number, 4 + 2 * N);
        load(low_word(0));
        unless_equal(process, 1 + 2 * N);
        load(low_word(2));
        for (uint32_t value : values) plain(value, kAllow);
        decide(kRefuse);
    }
    // `with_bits` if the argument has any of `bits`, else the other verdict.
    void by_bits(int number, int argument, uint32_t bits, uint32_t with_bits, uint32_t without) {
        unless_equal(number, 4);
        load(low_word(argument));
        unless_any(bits, 1);
        decide(with_bits);
        decide(without);
    }
    bool install() {
        sock_fprog program = {static_cast<unsigned short>(count_), steps_};
        // Of every thread: the team's exist already.
        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
    }

  private:
    static uint32_t low_word(int argument) { return offsetof(seccomp_data, args) + 8 * argument; }
    void add(sock_filter step) {
        if (count_ == sizeof steps_ / sizeof *steps_) die("filter", "too long");
        steps_[count_++] = step;
    }
    sock_filter steps_[256];
    size_t count_ = 0;
};

bool allow_only_computing(int control) {
    Filter filter;
    filter.load(offsetof(seccomp_data, arch));
    filter.unless_equal(kArchitecture, 1);
    filter.load(offsetof(seccomp_data, nr));  // reached only on our architecture …
    for (int number : kPlain) filter.plain(number, kAllow);  // … else A is an AUDIT_ARCH_ value, no call's number
    constexpr uint32_t writing = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND;
    filter.by_bits(SYS_openat, 2, writing, kRefuse, kAllow);
#ifdef __x86_64__
    filter.by_bits(SYS_open, 1, writing, kRefuse, kAllow);
    filter.only(SYS_arch_prctl, 0, {0x1021, 0x1022, 0x1023, 0x1024, 0x1025});  // AMX permission
#endif
    filter.by_bits(SYS_clone, 0, 0x10000 /* CLONE_THREAD */, kAllow, kRefuse);
    filter.plain(SYS_clone3, kUnknown);  // its flags are in memory: make libc fall back to clone
    filter.only(SYS_write, 0, {static_cast<uint32_t>(control), 2});
    filter.only(SYS_writev, 0, {2});
    filter.only(SYS_prctl, 0, {PR_SET_NAME, PR_GET_NAME, 51 /* PR_SVE_GET_VL */, 0x53564d41 /* PR_SET_VMA */});
    // abort(), raise() of what ends a process, and the C library's own two; not SIGCONT: who can send that to
    // himself cannot be stopped.
    filter.signals(SYS_tgkill, getpid(), {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, 32, 33});
    filter.only(SYS_prlimit64, 0, {0});  // of this process only
    filter.decide(kRefuse);
    return filter.install();
}

#else

bool allow_only_computing(int) { return false; }

#endif

// Map between two unreachable pages, so that running off either end faults.
void* map(const char* item, bool writable, size_t* bytes) {
    int fd = -1;
    unsigned long long size = 0;
    if (sscanf(item, "%d:%llu", &fd, &size) != 2) die("bad argument", item);
    size_t page = sysconf(_SC_PAGESIZE);
    size_t length = (size + page - 1) / page * page;
    char* reserved = static_cast<char*>(mmap(nullptr, length + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0));
    if (reserved == MAP_FAILED) die("cannot reserve memory", item);
    int flags = MAP_SHARED | MAP_FIXED;
#ifdef MAP_POPULATE
    flags |= MAP_POPULATE;
#endif
    void* data = mmap(reserved + page, length, writable ? PROT_READ | PROT_WRITE : PROT_READ, flags, fd, 0);
    if (data == MAP_FAILED) die("cannot map", item);
    *bytes = size;
    return data;
}

struct Arguments {
    void* values[kMaxItems];
    Slot slots[kMaxItems];
    Cleared cleared[kMaxItems];
    int clear_count = 0;

    void add(int index, const char* item) {
        const char* colon = strchr(item, ':');
        if (!colon) die("bad argument", item);
        const char* value = colon + 1;
        size_t length = colon - item, bytes = 0;
        auto is = [&](const char* kind) { return strlen(kind) == length && !strncmp(item, kind, length); };
        Slot& slot = slots[index];
        values[index] = &slot;
        if (is("in")) {
            values[index] = map(value, false, &bytes);
        } else if (is("out")) {
            values[index] = map(value, true, &bytes);
        } else if (is("zero")) {
            values[index] = map(value, true, &bytes);
            cleared[clear_count++] = {values[index], bytes};
        } else if (is("i32")) {
            slot.i32 = static_cast<int32_t>(strtoll(value, nullptr, 10));
        } else if (is("u32")) {
            slot.u32 = static_cast<uint32_t>(strtoull(value, nullptr, 10));
        } else if (is("i64")) {
            slot.i64 = strtoll(value, nullptr, 10);
        } else if (is("f32")) {
            slot.f32 = strtof(value, nullptr);
        } else {
            die("bad argument", item);
        }
    }
};

void close_all_but(int control) {
    long limit = sysconf(_SC_OPEN_MAX);
    for (int fd = 3; fd < limit; ++fd)
        if (fd != control) close(fd);
}

Arguments arguments;

constexpr char kParallel[] = "avo_parallel";  // of type Parallel*, where a candidate has it
using Parallel = void (*)(Team::Work work, void* context, int32_t count);
Team team;

void parallel(Team::Work work, void* context, int32_t count) { team.run(work, context, count); }

// Asked of the file, because threads must be there before the object's own code can run.
bool wants_team(const char* path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t bytes = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
    void* file = bytes > 0 ? mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    if (fd >= 0) close(fd);
    if (file == MAP_FAILED) return false;
    bool found = memmem(file, bytes, kParallel, sizeof kParallel) != nullptr;
    munmap(file, bytes);
    return found;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4 || argc - 4 > kMaxItems) die("usage", "child SOCKET OBJECT THREADS ITEM...");
    int control = atoi(argv[1]);
    for (int i = 4; i < argc; ++i) arguments.add(i - 4, argv[i]);
    close_all_but(control);
    bool teamed = wants_team(argv[2]);
    if (teamed) team.start(atoi(argv[3]));
    char status = allow_only_computing(control) ? 'c' : 'u';
    if (write(control, &status, 1) != 1) return 1;

    void* object = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);  // static constructors run from here on
    if (!object) die("cannot load", dlerror());
    auto entry = reinterpret_cast<void (*)(void* const*)>(dlsym(object, "avo_entry"));
    if (!entry) die("cannot load", "the object has no avo_entry");
    if (auto slot = static_cast<Parallel*>(teamed ? dlsym(object, kParallel) : nullptr)) *slot = parallel;
    if (write(control, "r", 1) != 1) return 1;

    for (char command; read(control, &command, 1) == 1;) {
        for (int i = 0; i < arguments.clear_count; ++i)
            memset(arguments.cleared[i].data, 0, arguments.cleared[i].bytes);
        entry(arguments.values);
        if (write(control, "d", 1) != 1) return 1;
    }
    _exit(0);
}
