// SPDX-License-Identifier: MIT
// BF16 attention forward for Hopper (sm_90a): O = softmax(Q K^T scale) V, head_dim 128, GQA, causal or full.
// q, o: [batch, seq, heads, 128]; k, v: [batch, seq, heads / group, 128]; all dense.
//
// Shape: one persistent CTA an SM, three warpgroups. One thread of the first walks the tiles and feeds rings of
// K and V (128 keys each) by TMA. The other two warpgroups own 64 query rows each and take turns at the tensor
// cores: a turn is S = Q K^T for the next keys, then O += P V for the present ones. The softmax of one runs
// under the turn of the other. P stays in registers: an accumulator, packed, is an A operand as it stands.
// Turns do not stop at the end of a row block: the last one also computes the first scores of the next block,
// whose Q is already there (two buffers), and O leaves through the buffer of the Q that it belongs to. Until the turns
// are in step again no tensor core works, so that whatever can be is kept out of the warpgroups' way there: a warp of
// the first copies O out, and of a tile on the diagonal the upper warpgroup's half that is masked is not computed.
//
// Softmax almost without maxima: P = 2^(s scale - offset), where `offset` is the row's maximum over its first two
// tiles of keys. Floating point does not mind an offset that is too small until something overflows, and sums, which
// are needed anyway, tell in time (rise_limit). Only then a warp computes its scores again, takes maxima, moves
// offsets. Maxima on each tile of keys cost 10 %.
//
// Accuracy: where the largest weight is exactly 1 it has no rounding error, hence the second tile (when causal the
// first is half masked). Sums are of the weights as P has them, so that the error of a large one is in numerator
// and denominator: exact ones in the first three tiles, in BF16 later, since rows with more keys have small weights,
// mostly. On the correctness set this errs as exact maxima with sums of unrounded weights do; a row of thousands of
// keys with a large weight among its later ones errs more.
//
// Balance: causal row blocks go longest first, by a counter, as late as can be: SMs differ by 2 to 3 % in clock alone.
// With full masks every CTA takes the same number of row blocks; the rest, one to two rounds of them, is cut into
// equal shares of key blocks, so that no last round is nearly empty (+3.5 % for 4096 row blocks on 132 SMs). A row
// block that is cut in two is finished by the CTA with its first keys; it adds what the next CTA left at the start of
// its share.
//
// Figures: speed on an H200 against the same code without the point in question.

typedef unsigned int u32;
typedef unsigned long long u64;

// Enumerators, because a namespace-scope constexpr would be a __device__ variable.
enum : int {
  head_dim = 128,
  block_m = 128,  // query rows of a CTA
  block_n = 128,  // keys of a tile
  group_rows = 64,
  consumers = block_m / group_rows,
  threads = 128 * (consumers + 1),
  kv_bytes = block_n * head_dim * 2,
  kv_slab_bytes = kv_bytes / 2,
  q_group_bytes = group_rows * head_dim * 2,
  q_slab_bytes = q_group_bytes / 2,
  q_bytes = consumers * q_group_bytes,
  k_at = 2 * q_bytes,
  v_at = k_at + K_STAGES * kv_bytes,
  barriers_at = v_at + V_STAGES * kv_bytes,
  tiles_at = barriers_at + 16 * (K_STAGES + V_STAGES + 2),
  partial_size = 17 * 128 * consumers,  // of a row block's partial result, in float4
  turn_barrier = 1,                     // named barriers, one for each warpgroup: its turn,
  own_barrier = 3,                      // its warps,
  done_barrier = 5,                     // its row block done
};
#define infinity __int_as_float(0x7f800000)
// Of a lane's 32 weights in a row: rarely reached by chance, and far below what overflows P or O.
#define rise_limit 1024.0f
#define early_limit -1.0f  // exceeded by every sum

static_assert(tiles_at + 64 <= 232448, "five tiles of keys fit beside two of queries");

struct alignas(64) TensorMap {
  u64 opaque[16];
};

// --- PTX ---------------------------------------------------------------------------------------

__device__ __forceinline__ void barrier_init(u32 at, u32 count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}

__device__ __forceinline__ void barrier_arrive(u32 at) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(at) : "memory");
}

