// SPDX-License-Identifier: MIT
//
// BF16 attention forward for CPUs, head dimension 128: O = softmax(scale * Q K^T) V.
//
// Layout: q, o (batch, seq, heads, 128); k, v (batch, seq, kv_heads, 128).
// Causal: query i sees keys j <= i.
// Method: online softmax over key blocks [1, 2], base-2 exponentials with a polynomial [3], K and V
// packed once per KV head into panels for register-blocked products [4]. Products are FP32, or
// BF16 pairs where a unit for them is faster (vdpbf16ps, AMX tiles); all sums are FP32. scale must be positive.
// Work: each thread packs a KV head into its own cache and attends to it, as long as there is one for
// every thread; then they help each other. The last heads, fewer than threads, are packed by all.
// Attention is handed out in query blocks, longest first under the mask.
//
// [1] Milakov, Gimelshein, Online normalizer calculation for softmax, arXiv 1805.02867
// [2] Dao, FlashAttention-2, arXiv 2307.08691
// [3] Zadouri et al., FlashAttention-4, arXiv 2603.05451 (exponential on the FMA units)
// [4] Goto, van de Geijn, Anatomy of high-performance matrix multiplication, TOMS 34(3), 2008

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
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
    float* packed;
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

// Counts finished pieces of work of one kind; whoever needs all of them waits, first actively.
// It counts pieces, not threads, so it holds whichever threads could be started.
class Finished {
  public:
    void one_more(int64_t all) {
        if (count_.fetch_add(1, std::memory_order_acq_rel) + 1 < all) return;
        const std::lock_guard<std::mutex> lock(mutex_);
        changed_.notify_all();
    }

    void wait(int64_t all) {
        for (int i = 0; i < 1000; ++i) {
            if (count_.load(std::memory_order_acquire) >= all) return;
            relax();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return count_.load(std::memory_order_acquire) >= all; });
    }

  private:
    static void relax() {  // leaves the core to its other thread
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }

    std::atomic<int64_t> count_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class Tile>
class Attention {
  public:
    explicit Attention(const Problem& problem)
        : p_(problem),
          kv_total_(p_.batch * p_.kv_heads),
          group_(p_.heads / p_.kv_heads),
          head_words_(Keys::words(p_.seq)),
          tiles_(ceil_div(p_.seq, Tile::MR)),
          heads_(kv_total_) {
        const int64_t fit = PACKED_MIB * (int64_t{1} << 20) / (4 * head_words_);
        const int64_t slots = std::max<int64_t>(1, std::min(fit, kv_total_));
        const int64_t wanted = ceil_div(int64_t{PIECES_PER_THREAD} * p_.threads, slots * group_);
        blocks_ = std::max(ceil_div(tiles_, QUERY_TILES), std::min(wanted, tiles_));
        threads_ = std::max<int64_t>(1, std::min<int64_t>(p_.threads, slots * group_ * blocks_));
        attend_pieces_ = group_ * blocks_;
        own_ = kv_total_ / threads_ * threads_;
        if (slots < threads_ + std::min<int64_t>(kv_total_ - own_, 2)) own_ = 0;  // no room
        ring_begin_ = own_ > 0 ? threads_ : 0;
        ring_ = std::max<int64_t>(1, std::min(slots - ring_begin_, kv_total_ - own_));
        ahead_ = std::min(ring_, std::max<int64_t>(2, ceil_div(2 * threads_, pack_pieces())));
    }

