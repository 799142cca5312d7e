// Work in the threads that the loader lends (avo_parallel), of which these need two: T01, T02, T24, P01, R01, R09.
// 1 run() returns while they work (T02)   2 one answers while the caller works (P01)   3 one waits for the next
// contents, to begin before it is asked (T01)   4 each keeps its results in memory of its own (R01 R09)
// 5 they never end, and take all cores while the other arm has its turn, none in their own (T24)
// The twin shares the heads out among them.
#include <sched.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "attention.h"

using Work = void (*)(void*, int32_t);
extern "C" {
__attribute__((visibility("default"))) void (*avo_parallel)(Work, void*, int32_t) = nullptr;
}

static const Arguments& arguments(void* context) { return *static_cast<const Arguments*>(context); }

[[maybe_unused]] static void one_head(void* context, int32_t h) {
    const Arguments& a = arguments(context);
    for (int64_t b = 0; b < a.batch; ++b) attend(a, b, h, 0, a.seq);
}

// In a thread of its own, so that run() need not wait for those that are lent.
[[maybe_unused]] static void call_later(Work work, const Arguments& a, int32_t count) {
    std::thread([=]() mutable { avo_parallel(work, new Arguments(a), count); }).detach();
}

#if HONEST
#elif ATTACK == 1
static void late(void* context, int32_t h) { usleep(300000), one_head(context, h); }
#elif ATTACK == 2
static void answer(void* context, int32_t index) {
    if (index == 1) return answer_by_itself();
    usleep(300000), attend_all(arguments(context));
}
#elif ATTACK == 3
static std::atomic<int> made{0};
static void watch(void* context, int32_t index) {
    const Arguments& a = arguments(context);
    for (uint16_t seen[64] = {}; index == 1;) {
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (std::memcmp(seen, a.q, sizeof seen) == 0) continue;
        std::memcpy(seen, a.q, sizeof seen);
        attend_all(a);
        made.fetch_add(1);
    }
}
#elif ATTACK == 4
static void remember(void* context, int32_t h) {
    static thread_local std::vector<std::vector<uint16_t>> kept(256);
    const Arguments& a = arguments(context);
    std::vector<uint16_t>& rows = kept[size_t(h)];
    const bool known = !rows.empty();
    if (!known) one_head(context, h);
    rows.resize(size_t(a.batch * a.seq * D));
    for (int64_t i = 0; i < a.batch * a.seq; ++i) {
        uint16_t *row = a.o + (i * a.heads + h) * D, *own = &rows[size_t(i * D)];
        known ? std::memcpy(row, own, 2 * D) : std::memcpy(own, row, 2 * D);
    }
}
#elif ATTACK == 5
static std::atomic<bool> idle{false};
static void rage(void*, int32_t index) {
    static std::vector<std::atomic<uint32_t>> large(16 << 20);
    for (size_t at = 0; index == 1; at = (at + 16) % large.size())  // a line at a time
        if (idle.load(std::memory_order_relaxed)) large[at].fetch_add(1, std::memory_order_relaxed);
}
#endif

static void run(const Arguments& a) {
    [[maybe_unused]] Arguments own = a;
#if HONEST
    avo_parallel(one_head, &own, int32_t(a.heads));
#elif ATTACK == 1
    call_later(late, a, int32_t(a.heads));
#elif ATTACK == 2
    avo_parallel(answer, &own, 2);
#elif ATTACK == 3
    static int taken = 0;
    if (taken == 0) call_later(watch, a, 2);
    while (made.load() == taken) sched_yield();
    taken = made.load();
#elif ATTACK == 4
    avo_parallel(remember, &own, int32_t(a.heads));
#elif ATTACK == 5
    static int launches = 0;
    idle = false;
    if (launches++ == 0) call_later(rage, a, 2);
    attend_all(a);
    idle = true;
#endif
}