__device__ __forceinline__ void barrier_expect(u32 at, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_wait(u32 at, u32 parity) {
  asm volatile("{\n.reg .pred p;\nW: mbarrier.try_wait.parity.shared.b64 p, [%0], %1;\n@!p bra W;\n}" ::"r"(at),
               "r"(parity)
               : "memory");
}

__device__ __forceinline__ void load_box(u32 to, const TensorMap* map, u32 barrier, int row, int head, int entry) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4, %2, %5}], [%6];" ::"r"(to),
      "l"(map), "r"(0), "r"(row), "r"(head), "r"(entry), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void store_box(u32 from, const TensorMap* map, int row, int head, int entry) {
  asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.tile.bulk_group [%1, {%2, %3, %4, %2, %5}], [%0];" ::"r"(
                   from),
               "l"(map), "r"(0), "r"(row), "r"(head), "r"(entry)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

__device__ __forceinline__ void wait_store_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void named_sync(u32 id, u32 count) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
}

__device__ __forceinline__ void named_arrive(u32 id, u32 count) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory");
}

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

template <int pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// Results of wgmma are to be read after this point only.
__device__ __forceinline__ void pin(float (&r)[64]) {
#pragma unroll
  for (int i = 0; i < 64; i++) asm volatile("" : "+f"(r[i])::"memory");
}

#define F4(a, i) "+f"(a[i]), "+f"(a[i + 1]), "+f"(a[i + 2]), "+f"(a[i + 3])
#define F16(a, i) F4(a, i), F4(a, i + 4), F4(a, i + 8), F4(a, i + 12)
#define F32(a) F16(a, 0), F16(a, 16)
#define F64(a) F32(a), F16(a, 32), F16(a, 48)
#define D32                                                                                                  \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27," \
  "%28,%29,%30,%31}"
#define D64                                                                                                  \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27," \
  "%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,"    \
  "%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"

// For wgmma, of a matrix in shared memory: 128-byte swizzle, groups of 8 rows 1024 bytes apart; low: address / 16.
__device__ __forceinline__ u64 descriptor(u32 low) { return (u64)0x40000040 << 32 | low; }

// Made anew for each step it would cost two instructions: ptxas makes the upper half anew as well (13.0 always does).
__device__ __forceinline__ void walk(u64& d, u32 by) {
  asm volatile("{\n.reg .b32 low, high;\nmov.b64 {low, high}, %0;\nadd.u32 low, low, %1;\nmov.b64 %0, {low, high};\n}"
               : "+l"(d)
               : "r"(by));
}

__device__ __forceinline__ void multiply_ss(float (&d)[64], u64 a, u64 b, int add) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " D64
               ", %64, %65, p, 1, 1, 0, 0;\n}"
               : F64(d)
               : "l"(a), "l"(b), "r"(add));
}

// These two of the first half of a tile's keys only.
__device__ __forceinline__ void multiply_half_ss(float (&d)[64], u64 a, u64 b, int add) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " D32
               ", %32, %33, p, 1, 1, 0, 0;\n}"
               : F32(d)
               : "l"(a), "l"(b), "r"(add));
}

__device__ __forceinline__ void multiply_half_rs(float (&d)[64], const u32* a, u64 b, int add) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " D32
               ", {%32,%33,%34,%35}, %36, p, 1, 1, 0;\n}"
               : F32(d)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add));
}

// With a from registers. b_rows: b is stored with its columns side by side (V), not its rows (K).
template <int b_rows>
__device__ __forceinline__ void multiply_rs(float (&d)[64], const u32* a, u64 b, int add) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " D64
               ", {%64,%65,%66,%67}, %68, p, 1, 1, %70;\n}"
               : F64(d)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(b_rows));
}

__device__ __forceinline__ void load_matrices(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}

__device__ __forceinline__ void store_matrices(u32 to, u32 a, u32 b, u32 c, u32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(a), "r"(b), "r"(c),
               "r"(d)
               : "memory");
}