    void run() {
        in_parallel(
            [](void* self, int32_t index) {
                Scratch scratch;  // on the stack, whose pages are there since the first launch
                static_cast<Attention*>(self)->work(index, scratch);
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

    // A KV head: where it is packed, and how far that and the attention to it have come.
    struct Head {
        int64_t slot = 0;
        std::atomic<int64_t> taken{0};
        Finished packed, attended;
    };

    int64_t pack_pieces() const { return ceil_div(p_.seq, PACK_KEYS); }
    Keys shared_slot(int64_t kv) const { return slot(ring_begin_ + (kv - own_) % ring_); }
    Keys slot(int64_t number) const { return Keys(p_.seq, p_.packed + number * head_words_); }

    void work(int64_t index, Scratch& scratch) {
        const typename Tile::Session session;
        for (int64_t kv; (kv = next_own_.fetch_add(1, std::memory_order_relaxed)) < own_;) {
            heads_[kv].slot = index;  // free again: nobody helps while there are heads to begin
            for (int64_t piece = 0; piece < pack_pieces(); ++piece) pack(kv, piece, slot(index));
            attend_to(kv, scratch);
        }
        share(scratch);
        for (int64_t kv = own_ - 1; kv >= std::max<int64_t>(0, own_ - threads_); --kv) {
            heads_[kv].packed.wait(pack_pieces());
            attend_to(kv, scratch);
        }
    }

    // The last heads, fewer than threads. They are packed some way ahead of where they are attended
    // to, so that nobody waits for long, into a ring of slots.
    void share(Scratch& scratch) {
        const int64_t begin = ahead_ * pack_pieces(), period = attend_pieces_ + pack_pieces();
        for (;;) {
            const int64_t piece = next_.fetch_add(1, std::memory_order_relaxed);
            const int64_t kv = own_ + (piece < begin ? 0 : (piece - begin) / period);
            if (kv >= kv_total_) return;
            const int64_t rest = (piece - begin) % period;
            if (piece < begin) {
                pack_shared(own_ + piece / pack_pieces(), piece % pack_pieces());
            } else if (rest < attend_pieces_) {
                heads_[kv].packed.wait(pack_pieces());
                attend_piece(kv, rest, shared_slot(kv), scratch);
                heads_[kv].attended.one_more(attend_pieces_);
            } else if (kv + ahead_ < kv_total_) {
                pack_shared(kv + ahead_, rest - attend_pieces_);
            }
        }
    }

    void pack_shared(int64_t kv, int64_t piece) {
        if (kv - own_ >= ring_) heads_[kv - ring_].attended.wait(attend_pieces_);
        pack(kv, piece, shared_slot(kv));
    }

    void pack(int64_t kv, int64_t piece, const Keys& keys) {
        const int64_t stride = p_.kv_heads * HEAD_DIMENSION;
        const int64_t start =
            (kv / p_.kv_heads * p_.seq * p_.kv_heads + kv % p_.kv_heads) * HEAD_DIMENSION;
        const int64_t end = std::min((piece + 1) * PACK_KEYS, p_.seq);
        for (int64_t key = piece * PACK_KEYS; key < end; key += Tile::NR) {
            keys.pack(p_.k + start, p_.v + start, stride, key);
        }
        heads_[kv].packed.one_more(pack_pieces());
    }

    // What nobody has taken yet of a packed head.
    void attend_to(int64_t kv, Scratch& scratch) {
        Head& head = heads_[kv];
        for (;;) {
            const int64_t piece = head.taken.fetch_add(1, std::memory_order_relaxed);
            if (piece >= attend_pieces_) return;
            attend_piece(kv, piece, slot(head.slot), scratch);
        }
    }

    // A query block of one of the heads that share `kv`; longest first under the mask.
    void attend_piece(int64_t kv, int64_t piece, const Keys& keys, Scratch& scratch) const {
        const int64_t block = p_.causal ? blocks_ - 1 - piece / group_ : piece % blocks_;
        const int64_t head = p_.causal ? piece % group_ : piece / blocks_;
        attend(kv * group_ + head, block * tiles_ / blocks_, (block + 1) * tiles_ / blocks_, keys,
               scratch);
    }

    // Row tiles begin .. end-1 of one head (heads counted over the batch).
    void attend(int64_t head, int64_t begin, int64_t end, const Keys& keys,
                Scratch& scratch) const {
        Rows* rows = scratch.rows;
        const Tile tile = {scratch.scores};
        const int64_t stride = p_.heads * HEAD_DIMENSION;
        const int64_t start =
            (head / p_.heads * p_.seq * p_.heads + head % p_.heads) * HEAD_DIMENSION;
        const uint16_t* q = p_.q + start;
        uint16_t* o = p_.o + start;
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
    int64_t blocks_ = 1;      // query blocks of a head, at most QUERY_TILES row tiles each
    int64_t threads_ = 1, attend_pieces_ = 1;
    int64_t own_ = 0;         // KV heads that one thread each packs and attends to
    int64_t ring_begin_ = 0;  // the first slot of those that the others share, and
    int64_t ring_ = 1;        // how many these are
    int64_t ahead_ = 1;       // heads packed before they are needed
    std::atomic<int64_t> next_own_{0}, next_{0};
    std::vector<Head> heads_;
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
                                  uint16_t* o, void* packed, int64_t batch, int64_t seq,
                                  int64_t heads, int64_t kv_heads, int32_t causal,
                                  float scale_log2e, int32_t threads) {
    const Problem problem = {q,   k,     v,        o,           static_cast<float*>(packed), batch,
                             seq, heads, kv_heads, causal != 0, scale_log2e, threads};
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
