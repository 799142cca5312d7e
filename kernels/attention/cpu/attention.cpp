// SPDX-License-Identifier: MIT
//
// BF16 attention forward for CPUs, head dimension 128: O = softmax(scale * Q K^T) V.
//
// Layout: q, o (batch, seq, heads, 128); k, v (batch, seq, kv_heads, 128).
// Causal: query i sees keys j <= i.
// Method: online softmax over key blocks [1, 2], base-2 exponentials with a polynomial [3], K and V
// packed once per KV head into panels for register-blocked products [4]. Products are FP32, or
// BF16 pairs where a unit for them is faster (vdpbf16ps, AMX tiles); all sums are FP32. scale must be positive.
// Work: (query head, query block) units handed out by a counter, longest first under the mask.
//
// [1] Milakov, Gimelshein, Online normalizer calculation for softmax, arXiv 1805.02867
// [2] Dao, FlashAttention-2, arXiv 2307.08691
// [3] Zadouri et al., FlashAttention-4, arXiv 2603.05451 (exponential on the FMA units)
// [4] Goto, van de Geijn, Anatomy of high-performance matrix multiplication, TOMS 34(3), 2008

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "tile.h"

// Set by the loader before the first call: threads that exist already. See docs/kernel-toml.md.
extern "C" {
__attribute__((visibility("default"))) void (*avo_parallel)(void (*work)(void*, int32_t),
                                                            void* context, int32_t count) = nullptr;
}

namespace {

struct Problem {
    const uint16_t *q, *k, *v;
    uint16_t* o;
    int64_t batch, seq, heads, kv_heads;
    bool causal;
    float scale_log2e;
    int threads;
};

// work(context, 0 .. count-1), by threads of the caller's if it has some.
void in_parallel(void (*work)(void*, int32_t), void* context, int32_t count) {
    if (avo_parallel) return avo_parallel(work, context, count);
    std::vector<std::thread> others;
    for (int32_t i = 1; i < count; ++i) {
        try {
            others.emplace_back(work, context, i);
        } catch (const std::system_error&) {
            break;  // no more threads to be had: those there do all the work
        }
    }
    work(context, 0);
    for (std::thread& other : others) other.join();
}

// Numbered pieces of work that any thread may take, and a passive wait until all are done.
// It counts pieces, not threads, so it holds whichever threads could be started.
class Pieces {
  public:
    explicit Pieces(int64_t count) : count_(count) {}

    template <class Work>
    void share(const Work& work) {
        for (;;) {
            const int64_t piece = next_.fetch_add(1, std::memory_order_relaxed);
            if (piece >= count_) return;
            work(piece);
            if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
                const std::lock_guard<std::mutex> lock(mutex_);
                all_done_.notify_all();
            }
        }
    }

    void wait() {
        std::unique_lock<std::mutex> lock(mutex_);
        all_done_.wait(lock, [&] { return done_.load(std::memory_order_acquire) >= count_; });
    }

  private:
    const int64_t count_;
    std::atomic<int64_t> next_{0}, done_{0};
    std::mutex mutex_;
    std::condition_variable all_done_;
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct FreeMemory {
    void operator()(void* memory) const { std::free(memory); }
};

template <class T>
using Memory = std::unique_ptr<T[], FreeMemory>;

template <class T>
Memory<T> allocate(int64_t count) {
    const int64_t bytes = ceil_div(count * sizeof(T), 64) * 64;
    void* memory = std::aligned_alloc(64, bytes);
    if (!memory) throw std::bad_alloc();
    return Memory<T>(static_cast<T*>(memory));
}

template <class Tile>
class Attention {
  public:
    explicit Attention(const Problem& problem)
        : p_(problem),
          kv_total_(p_.batch * p_.kv_heads),
          group_(p_.heads / p_.kv_heads),
          head_words_(Keys::words(p_.seq)),
          tiles_(ceil_div(p_.seq, Tile::MR)) {
        const int64_t fit = PACKED_MIB * (int64_t{1} << 20) / (4 * head_words_);
        section_ = std::max<int64_t>(1, std::min(fit, kv_total_));
        const int64_t wanted = ceil_div(int64_t{PIECES_PER_THREAD} * p_.threads, section_ * group_);
        blocks_ = std::max(ceil_div(tiles_, QUERY_TILES), std::min(wanted, tiles_));
        threads_ = std::max<int64_t>(1, std::min<int64_t>(p_.threads, section_ * group_ * blocks_));
        packed_ = allocate<float>(section_ * head_words_);
        scratch_ = allocate<Scratch>(threads_);
        for (int64_t first = 0; first < kv_total_; first += section_) {
            const int64_t kv = std::min(section_, kv_total_ - first);
            packing_.emplace_back(new Pieces(kv * pack_pieces()));
            computing_.emplace_back(new Pieces(kv * group_ * blocks_));
        }
    }