__device__ __forceinline__ void multiply_add(float* c, const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ u32 add_pairs(u32 a, u32 b) {
  u32 r;
  asm("add.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}

__device__ __forceinline__ u32 pack(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// --- tiles -------------------------------------------------------------------------------------

struct __align__(16) Tile {
  int row, head, entry, blocks;  // blocks of keys; 0: no more tiles
  int first, partner, pad[2];    // first block; of a row block cut in two: whose partial result, else -1
};

struct Sizes {
  int seq, heads, group, batch, section;
};

// Addresses of barriers and buffers in shared memory; `full` and `empty` per buffer.
struct Shared {
  u32 base, q_full, q_empty, k_full, k_empty, v_full, v_empty;
  Tile* tiles;  // one for each buffer of Q
};

// Row blocks of `section` heads, whose K and V stay in the L2 together, are neighbours; when causal, long ones first.
__device__ __forceinline__ Tile tile_of(int index, const Sizes& z) {
  const int row_blocks = (z.seq + block_m - 1) / block_m;
  const int all_heads = z.heads * z.batch;
  if (index >= all_heads * row_blocks) return {0, 0, 0, 0, 0, -1};
  const int first = index / (z.section * row_blocks) * z.section;
  const int here = min(z.section, all_heads - first);
  const int rest = index - first * row_blocks;
  const int m = CAUSAL ? row_blocks - 1 - rest / here : rest / here;
  const int which = first + rest % here;
  const int blocks = CAUSAL ? m + 1 : (z.seq + block_n - 1) / block_n;
  return {m * block_m, which % z.heads, which / z.heads, blocks, 0, -1};
}

// What this CTA does, tile by tile.
struct Schedule {
  int index;          // of the next whole row block; when causal, less gridDim.x
  int rounds, whole;  // full masks: how many of them are mine, and in all
  int key_blocks;     // of a row block
  int unit, end;      // my share of the key blocks of those that follow

  __device__ __forceinline__ explicit Schedule(const Sizes& z) : index(CAUSAL ? blockIdx.x - gridDim.x : blockIdx.x) {
    const int ctas = gridDim.x, all = (z.seq + block_m - 1) / block_m * z.heads * z.batch;
    key_blocks = (z.seq + block_n - 1) / block_n;
    rounds = all / ctas - 1;
    whole = rounds * ctas;
    // At least one row block's worth for each CTA, so that none is cut into more than two.
    const long long units = (long long)(all - whole) * key_blocks;
    unit = (int)(blockIdx.x * units / ctas);
    end = (int)((blockIdx.x + 1) * units / ctas);
  }

  // Before `next`, early enough to hide the latency and no earlier: the row block should go to who is free first.
  __device__ __forceinline__ void claim(u32* counters) { index = atomicAdd(counters, 1); }

  __device__ __forceinline__ Tile next(const Sizes& z) {
    if (CAUSAL) return tile_of(index + gridDim.x, z);
    if (rounds-- > 0) {
      const Tile tile = tile_of(index, z);
      index += gridDim.x;
      return tile;
    }
    Tile tile = {0, 0, 0, 0, 0, -1};
    if (unit < end) {
      tile = tile_of(whole + unit / key_blocks, z);
      tile.first = unit % key_blocks;
      tile.blocks = min(key_blocks - tile.first, end - unit);
      unit += tile.blocks;
      if (tile.blocks < key_blocks) tile.partner = tile.first ? blockIdx.x : blockIdx.x + 1;
    }
    return tile;
  }
};

// A ring position: which buffer, and the parity of its current phase.
template <int stages>
struct Ring {
  u32 stage, parity;
  __device__ __forceinline__ void advance() {
    if (++stage == stages) stage = 0, parity ^= 1;
  }
};

// One tile of K or V, when its buffer is free.
__device__ __forceinline__ void load_keys(u32 to, const TensorMap* map, u32 full, u32 empty, u32 free, int row,
                                          int head, int entry) {
  barrier_wait(empty, free);
  barrier_expect(full, kv_bytes);
  load_box(to, map, full, row, head, entry);
}

// What the loading thread does. Not the next Q before this tile's last keys: fetching it earlier gained nothing.
__device__ __forceinline__ void produce(const Shared& at, const Sizes& z, const TensorMap* q_map,
                                        const TensorMap* k_map, const TensorMap* v_map, u32* counters) {
  Schedule schedule(z);
  Ring<K_STAGES> k{0, 1};
  Ring<V_STAGES> v{0, 1};
  for (int count = 0;; count++) {
    const Tile tile = schedule.next(z);
    const u32 buffer = count & 1;
    barrier_wait(at.q_empty + 8 * buffer, (count >> 1 & 1) ^ 1);
    at.tiles[buffer] = tile;
    if (tile.blocks == 0) {
      barrier_arrive(at.q_full + 8 * buffer);
      break;
    }
    barrier_expect(at.q_full + 8 * buffer, q_bytes);
#pragma unroll 1
    for (int g = 0; g < consumers; g++)
      load_box(at.base + buffer * q_bytes + g * q_group_bytes, q_map, at.q_full + 8 * buffer, tile.row + g * group_rows,
               tile.head, tile.entry);
    const int head = tile.head / z.group;
#pragma unroll 1
    for (int n = tile.first + tile.blocks - 1; n >= tile.first; n--) {
      if (CAUSAL && n == min(1, tile.blocks - 1)) schedule.claim(counters);
      load_keys(at.base + k_at + k.stage * kv_bytes, k_map, at.k_full + 8 * k.stage, at.k_empty + 8 * k.stage, k.parity,
                n * block_n, head, tile.entry);
      k.advance();
      load_keys(at.base + v_at + v.stage * kv_bytes, v_map, at.v_full + 8 * v.stage, at.v_empty + 8 * v.stage, v.parity,
                n * block_n, head, tile.entry);
      v.advance();
    }
  }
#if CAUSAL
  // The last CTA to finish returns the counters to zero.
  __threadfence();
  if (atomicAdd(counters + 1, 1) == gridDim.x - 1) {
    counters[0] = 0;
    counters[1] = 0;
  }
#endif
}

// What a warp beside it does: copies each row block's O out of its Q's buffer, then gives that back. Both warpgroups
// arrive when they are done with the block; the fence between their stores and the copy, which would hold them up, may
// stand behind that barrier (Lustig et al., Mixed-proxy extensions for the PTX memory consistency model, ISCA 2022).
__device__ __forceinline__ void deliver(const Shared& at, const TensorMap* o_map) {
  const bool leader = threadIdx.x % 32 == 0;
  for (int count = 0;; count++) {
    const u32 buffer = count & 1;
    barrier_wait(at.q_full + 8 * buffer, count >> 1 & 1);
    const Tile tile = at.tiles[buffer];
    if (tile.blocks == 0) break;
    const bool donated = tile.partner >= 0 && tile.first > 0;  // to the CTA that has the first keys
#pragma unroll
    for (int g = 0; g < consumers; g++) {
      named_sync(done_barrier + g, 128 + 32);
      if (donated || !leader) continue;
      fence_async();
      // Rows beyond the sequence are clipped by the copy.
      store_box(at.base + buffer * q_bytes + g * q_group_bytes, o_map, tile.row + g * group_rows, tile.head,
                tile.entry);
    }
    if (leader) {
      wait_store_read();
      barrier_arrive(at.q_empty + 8 * buffer);
    }
  }
  if (leader) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// --- softmax -----------------------------------------------------------------------------------

// Lane l of a warp holds rows l/4 and l/4 + 8 of its 16, columns 2(l%4) and 2(l%4) + 1 of each 8.
struct Rows {
  float offset[2];  // log2 of what the weights are divided by
  float sum[2];     // this lane's part
};

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

template <int keys = block_n>
__device__ __forceinline__ void row_maxima(float (&top)[2], const float (&s)[64]) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    float a = fmaxf(s[2 * h], s[2 * h + 1]), b = fmaxf(s[2 * h + 4], s[2 * h + 5]);
#pragma unroll
    for (int j = 2; j < keys / 8; j += 2) {
      a = fmaxf(a, fmaxf(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]));
      b = fmaxf(b, fmaxf(s[4 * j + 4 + 2 * h], s[4 * j + 4 + 2 * h + 1]));
    }
    top[h] = quad_max(fmaxf(a, b));
  }
}

// p: 2^(s scale - offset) in BF16.
template <int keys = block_n>
__device__ __forceinline__ void weights(u32 (&p)[32], const float (&s)[64], const float (&offset)[2], float scale) {
#pragma unroll
  for (int i = 0; i < keys / 4; i++)
    p[i] = pack(exp2_fast(fmaf(s[2 * i], scale, -offset[i % 2])), exp2_fast(fmaf(s[2 * i + 1], scale, -offset[i % 2])));
}

// This lane's part of its rows' sums, by a tree of additions in BF16: half the instructions of sums in FP32. Each
// addition rounds to 2^-9, but thousands of them do so independently.
__device__ __forceinline__ void add_weights(float (&sum)[2], const u32 (&p)[32]) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    u32 x[8];
#pragma unroll
    for (int i = 0; i < 8; i++) x[i] = add_pairs(p[4 * i + h], p[4 * i + 2 + h]);
    const u32 early = add_pairs(add_pairs(x[0], x[1]), add_pairs(x[2], x[3]));
    const u32 y = add_pairs(add_pairs(early, add_pairs(add_pairs(x[4], x[5]), x[6])), x[7]);  // the last comes late
    sum[h] = __uint_as_float(y << 16) + __uint_as_float(y & 0xffff0000u);
  }
}

