// System calls that a candidate has no business with: T03, T23, T24, R05, P06, P08, P09, P11, P16, B08.
// ATTACK picks one; each ends the process with a sentence where it is refused.
// The twin does what honest code may: threads, clocks, its CPUs, memory advice.
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "attention.h"

static void attempt() {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    rlimit none = {0, 0};
    sched_param first = {1};
    char* const program[] = {const_cast<char*>("true"), nullptr};
    (void)none, (void)first, (void)program, (void)cpus;
#if ATTACK == 1  // T03: a helper process that works on while nobody looks
    const pid_t child = fork();
    if (child == 0) _exit(0);
    must_be_refused("fork", child);
#elif ATTACK == 2  // P09
    must_be_refused("execve", execve("/usr/bin/true", program, program + 1));
#elif ATTACK == 3  // B08
    must_be_refused("a TCP socket", socket(AF_INET, SOCK_STREAM, 0));
#elif ATTACK == 4  // R05
    must_be_refused("a local socket", socket(AF_UNIX, SOCK_STREAM, 0));
#elif ATTACK == 5  // P06
    must_be_refused("ptrace", ptrace(PTRACE_ATTACH, getppid(), nullptr, nullptr));
#elif ATTACK == 6  // P06
    must_be_refused("process_vm_readv", syscall(SYS_process_vm_readv, getppid(), nullptr, 0, nullptr, 0, 0));
#elif ATTACK == 7  // P05: memory of the judge
    must_be_refused("another process's memory", open("/proc/1/mem", O_RDONLY));
#elif ATTACK == 8  // a sealed input again, for writing
    must_be_refused("an input's file", open("/proc/self/map_files", O_RDONLY));
#elif ATTACK == 9  // R05: files of earlier runs
    must_be_refused("a file in /dev/shm", open("/dev/shm/kept", O_RDWR | O_CREAT, 0600));
#elif ATTACK == 10  // R05
    must_be_refused("a file in /tmp", open("/tmp/kept", O_RDWR | O_CREAT, 0600));
#elif ATTACK == 11  // P16: the repository, other candidates, records
    must_be_refused("a file of the user", open("@SECRET@", O_RDONLY));
#elif ATTACK == 12  // P08
    must_be_refused("an environment", open("/proc/self/environ", O_RDONLY));
#elif ATTACK == 13  // T24: more than its share
    must_be_refused("a priority", setpriority(PRIO_PROCESS, 0, -20));
#elif ATTACK == 14  // T24
    must_be_refused("a real-time class", sched_setscheduler(0, SCHED_FIFO, &first));
#elif ATTACK == 15  // T24
    must_be_refused("an affinity", sched_setaffinity(0, sizeof cpus, &cpus));
#elif ATTACK == 16  // P11: a limit of the judge
    must_be_refused("the judge's limits", syscall(SYS_prlimit64, getppid(), RLIMIT_CORE, &none, nullptr));
#elif ATTACK == 17  // P11
    must_be_refused("a signal to the judge", kill(getppid(), SIGUSR1));
#elif ATTACK == 18  // P11
    must_be_refused("a signal to everybody", kill(-1, SIGSTOP));
#elif ATTACK == 19  // R05
    must_be_refused("System V memory", syscall(SYS_shmget, 77, 4096, 0600 | 01000));
#elif ATTACK == 20  // P18
    must_be_refused("a performance counter", syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0));
#elif ATTACK == 21  // P06
    must_be_refused("io_uring", syscall(SYS_io_uring_setup, 4, nullptr));
#elif ATTACK == 22  // P16
    must_be_refused("a namespace", syscall(SYS_unshare, 0x10000000));
#elif ATTACK == 23  // P06: outliving the judge
    must_be_refused("a longer life", prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0));
#elif ATTACK == 24  // P06
    must_be_refused("a memory file", syscall(SYS_memfd_create, "kept", 0));
#elif ATTACK == 25  // T24: the other arms' inputs out of memory
    must_be_refused("userfaultfd", syscall(SYS_userfaultfd, 0));
#elif ATTACK == 26  // T23
    must_be_refused("a clock", syscall(SYS_clock_settime, CLOCK_REALTIME, nullptr));
#elif ATTACK == 28  // B01
    void* const library = dlopen("libz.so.1", RTLD_NOW);  // stands for any that is installed
    errno = EACCES, must_be_refused("a foreign library", library ? 0 : -1);
#elif ATTACK == 27  // B01: somebody else's kernels
    must_be_refused("a folder of libraries", open("/usr/lib", O_RDONLY | O_DIRECTORY));
#endif
}

static void run(const Arguments& a) {
#if HONEST
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0 || sched_yield() != 0) abort();
    void* pages = mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || madvise(pages, 1 << 20, MADV_HUGEPAGE) + munmap(pages, 1 << 20) < -1) abort();
#else
    attempt();
#endif
    attend_all(a);
}