    void run() {
        in_parallel(
            [](void* self, int32_t i) {
                Attention& attention = *static_cast<Attention*>(self);
                attention.work(attention.scratch_[i]);
            },
            this, static_cast<int32_t>(threads_));
    }

  private:
    using Keys = typename Tile::Keys;
    using Rows = typename Tile::Rows;
    static constexpr int64_t PACK_KEYS = 4 * Tile::NR;

    // What a thread needs for itself.
    struct Scratch {
        Rows rows[QUERY_TILES];
        alignas(64) float scores[Tile::MR * Tile::S_WORDS];
    };

    int64_t pack_pieces() const { return ceil_div(p_.seq, PACK_KEYS); }
    Keys packed(int64_t kv) const {
        return Keys(p_.seq, packed_.get() + kv % section_ * head_words_);
    }

    // Section by section: pack, then compute. A section's memory is that of the one before it.
    void work(Scratch& scratch) {
        const typename Tile::Session session;
        for (size_t i = 0; i < packing_.size(); ++i) {
            const int64_t first = static_cast<int64_t>(i) * section_;
            if (i > 0) computing_[i - 1]->wait();
            packing_[i]->share([&](int64_t piece) { pack(first, piece); });
            packing_[i]->wait();
            const int64_t heads = std::min(section_, kv_total_ - first) * group_;
            computing_[i]->share([&](int64_t piece) {
                // Longest first under the mask; else head by head, whose K and V stay in cache.
                const int64_t head = p_.causal ? piece % heads : piece / blocks_;
                const int64_t block = p_.causal ? blocks_ - 1 - piece / heads : piece % blocks_;
                attend(first * group_ + head, block * tiles_ / blocks_,
                       (block + 1) * tiles_ / blocks_, scratch);
            });
        }
    }

    void pack(int64_t first, int64_t piece) const {
        const int64_t kv = first + piece / pack_pieces();
        const int64_t stride = p_.kv_heads * HEAD_DIMENSION;
        const int64_t start =
            (kv / p_.kv_heads * p_.seq * p_.kv_heads + kv % p_.kv_heads) * HEAD_DIMENSION;
        const int64_t begin = piece % pack_pieces() * PACK_KEYS;
        const int64_t end = std::min(begin + PACK_KEYS, p_.seq);
        const Keys keys = packed(kv);
        for (int64_t key = begin; key < end; key += Tile::NR) {
            keys.pack(p_.k + start, p_.v + start, stride, key);
        }
    }

    // Row tiles begin .. end-1 of one head (heads counted over the batch).
    void attend(int64_t head, int64_t begin, int64_t end, Scratch& scratch) const {
        Rows* rows = scratch.rows;
        const Tile tile = {scratch.scores};
        const int64_t stride = p_.heads * HEAD_DIMENSION;
        const int64_t start =
            (head / p_.heads * p_.seq * p_.heads + head % p_.heads) * HEAD_DIMENSION;
        const uint16_t* q = p_.q + start;
        uint16_t* o = p_.o + start;
        const Keys keys = packed(head / group_);
        const int64_t last = p_.causal ? std::min(end * Tile::MR, p_.seq) : p_.seq;
        for (int64_t key = 0; key < last; key += Tile::KB) {
            for (int64_t t = begin; t < end; ++t) {
                const int64_t row = t * Tile::MR;
                const int64_t limit = p_.causal ? std::min(row + Tile::MR, p_.seq) : p_.seq;
                if (key >= limit) continue;
                // Memory that the next steps touch is fetched under this one's arithmetic.
                if (key == 0) {
                    prepare(rows[t - begin], q, stride, row);
                    if (t + 1 < end) prefetch<0>(q, stride, row + Tile::MR);
                }
                const bool finished = key + Tile::KB >= limit;
                if (finished) prefetch<1>(o, stride, row);
                tile.step(rows[t - begin], keys, key, std::min<int64_t>(limit - key, Tile::KB),
                          p_.causal ? row : p_.seq - 1, p_.scale_log2e);
                if (finished) finish(rows[t - begin], o, stride, row);
            }
        }
    }