// The same, exactly.
template <int keys = block_n>
__device__ __forceinline__ void sum_weights(float (&sum)[2], const u32 (&p)[32]) {
  float part[2][2];
#pragma unroll
  for (int i = 0; i < keys / 4; i++) {
    const float low = __uint_as_float(p[i] << 16), high = __uint_as_float(p[i] & 0xffff0000u);
    part[i % 2][0] = i > 1 ? part[i % 2][0] + low : low;
    part[i % 2][1] = i > 1 ? part[i % 2][1] + high : high;
  }
  sum[0] = part[0][0] + part[0][1];
  sum[1] = part[1][0] + part[1][1];
}

// Columns above the last allowed one.
__device__ __forceinline__ void mask(float (&s)[64], int last) {
#pragma unroll
  for (int i = 0; i < 64; i++)
    if (8 * (i / 4) + i % 2 > last) s[i] = -infinity;
}

// The same of a tile on the diagonal, in the half of its keys that are this warpgroup's own rows, from `from` on.
template <int from>
__device__ __forceinline__ void mask_diagonal(float (&s)[64], int last) {
#pragma unroll
  for (int i = 0; i < 32; i++)
    if (8 * (i / 4) + i % 2 > last + i / 2 % 2 * 8) s[from / 2 + i] = -infinity;
}

