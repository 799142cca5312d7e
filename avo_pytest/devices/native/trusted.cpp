// SPDX-License-Identifier: MIT
// What the CPU judge does itself and fast: contents of timed launches, fingerprints, and what cores can do.
// inputs.py and fingerprints.py define the first two; tests compare. Compiled for the machine it runs on;
// without -ffast-math, so that NaN stays NaN.

#include <stdint.h>
#include <string.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__AVX512BF16__) || defined(__AMX_BF16__)
#include <immintrin.h>
#endif

namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;

inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// body(first, last) over [0, count), in pieces that are multiples of `grain`.
template <class Body> void in_parallel(int64_t count, int64_t grain, int threads, const Body& body) {
    int64_t grains = (count + grain - 1) / grain;
    if (threads > grains) threads = static_cast<int>(grains);
    if (threads <= 1) return body(0, count);
    std::vector<std::thread> workers;
    for (int t = 0; t < threads; ++t) {
        int64_t first = grains * t / threads * grain, last = grains * (t + 1) / threads * grain;
        if (last > count) last = count;
        if (t + 1 < threads)
            workers.emplace_back([&body, first, last] { body(first, last); });
        else
            body(first, last);
    }
    for (auto& worker : workers) worker.join();
}

// Words first … last-1 to `out`, 64 at a time: the first loop vectorises, the second stays in the first-level cache.
void fill_words(uint16_t* out, int64_t first, int64_t last, uint64_t base, const uint16_t* table) {
    constexpr int kChunk = 64;
    uint64_t words[kChunk];
    for (int64_t i = first; i < last; i += kChunk) {
        int n = last - i < kChunk ? static_cast<int>(last - i) : kChunk;
        for (int j = 0; j < kChunk; ++j) words[j] = mix(base + (static_cast<uint64_t>(i + j) + 1) * kGolden);
        for (int j = 0; j < n; ++j) {
            uint16_t* to = out + 4 * (i - first + j);
            for (int lane = 0; lane < 4; ++lane) {
                uint64_t h = words[j] >> (16 * lane);
                to[lane] = static_cast<uint16_t>(table[h & 0xFFF] | (h & 0x8000));
            }
        }
    }
}

inline uint32_t widen(uint16_t bf16) { return static_cast<uint32_t>(bf16) << 16; }

inline float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// One row: the sums of ±x under two random signs, and of x². Sixteen partial sums, so that it vectorises.
void project(const uint16_t* x, int64_t width, uint64_t row, uint64_t secret, float* out) {
    constexpr int kLanes = 16;
    int64_t words = (width + 63) / 64;
    float sums[3][kLanes] = {};
    for (int64_t w = 0; w < words; ++w) {
        uint64_t s0 = mix(secret + ((row * 2 + 0) * words + w + 1) * kGolden);
        uint64_t s1 = mix(secret + ((row * 2 + 1) * words + w + 1) * kGolden);
        uint16_t block[64] = {};
        int64_t n = width - 64 * w < 64 ? width - 64 * w : 64;
        memcpy(block, x + 64 * w, 2 * n);  // the rest stays zero: adds nothing
        for (int c = 0; c < 64; c += kLanes) {
            uint32_t piece0 = static_cast<uint32_t>(s0 >> c), piece1 = static_cast<uint32_t>(s1 >> c);
            for (int lane = 0; lane < kLanes; ++lane) {
                uint32_t bits = widen(block[c + lane]);
                sums[0][lane] += as_float(bits ^ ((piece0 >> lane) << 31));
                sums[1][lane] += as_float(bits ^ ((piece1 >> lane) << 31));
                sums[2][lane] += as_float(bits) * as_float(bits);
            }
        }
    }
    for (int k = 0; k < 3; ++k) {
        double total = 0;
        for (int lane = 0; lane < kLanes; ++lane) total += sums[k][lane];
        out[k] = static_cast<float>(total);
    }
}

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
typedef float Vector __attribute__((vector_size(kVectorBytes)));
constexpr int kChains = 12;  // enough independent operations to hide their latency
constexpr int kRounds = 1024;
constexpr int kLanes = kVectorBytes / sizeof(float);

// The accumulators converge to 1, so they neither overflow nor become denormal.
__attribute__((noinline)) float multiply_add(float seed) {
    Vector sums[kChains];
    Vector factor = Vector{} + 0.75f, term = Vector{} + 0.25f;
    for (int i = 0; i < kChains; ++i) sums[i] = Vector{} + (seed + 0.01f * i);
    for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
        for (int i = 0; i < kChains; ++i) sums[i] = sums[i] * factor + term;
    }
    Vector total = sums[0];
    for (int i = 1; i < kChains; ++i) total += sums[i];
    return total[0];
}