    template <int FOR_WRITING>
    void prefetch(const uint16_t* rows, int64_t stride, int64_t first) const {
        for (int64_t row = first; row < std::min(first + Tile::MR, p_.seq); ++row) {
            for (int j = 0; j < HEAD_DIMENSION; j += 32) {
                __builtin_prefetch(rows + row * stride + j, FOR_WRITING);
            }
        }
    }

    // Queries past the end are zeros: finite scores, never stored.
    void prepare(Rows& rows, const uint16_t* q, int64_t stride, int64_t first) const {
        for (int i = 0; i < Tile::MR; ++i) {
            rows.maximum[i] = -std::numeric_limits<float>::infinity();
            store(rows.sum + i * LANES, Vec{});
            float* to = rows.q + i * Tile::Q_WORDS;
            const uint16_t* from = q + (first + i) * stride;
            if (first + i >= p_.seq) {
                std::memset(to, 0, Tile::Q_WORDS * 4);
            } else if (Tile::Dot::DEPTH == 2) {
                std::memcpy(to, from, Tile::Q_WORDS * 4);
            } else {
                for (int j = 0; j < HEAD_DIMENSION; j += LANES) store(to + j, widen_bf16(from + j));
            }
        }
    }

    void finish(const Rows& rows, uint16_t* o, int64_t stride, int64_t first) const {
        for (int i = 0; i < Tile::MR && first + i < p_.seq; ++i) {
            const Vec lanes = load<Vec>(rows.sum + i * LANES);
            const Vec sum = broadcast(across_lanes(lanes, [](Vec a, Vec b) { return a + b; }));
            const Vec inverse = 1.0f / sum;
            for (int j = 0; j < HEAD_DIMENSION; j += LANES) {
                const Vec total = load<Vec>(rows.o + i * HEAD_DIMENSION + j);
                store_bf16(o + (first + i) * stride + j, divide(total, sum, inverse));
            }
        }
    }

    const Problem p_;
    const int64_t kv_total_, group_, head_words_;
    const int64_t tiles_;  // row tiles of a head
    int64_t blocks_ = 1;   // query blocks of a head, at most QUERY_TILES row tiles each
    int64_t section_ = 1;  // KV heads packed at a time
    int64_t threads_ = 1;
    Memory<float> packed_;
    Memory<Scratch> scratch_;
    std::vector<std::unique_ptr<Pieces>> packing_, computing_;
};

// The sums of a tile and what they are made from fill the vector registers: 32 of them with AVX-512
// (and on AArch64), 16 with AVX2. FP32 has twice the panel bytes per step, hence its taller tile.
#if SIMD_AVX512
using FloatTile = Tile<FloatDot, FLOAT_ROWS, FLOAT_VECTORS, KEY_BLOCK>;
#elif defined(__x86_64__)
using FloatTile = Tile<FloatDot, AVX2_ROWS, 2, KEY_BLOCK>;
#else
using FloatTile = Tile<FloatDot, 6, 4, KEY_BLOCK>;
#endif

}  // namespace

extern "C" void attention_forward(const uint16_t* q, const uint16_t* k, const uint16_t* v,
                                  uint16_t* o, int64_t batch, int64_t seq, int64_t heads,
                                  int64_t kv_heads, int32_t causal, float scale_log2e,
                                  int32_t threads) {
    const Problem problem = {q,     k,        v,           o,           batch,  seq,
                             heads, kv_heads, causal != 0, scale_log2e, threads};
#if SIMD_AMX
    if (AMX && tiles_allowed()) {
        Attention<Tile<AmxDot, 32, 32 / LANES, KEY_BLOCK>>(problem).run();
        return;
    }
#endif
#if SIMD_BF16_DOT
    // vdpbf16ps has twice the FLOP rate of FP32 FMA on AMD's cores (Zen 4 on), half on Intel's.
    if (DOT_BF16 == 1 || (DOT_BF16 == 2 && __builtin_cpu_is("amd"))) {
        Attention<Tile<Bf16Dot, BF16_ROWS, BF16_VECTORS, KEY_BLOCK>>(problem).run();
        return;
    }
#endif
    Attention<FloatTile>(problem).run();
}