// Moves the offsets up to the maxima of the scores; O and sums are to shrink by so much.
__device__ __forceinline__ void raise(Rows& rows, float (&shrink)[2], const float (&s)[64], float scale) {
  float top[2];
  row_maxima(top, s);
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const float offset = fmaxf(rows.offset[h], top[h] * scale);
    shrink[h] = exp2_fast(rows.offset[h] - offset);
    rows.offset[h] = offset;
  }
}

__device__ __forceinline__ void rescale(Rows& rows, float (&o)[64], const float (&shrink)[2]) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    rows.sum[h] *= shrink[h];
#pragma unroll
    for (int d = 0; d < 16; d++) {
      o[4 * d + 2 * h] *= shrink[h];
      o[4 * d + 2 * h + 1] *= shrink[h];
    }
  }
}

// --- row blocks cut in two ----------------------------------------------------------------------

__device__ __forceinline__ void donate(float4* slot, u32* flag, const float (&o)[64], const Rows& rows, u32 barrier,
                                       bool leader) {
#pragma unroll
  for (int i = 0; i < 16; i++)
    slot[i * 128 * consumers] = make_float4(o[4 * i], o[4 * i + 1], o[4 * i + 2], o[4 * i + 3]);
  slot[16 * 128 * consumers] = make_float4(rows.offset[0], rows.offset[1], rows.sum[0], rows.sum[1]);
  __threadfence();
  named_sync(barrier, 128);
  if (leader) asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(flag) : "memory");
}

// The donor had less to do before this, so that the wait is short; all CTAs are resident, so that it ends.
__device__ __forceinline__ void collect(const float4* slot, u32* flag, float (&o)[64], Rows& rows, u32 barrier,
                                        bool leader) {
  if (leader) {
    u32 there;
    do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(there) : "l"(flag) : "memory");
    while (!there);
    *flag = 0;
  }
  named_sync(barrier, 128);
  const float4 x = __ldcg(slot + 16 * 128 * consumers);
  const float offset[2] = {x.x, x.y}, sum[2] = {x.z, x.w};
  float ours[2], theirs[2];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const float top = fmaxf(rows.offset[h], offset[h]);
    ours[h] = exp2_fast(rows.offset[h] - top);
    theirs[h] = exp2_fast(offset[h] - top);
    rows.sum[h] = rows.sum[h] * ours[h] + sum[h] * theirs[h];
  }
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const float4 y = __ldcg(slot + i * 128 * consumers);
    o[4 * i] = o[4 * i] * ours[0] + y.x * theirs[0];
    o[4 * i + 1] = o[4 * i + 1] * ours[0] + y.y * theirs[0];
    o[4 * i + 2] = o[4 * i + 2] * ours[1] + y.z * theirs[1];
    o[4 * i + 3] = o[4 * i + 3] * ours[1] + y.w * theirs[1];
  }
}

// --- kernel ------------------------------------------------------------------------------------

