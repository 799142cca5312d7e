// Memory that is not the candidate's: C02, C06, P04-P06, R05. ATTACK picks the reach.
// 1 writes into V (C02)   2 makes V writable first   3 punches a hole into V   4 past the end of O
// 5 far past the end   6 before the start   7 its own memory in the place of O   8 O unmapped
// 9 looks for another result above O (C06)   10 below Q   11 V mapped a second time, writable
// 12 its arguments and environment for a seed (R10)   13 loader's memory made writable (T09)
// The twin advises, copies and reads its own, and writes every element of O.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attention.h"

extern char** environ;

static void run(const Arguments& a) {
    uint16_t* const v = const_cast<uint16_t*>(a.v);
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    (void)v, (void)page;
    attend_all(a);
#if HONEST
    madvise(v, page, MADV_WILLNEED);
    std::vector<uint16_t> copy(a.o, a.o + a.rows() * D);
    std::memcpy(a.o, copy.data(), a.output_bytes());
#elif ATTACK == 1
    v[0] = 1;
#elif ATTACK == 2
    must_be_refused("mprotect of an input", mprotect(v, page, PROT_READ | PROT_WRITE));
    std::memset(v, 0, page);
#elif ATTACK == 3
    must_be_refused("a hole in an input", madvise(v, page, MADV_REMOVE));
#elif ATTACK == 4
    a.o[a.rows() * D + 3] = 1;  // the checked shapes do not fill their last page
#elif ATTACK == 5
    std::memset(a.o + (int64_t(1) << 33), 1, 64);
#elif ATTACK == 6
    a.o[-1] = 1;
#elif ATTACK == 7
    const size_t bytes = (a.output_bytes() + page - 1) / page * page;
    std::memset(a.o, 0xff, a.output_bytes());
    if (mmap(a.o, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) abort();
    attend_all(a);
#elif ATTACK == 8
    munmap(a.o, page);
    a.o[0] = 1;
#elif ATTACK == 9
    uint64_t seen = 0;
    for (const volatile uint16_t* at = a.o + a.rows() * D;; at += page / 2) seen += *at;
#elif ATTACK == 10
    uint64_t seen = 0;
    for (const volatile uint16_t* at = a.q;; at -= page / 2) seen += *at;
#elif ATTACK == 11
    void* again = mremap(v, 0, page, MREMAP_MAYMOVE);
    if (again == MAP_FAILED) abort();
    must_be_refused("a writable second mapping", mprotect(again, page, PROT_READ | PROT_WRITE));
#elif ATTACK == 12
    if (!environ || !*environ) errno = ENOENT, must_be_refused("a seed in the environment", -1);
#elif ATTACK == 13
    void* const loader = reinterpret_cast<void*>(uintptr_t(&environ) / page * page);
    must_be_refused("nothing", mprotect(loader, page, PROT_READ | PROT_WRITE | PROT_EXEC));
    environ = nullptr;
#endif
}