#ifdef __AVX512BF16__
// Pairs of opposite products: the accumulators stay where they are.
__attribute__((noinline)) float dot_bf16(float seed) {
    __m512 sums[kChains];
    auto left = (__m512bh)_mm512_set1_epi32(0x3F40BF40), right = (__m512bh)_mm512_set1_epi32(0x3FA03FA0);
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(seed + 0.01f * i);
    for (int round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
        for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], left, right);
    }
    __m512 total = sums[0];
    for (int i = 1; i < kChains; ++i) total = _mm512_add_ps(total, sums[i]);
    return total[0] * (1.0f / kChains);
}
#endif

#if defined(__AMX_BF16__) && defined(__linux__)
constexpr int kTileBytes = 1024;

bool tiles_allowed() { return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18) == 0; }

// Four sums from two left and two right tiles, as a blocked product uses them.
__attribute__((noinline)) float dot_tiles(float seed) {
    alignas(64) uint8_t shape[64] = {1};  // palette
    for (int tile = 0; tile < 8; ++tile) shape[16 + 2 * tile] = 64, shape[48 + tile] = 16;
    alignas(64) uint16_t ones[kTileBytes / 2];
    for (int i = 0; i < kTileBytes / 2; ++i) ones[i] = i % 2 ? 0x3F80 : 0xBF80;
    _tile_loadconfig(shape);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, ones, 64);
    _tile_loadd(5, ones, 64);
    _tile_loadd(6, ones, 64);
    _tile_loadd(7, ones, 64);
    for (int round = 0; round < kRounds; ++round) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    alignas(64) float sum[kTileBytes / 4];
    _tile_stored(0, sum, 64);
    _tile_release();
    return sum[0] == 0 ? 0 : seed;
}
#endif

// A unit that multiplies and adds: its name, a call's work, and whether this process may use it.
struct Unit {
    const char* name;
    float (*call)(float);
    double flops;
    bool (*allowed)();
};

bool always() { return true; }

const Unit kUnits[] = {
    {"FP32 FMA", multiply_add, 2.0 * kRounds * kChains * kLanes, always},
#ifdef __AVX512BF16__
    {"BF16 dot (vdpbf16ps)", dot_bf16, 4.0 * kRounds * kChains * 16, always},
#endif
#if defined(__AMX_BF16__) && defined(__linux__)
    {"BF16 tiles (tdpbf16ps)", dot_tiles, 4.0 * kRounds * 16 * 16 * 32 * 2, tiles_allowed},
#endif
};
constexpr int kUnitCount = sizeof kUnits / sizeof *kUnits;

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void pin_to(int cpu) {
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);  // refused: the probe still runs, unpinned
#else
    (void)cpu;
#endif
}

double probe_here(const Unit& unit, double duration) {
    if (!unit.allowed()) return 0;
    float value = 0.5f;
    int64_t calls = 0;
    double start = seconds(), now = start;
    while (now - start < duration) {
        value = unit.call(value);
        ++calls;
        now = seconds();
    }
    volatile float keep = value;
    (void)keep;
    return calls * unit.flops / (now - start) * 1e-9;
}

}  // namespace

extern "C" {

// Elements 4i … 4i+3 of a tensor come from word i; `count` elements, a last partial word is cut.
void avo_fill(uint16_t* out, int64_t count, uint64_t base, const uint16_t* table, int threads) {
    int64_t words = count / 4;
    in_parallel(words, 1 << 14, threads,
                [=](int64_t first, int64_t last) { fill_words(out + 4 * first, first, last, base, table); });
    if (count % 4) {
        uint16_t tail[4];
        fill_words(tail, words, words + 1, base, table);
        memcpy(out + 4 * words, tail, 2 * (count % 4));
    }
}

// out[rows][3]; see fingerprints.py for the definition of the signs.
void avo_fingerprint(const uint16_t* x, int64_t rows, int64_t width, uint64_t secret, float* out, int threads) {
    in_parallel(rows, 256, threads, [=](int64_t first, int64_t last) {
        for (int64_t row = first; row < last; ++row) project(x + row * width, width, row, secret, out + 3 * row);
    });
}

// The name of a unit that the rates of avo_probe can be of, the first FP32 FMA; null after the last.
const char* avo_unit(int unit) { return unit < kUnitCount ? kUnits[unit].name : nullptr; }

// A unit's rate on each given CPU in GFLOPS, all at the same time, each for `duration` seconds.
void avo_probe(int unit, const int* cpus, int count, double duration, double* gflops) {
    std::atomic<int> waiting(count);
    auto run = [&](int i) {
        pin_to(cpus[i]);
        waiting.fetch_sub(1);
        while (waiting.load() > 0) std::this_thread::yield();
        gflops[i] = probe_here(kUnits[unit], duration);
    };
    std::vector<std::thread> workers;
    for (int i = 0; i < count; ++i) workers.emplace_back(run, i);
    for (auto& worker : workers) worker.join();
}

}