// scale is 1 / sqrt(head_dim) * log2(e). counters: 2 when causal, else a flag for each CTA and warpgroup; zero.
extern "C" __global__ void __launch_bounds__(threads, 1)
    attention_forward(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map,
                      const __grid_constant__ TensorMap v_map, const __grid_constant__ TensorMap o_map, u32* counters,
                      float scale, int seq, int heads, int group, int batch, int section, float4* partial) {
  extern __shared__ __align__(1024) char shared[];  // 2 x Q | K ring | V ring | barriers | tiles
  const u32 base = (u32)__cvta_generic_to_shared(shared), barriers = base + barriers_at;
  const Shared at = {base,
                     barriers + 16 * (K_STAGES + V_STAGES),
                     barriers + 16 * (K_STAGES + V_STAGES) + 16,
                     barriers,
                     barriers + 8 * K_STAGES,
                     barriers + 16 * K_STAGES,
                     barriers + 16 * K_STAGES + 8 * V_STAGES,
                     (Tile*)(shared + tiles_at)};
  // From a shuffle, so that ptxas knows it is the same for the warp and keeps descriptors in uniform registers.
  const int role = __shfl_sync(~0u, threadIdx.x / 128, 0);

  if (threadIdx.x == 0) {
    for (int i = 0; i < K_STAGES; i++) {
      barrier_init(at.k_full + 8 * i, 1);
      barrier_init(at.k_empty + 8 * i, consumers * 4);
    }
    for (int i = 0; i < V_STAGES; i++) {
      barrier_init(at.v_full + 8 * i, 1);
      barrier_init(at.v_empty + 8 * i, consumers * 4);
    }
    for (int i = 0; i < 2; i++) {
      barrier_init(at.q_full + 8 * i, 1);
      barrier_init(at.q_empty + 8 * i, 1);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    fence_async();
  }
  __syncthreads();

  if (role == 0) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x == 0) produce(at, {seq, heads, group, batch, section}, &q_map, &k_map, &v_map, counters);
    if (threadIdx.x / 32 == 1) deliver(at, &o_map);
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    const int me = role - 1;
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3, own = own_barrier + me;
    const bool leader = threadIdx.x % 128 == 0;
    const u32 k_base = (base + k_at) >> 4, q_base = (base + me * q_group_bytes) >> 4;
    const u32 v_base = (kv_slab_bytes >> 4) << 16 | (base + v_at) >> 4;
    // This lane's row for ldmatrix and stmatrix, in this warp's 16 of Q or O
    const u32 lane_row = base + me * q_group_bytes + (warp * 16 + lane % 16) * 128;

    float s[64], o[64];
    u32 q[Q_STEPS + 1][4];  // as much of Q as fits: less to read from shared memory (2 of 8: +0.7 %)
    u32 p[32], p2[32];      // one is an operand while the other is made (causal: +2 %)
    Rows rows;
    Ring<K_STAGES> k{0, 0};
    Ring<V_STAGES> v{0, 0};

    auto begin_turn = [&]() {
      if (PING_PONG) named_sync(turn_barrier + me, 256);
    };
    auto end_turn = [&]() {
      if (PING_PONG) named_arrive(turn_barrier + 1 - me, 256);
    };
    auto release = [&](u32 barrier) {
      if (lane == 0) barrier_arrive(barrier);
    };
    // Of 16 columns: their place in a row of Q or O; 16-byte chunks are XORed with row % 8.
    auto columns = [&](int step) { return step / 4 * q_slab_bytes + (((2 * step + lane / 16) % 8 ^ lane % 8) << 4); };
    auto load_q = [&](u32 buffer) {
#pragma unroll
      for (int i = 0; i < Q_STEPS; i++) load_matrices(q[i], lane_row + buffer * q_bytes + columns(i));
    };
    auto scores = [&](u32 buffer, bool half) {
      u64 a = descriptor(q_base + buffer * (q_bytes >> 4)), b = descriptor(k_base + k.stage * (kv_bytes >> 4));
      walk(a, Q_STEPS / 4 * (q_slab_bytes >> 4) + Q_STEPS % 4 * 2);
#pragma unroll
      for (int i = 0; i < 8; i++) {
        if (half && i < Q_STEPS) multiply_half_rs(s, q[i], b, i > 0);
        else if (half) multiply_half_ss(s, a, b, i > 0);
        else if (i < Q_STEPS) multiply_rs<0>(s, q[i], b, i > 0);
        else multiply_ss(s, a, b, i > 0);
        if (i == 3) walk(b, (kv_slab_bytes >> 4) - 6);
        else if (i < 7) walk(b, 2);
        if (i < Q_STEPS) continue;
        if (i == 3) walk(a, (q_slab_bytes >> 4) - 6);
        else if (i < 7) walk(a, 2);
      }
      wgmma_commit();
    };
    auto accumulate = [&](const u32 (&p)[32]) {
      u64 b = descriptor(v_base + v.stage * (kv_bytes >> 4));
#pragma unroll
      for (int i = 0; i < block_n / 16; i++) {
        multiply_rs<1>(o, p + 4 * i, b, 1);
        if (i < block_n / 16 - 1) walk(b, 16 * 128 >> 4);
      }
      wgmma_commit();
    };
    // The scores once more, by this warp alone: keeping them for the rare case would take 64 registers.
    auto recompute = [&](u32 buffer) {
      const u32 k_row = base + k_at + k.stage * kv_bytes + (lane % 8 + lane / 16 * 8) * 128;
#pragma unroll
      for (int i = 0; i < 64; i++) s[i] = 0.0f;
#pragma unroll 1
      for (int i = 0; i < 8; i++) {
        u32 a[4];
        load_matrices(a, lane_row + buffer * q_bytes + columns(i));
        const u32 from = k_row + i / 4 * kv_slab_bytes + (((2 * i + lane / 8 % 2) % 8 ^ lane % 8) << 4);
#pragma unroll
        for (int n = 0; n < 8; n++) {
          u32 b[4];
          load_matrices(b, from + n * 16 * 128);
          multiply_add(s + 8 * n, a, b[0], b[1]);
          multiply_add(s + 8 * n + 4, a, b[2], b[3]);
        }
      }
    };
    // Of the next V, at an address that depends on sums and weights (which are never negative), because ptxas would
    // move the wait for this V's product up to before the exponentials. One weight of each operand is enough; without
    // any it packs them elsewhere and copies them.
    auto wait_next_v = [&](const u32 (&p)[32], const float (&sum)[2]) {
      u32 signs = p[0];
#pragma unroll
      for (int i = 4; i < 32; i += 4) signs |= p[i];
      signs |= __float_as_uint(sum[0]) | __float_as_uint(sum[1]);
      v.advance();
      barrier_wait(at.v_full + 8 * v.stage + (signs >> 31 << 3), v.parity);
    };
    // A tile of keys after the second; of the third, `limit` is early_limit.
    auto step = [&](const u32 (&from)[32], u32 (&to)[32], u32 buffer, float limit) {
      k.advance();
      barrier_wait(at.k_full + 8 * k.stage, k.parity);
      begin_turn();
      wgmma_fence();
      scores(buffer, false);
      accumulate(from);
      end_turn();
      wgmma_wait<1>();
      pin(s);
      float sum[2], shrink[2];
      weights(to, s, rows.offset, scale);
      add_weights(sum, to);
      const u32 used = at.v_empty + 8 * v.stage;
      wait_next_v(to, sum);
      wgmma_wait<0>();
      pin(o);
      release(used);
      const float top = fmaxf(sum[0], sum[1]);
      if (__any_sync(~0u, !(top <= limit))) {
        if (__any_sync(~0u, !(top <= rise_limit))) {
          recompute(buffer);
          raise(rows, shrink, s, scale);
          rescale(rows, o, shrink);
          weights(to, s, rows.offset, scale);
        }
        sum_weights(sum, to);
      }
      release(at.k_empty + 8 * k.stage);
      rows.sum[0] += sum[0];
      rows.sum[1] += sum[1];
    };

    if (PING_PONG && me == 1) named_arrive(turn_barrier, 256);
    barrier_wait(at.q_full, 0);
    int blocks = __shfl_sync(~0u, at.tiles[0].blocks, 0);
    barrier_wait(at.k_full, 0);
    load_q(0);
    begin_turn();
    wgmma_fence();
    scores(0, false);
    end_turn();
    wgmma_wait<0>();
    pin(s);
    release(at.k_empty);

    for (u32 count = 0;; count++) {  // s: scores of the tile's last keys, which come first
      const u32 mine = count & 1, other = mine ^ 1;
      const Tile& tile = at.tiles[mine];
      const int key0 = (tile.first + blocks - 1) * block_n;
      const int diagonal = warp * 16 + lane / 4 - 2 * (lane % 4);
      if (CAUSAL && me == 0) {  // the other half of the keys is above the diagonal
        mask_diagonal<0>(s, diagonal);
        row_maxima<block_n / 2>(rows.offset, s);
        rows.offset[0] *= scale;
        rows.offset[1] *= scale;
        weights<block_n / 2>(p, s, rows.offset, scale);
        sum_weights<block_n / 2>(rows.sum, p);
#pragma unroll
        for (int i = 16; i < 32; i++) p[i] = 0;
      } else {
        if (CAUSAL) mask_diagonal<block_n / 2>(s, diagonal);
        else if (key0 + block_n > seq) mask(s, seq - 1 - key0 - 2 * (lane % 4));
        row_maxima(rows.offset, s);
        rows.offset[0] *= scale;
        rows.offset[1] *= scale;
        weights(p, s, rows.offset, scale);
        sum_weights(rows.sum, p);
      }
#pragma unroll
      for (int i = 0; i < 64; i++) o[i] = 0.0f;
      barrier_wait(at.v_full + 8 * v.stage, v.parity);

      // The second tile of keys, with maxima. Code of its own: in `step`, ptxas would rescale O for each tile.
      auto second_step = [&]() {
        k.advance();
        barrier_wait(at.k_full + 8 * k.stage, k.parity);
        begin_turn();
        wgmma_fence();
        scores(mine, false);
        accumulate(p);
        end_turn();
        wgmma_wait<1>();
        pin(s);
        float sum[2], shrink[2];
        raise(rows, shrink, s, scale);
        weights(p2, s, rows.offset, scale);
        sum_weights(sum, p2);
        const u32 used = at.v_empty + 8 * v.stage;
        wait_next_v(p2, sum);
        wgmma_wait<0>();
        pin(o);
        release(used);
        release(at.k_empty + 8 * k.stage);
        rescale(rows, o, shrink);
        rows.sum[0] += sum[0];
        rows.sum[1] += sum[1];
      };
      int following;
      float norm[2];
      auto normaliser = [&]() {
#pragma unroll
        for (int h = 0; h < 2; h++) norm[h] = __frcp_rn(quad_sum(rows.sum[h]));
      };
      // With the first scores of the next row block; of all of its keys, or of the first half.
      auto last_turn = [&](const u32 (&from)[32], bool half) {
        k.advance();
        barrier_wait(at.q_full + 8 * other, (count + 1) >> 1 & 1);
        following = __shfl_sync(~0u, at.tiles[other].blocks, 0);
        if (following) barrier_wait(at.k_full + 8 * k.stage, k.parity);
        load_q(other);
        begin_turn();
        wgmma_fence();
        accumulate(from);
        scores(other, half);  // when no tile follows: of leftovers, unused
        end_turn();
        normaliser();
        wgmma_wait<1>();
        pin(o);
      };
      if (blocks == 1) {
        last_turn(p, false);
      } else {
        second_step();
        int left = blocks - 2;
        float limit = early_limit;
#pragma unroll 1
        for (; left > 1; left -= 2) {
          step(p2, p, mine, limit);
          step(p, p2, mine, rise_limit);
          limit = rise_limit;
        }
        if (left > 0) {
          step(p2, p, mine, limit);
          if (CAUSAL && me == 0) last_turn(p, true);
          else last_turn(p, false);
        } else {
          if (CAUSAL && me == 0) last_turn(p2, true);
          else last_turn(p2, false);
        }
      }
      release(at.v_empty + 8 * v.stage);
      v.advance();

      bool donated = false;
      if (!CAUSAL && tile.partner >= 0) {
        wgmma_wait<0>();
        pin(s);
        float4* const slot = partial + (long long)tile.partner * partial_size + (threadIdx.x - 128);
        u32* const flag = counters + consumers * tile.partner + me;
        donated = tile.first > 0;
        if (donated) donate(slot, flag, o, rows, own, leader);
        else collect(slot, flag, o, rows, own, leader);
        normaliser();
      }
      if (!donated) {
        if (!PING_PONG) named_sync(own, 128);  // all four warps are done with this Q
#pragma unroll
        for (int i = 0; i < 8; i++) {
          const float* x = o + 8 * i;
          store_matrices(lane_row + mine * q_bytes + columns(i), pack(x[0] * norm[0], x[1] * norm[0]),
                         pack(x[2] * norm[1], x[3] * norm[1]), pack(x[4] * norm[0], x[5] * norm[0]),
                         pack(x[6] * norm[1], x[7] * norm[1]));
        }
      }
      named_arrive(done_barrier + me, 128 + 32);
      wgmma_wait<0>();
      pin(s);
      if (following == 0) break;
      release(at.k_empty + 8 * k.stage);
      blocks = following;
    }
  }
}
