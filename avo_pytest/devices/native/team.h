// SPDX-License-Identifier: MIT
// Threads for a candidate that asks for them, so that it starts none of its own.
//
// A thread started inside a launch shares its creator's core until the scheduler moves it, for milliseconds
// where a launch may last no longer. These exist before the launch, each on a core of its own. They belong to the
// candidate's process: confined, frozen and counted as it is.
//
// After a call they look out for the next one before they sleep. The process is frozen by then, so that this costs
// nothing, and when it is thawed they are awake; waking them took 0.1 ms, up to 2 % of a launch's span.
#pragma once

#include <stdint.h>

#include <atomic>
#include <system_error>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

class Team {
  public:
    using Work = void (*)(void* context, int32_t index);

    // The calling thread and `threads - 1` more; fewer if the system gives fewer. They are in their places when
    // it returns: afterwards no thread may move.
    void start(int threads) {
        Cores cores(threads);
        spins_ = cores.fixed() ? kSpins : 0;
        try {
            for (; size_ < threads; ++size_) {
                busy_.fetch_add(1);
                std::thread([this, cores, index = size_] {
                    cores.keep_to(index);
                    done();
                    serve(index);
                }).detach();
            }
        } catch (const std::system_error&) {
            busy_.fetch_sub(1);
        }
        cores.keep_to(0);
        wait();
    }

    // work(context, 0 … count-1), each once, as many at a time as there are threads; returns when all have
    // returned. Not to be called by work. An exception ends the process: nobody leaves while others work.
    void run(Work work, void* context, int32_t count) noexcept {
        work_ = work;
        context_ = context;
        count_ = count;
        if (count <= 1 || size_ == 1) return share(0, 1);
        busy_.store(size_ - 1, std::memory_order_relaxed);
        round_.fetch_add(1, std::memory_order_release);
        round_.notify_all();
        share(0, size_);
        wait();
    }

  private:
    // One core for each thread, where there are as many. With fewer threads than cores the scheduler decides,
    // who knows which cores are halves of one.
    class Cores {
      public:
        explicit Cores(int threads) {
#ifdef __linux__
            if (sched_getaffinity(0, sizeof all_, &all_) == 0) fixed_ = CPU_COUNT(&all_) == threads;
#endif
        }
        bool fixed() const { return fixed_; }
        void keep_to(int index) const {
#ifdef __linux__
            for (int cpu = 0; fixed_ && cpu < CPU_SETSIZE; ++cpu) {
                if (!CPU_ISSET(cpu, &all_) || index-- > 0) continue;
                cpu_set_t one;
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                sched_setaffinity(0, sizeof one, &one);  // refused: the scheduler decides
                return;
            }
#endif
        }

      private:
#ifdef __linux__
        cpu_set_t all_;
#endif
        bool fixed_ = false;
    };

    void share(int32_t first, int32_t step) const noexcept {
        for (int32_t index = first; index < count_; index += step) work_(context_, index);
    }

    void serve(int32_t index) noexcept {
        for (uint32_t round = 0;; ++round) {
            look_out([&] { return round_.load(std::memory_order_acquire) != round; });
            round_.wait(round, std::memory_order_acquire);  // until run() counts on
            share(index, size_);
            done();
        }
    }

    // Until it holds, or for a part of a millisecond; only where each thread has a core of its own.
    template <class Condition> void look_out(const Condition& holds) const noexcept {
        for (int i = 0; i < spins_ && !holds(); ++i) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#elif defined(__aarch64__)
            asm volatile("isb");
#endif
        }
    }

    void done() noexcept {
        if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
    }

    void wait() const noexcept {
        look_out([&] { return busy_.load(std::memory_order_acquire) == 0; });
        for (int32_t left; (left = busy_.load(std::memory_order_acquire)) != 0;) busy_.wait(left);
    }

    static constexpr int kSpins = 20000;
    Work work_ = nullptr;
    void* context_ = nullptr;
    int32_t count_ = 0;
    int32_t size_ = 1;
    int spins_ = 0;
    std::atomic<uint32_t> round_{0};
    std::atomic<int32_t> busy_{0};
};
