// SPDX-License-Identifier: MIT
// BF16 attention forward for sm_80 and newer: O = softmax(Q K^T scale) V, head_dim 128, GQA, causal or full.
// q, o: [batch, seq, heads, 128]; k, v: [batch, seq, heads / group, 128]; all dense, 16-byte aligned.
//
// Method: FlashAttention-2 (Dao 2023): a CTA owns BLOCK_M query rows, WARPS warps share each K/V tile.
// Each warp holds 32 rows, so that a K or V fragment read from shared memory feeds two m16n8k16 products
// (with 16 rows shared-memory bandwidth is the limit: 325 instead of 420 TFLOPS on an H200).
// K/V tiles travel by cp.async through a ring of STAGES; a full and an empty mbarrier per stage let
// warps drift apart, which __syncthreads would not (+1 to 2 %). Tiles go from the last key to the first:
// the masked ones come first, in a loop of their own, and the row maximum of a causal row is near its end.
//
// Softmax: P = 2^(s scale - reference scale), where `reference` trails the row maximum and is moved only
// when a score exceeds it, then by LAZY more than needed in log2 units (rescaling O each time costs 3 %).
// Row sums are a product with a matrix of ones, on the tensor cores (5 % faster than additions).

typedef unsigned int u32;
typedef unsigned short bf16;

// Enumerators, because a namespace-scope constexpr would be a __device__ variable.
enum : int {
  head_dim = 128,
  row_bytes = head_dim * 2,
  threads = WARPS * 32,
  warp_rows = BLOCK_M / WARPS,
  m_tiles = warp_rows / 16,  // of 16 query rows
  n_tiles = BLOCK_N / 8,     // of 8 keys
  d_tiles = head_dim / 8,    // of 8 output columns
  k_steps = head_dim / 16,
  load_rows = threads / 16,  // 16 threads copy a row, 16 bytes each
  passes = BLOCK_N / load_rows,
  tile_bytes = BLOCK_N * row_bytes,
  query_bytes = BLOCK_M * row_bytes,
};
// Above this, s scale - reference scale loses too many bits to be exactly 0 at the maximum.
#define large_exponent 1024.0f
#define infinity __int_as_float(0x7f800000)

static_assert(warp_rows % 32 == 0 && BLOCK_M % load_rows == 0, "whole pairs of row tiles for each warp");
static_assert(BLOCK_N % 16 == 0 && BLOCK_N % load_rows == 0 && load_rows % 8 == 0, "whole fragments and passes");

__device__ __forceinline__ void copy_async(u32 to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

__device__ __forceinline__ void copy_async_or_zero(u32 to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}

__device__ __forceinline__ void barrier_init(u32 at, u32 count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}

__device__ __forceinline__ void barrier_arrive(u32 at) {
  asm volatile("{.reg .b64 t; mbarrier.arrive.shared.b64 t, [%0];}" ::"r"(at) : "memory");
}

// Arrives when this thread's copies so far have landed.
__device__ __forceinline__ void barrier_arrive_after_copies(u32 at) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(at) : "memory");
}

__device__ __forceinline__ void barrier_wait(u32 at, u32 parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile("{\n.reg .pred p;\nW: mbarrier.try_wait.parity.shared.b64 p, [%0], %1;\n@!p bra W;\n}" ::"r"(at),
               "r"(parity)
               : "memory");
#else
  asm volatile("{\n.reg .pred p;\nW: mbarrier.test_wait.parity.shared.b64 p, [%0], %1;\n@!p bra W;\n}" ::"r"(at),
               "r"(parity)
               : "memory");
#endif
}

__device__ __forceinline__ void load_matrices(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}

__device__ __forceinline__ void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
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

__device__ __forceinline__ u32 pack(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

// Read anew where they are needed: kept in registers over the main loop they would be spilled.
__device__ __forceinline__ u32 thread() {
  u32 id;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(id));
  return id;
}

__device__ __forceinline__ uint3 cta() {
  uint3 id;
  asm volatile("mov.u32 %0, %%ctaid.x;\nmov.u32 %1, %%ctaid.y;\nmov.u32 %2, %%ctaid.z;"
               : "=r"(id.x), "=r"(id.y), "=r"(id.z));
  return id;
}

// Causal: rows with many keys first, so that the short ones fill the last wave.
__device__ __forceinline__ int first_row_of(u32 y) { return (CAUSAL ? gridDim.y - 1 - y : y) * BLOCK_M; }

// Lane l of a warp holds rows l/4 and l/4 + 8 of each 16-row tile, columns 2(l%4) and 2(l%4) + 1 of each 8.
struct State {
  float out[m_tiles][d_tiles][4];
  float reference[m_tiles][2];
  float sum[m_tiles / 2][4];  // a product with ones has equal columns; two row tiles share one, see ones
};

// s = Q K^T of this warp's rows and one K tile; `during` runs between the products and the masking.
template <bool masked, class During>
__device__ __forceinline__ void scores(float (&s)[m_tiles][n_tiles][4], u32 q_lane, u32 k_lane, int row0, int key0,
                                       int seq, const During& during) {
#pragma unroll
  for (int m = 0; m < m_tiles; m++)
#pragma unroll
    for (int n = 0; n < n_tiles; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) s[m][n][i] = 0.0f;
#pragma unroll
  for (int k = 0; k < k_steps; k++) {
    // 16-byte chunks of a row are XORed with row % 8: chunk 2k + c is at (c ^ swizzle) ^ 2k
    const u32 at = (k >> 2) * 128;
    u32 a[m_tiles][4];
#pragma unroll
    for (int m = 0; m < m_tiles; m++) load_matrices(a[m], (q_lane ^ ((k & 3) << 5)) + at + m * 16 * row_bytes);
#pragma unroll
    for (int n = 0; n < n_tiles / 2; n++) {
      u32 b[4];
      load_matrices(b, (k_lane ^ ((k & 3) << 5)) + at + n * 16 * row_bytes);
#pragma unroll
      for (int m = 0; m < m_tiles; m++) {
        multiply_add(s[m][2 * n], a[m], b[0], b[1]);
        multiply_add(s[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
  during();
  if (masked) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < m_tiles; m++)
#pragma unroll
      for (int n = 0; n < n_tiles; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int key = key0 + n * 8 + 2 * (lane % 4) + i % 2;
          const int last = CAUSAL ? row0 + m * 16 + lane / 4 + 8 * (i / 2) : seq - 1;
          if (key > last) s[m][n][i] = -infinity;
        }
  }
}

__device__ __forceinline__ void rescale(State& state, const float (&shrink)[m_tiles][2]) {
#pragma unroll
  for (int m = 0; m < m_tiles; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
#pragma unroll
      for (int d = 0; d < d_tiles; d++) {
        state.out[m][d][2 * h] *= shrink[m][h];
        state.out[m][d][2 * h + 1] *= shrink[m][h];
      }
      state.sum[m / 2][2 * h + m % 2] *= shrink[m][h];
    }
}

// Moves the references if a score is above one, and gives offset = reference * scale. Where that is so large
// that s * scale - offset would lose the difference, it subtracts the reference from s beforehand instead.
__device__ __forceinline__ void normalise(State& state, float (&s)[m_tiles][n_tiles][4], float (&offset)[m_tiles][2],
                                          float scale) {
  float top[m_tiles][2];
  bool rare = false;
#pragma unroll
  for (int m = 0; m < m_tiles; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float t = s[m][0][2 * h];
#pragma unroll
      for (int n = 0; n < n_tiles; n++) t = fmaxf(t, fmaxf(s[m][n][2 * h], s[m][n][2 * h + 1]));
      top[m][h] = t;
      offset[m][h] = state.reference[m][h] * scale;
      rare |= t > state.reference[m][h] || fabsf(offset[m][h]) >= large_exponent;
    }
  if (!__any_sync(~0u, rare)) return;

  const float slack = LAZY / scale;
  float shrink[m_tiles][2];
  bool large = false;
#pragma unroll
  for (int m = 0; m < m_tiles; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float t = top[m][h];  // of the row, over its four lanes
      t = fmaxf(t, __shfl_xor_sync(~0u, t, 1));
      t = fmaxf(t, __shfl_xor_sync(~0u, t, 2));
      const float old = state.reference[m][h];
      t = t > old ? t + slack : old;
      shrink[m][h] = exp2_fast((old - t) * scale);
      state.reference[m][h] = t;
      offset[m][h] = t * scale;
      large |= fabsf(offset[m][h]) >= large_exponent;
    }
  rescale(state, shrink);
  if (!large) return;
#pragma unroll
  for (int m = 0; m < m_tiles; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      offset[m][h] = 0.0f;
#pragma unroll
      for (int n = 0; n < n_tiles; n++) {
        s[m][n][2 * h] -= state.reference[m][h];
        s[m][n][2 * h + 1] -= state.reference[m][h];
      }
    }
}

// out += P V and sum += P 1 for one V tile. An accumulator of 16 keys, packed, is the A operand as it stands.
__device__ __forceinline__ void accumulate(State& state, const u32 (&p)[m_tiles][n_tiles / 2][4], u32 v_lane) {
  // B columns: ones in the even ones for even row tiles, in the odd ones for odd row tiles
  const u32 odd = thread() & 4;
  const u32 ones[2] = {odd ? 0u : 0x3f803f80u, odd ? 0x3f803f80u : 0u};
#pragma unroll
  for (int k = 0; k < n_tiles / 2; k++) {
#pragma unroll
    for (int d = 0; d < d_tiles / 2; d++) {
      u32 b[4];
      load_matrices_transposed(b, (v_lane ^ ((d & 3) << 5)) + (d >> 2) * 128 + k * 16 * row_bytes);
#pragma unroll
      for (int m = 0; m < m_tiles; m++) {
        multiply_add(state.out[m][2 * d], p[m][k], b[0], b[1]);
        multiply_add(state.out[m][2 * d + 1], p[m][k], b[2], b[3]);
      }
    }
#pragma unroll
    for (int m = 0; m < m_tiles; m++) multiply_add(state.sum[m / 2], p[m][k], ones[m % 2], ones[m % 2]);
  }
}

template <bool masked, class During>
__device__ __forceinline__ void attend(State& state, u32 q_lane, u32 k_lane, u32 v_lane, int row0, int key0, int seq,
                                       float scale, const During& during) {
  float s[m_tiles][n_tiles][4];
  scores<masked>(s, q_lane, k_lane, row0, key0, seq, during);
  float offset[m_tiles][2];
  normalise(state, s, offset, scale);
  u32 p[m_tiles][n_tiles / 2][4];
#pragma unroll
  for (int n = 0; n < n_tiles; n++)
#pragma unroll
    for (int m = 0; m < m_tiles; m++)
#pragma unroll
      for (int h = 0; h < 2; h++)
        p[m][n / 2][2 * (n % 2) + h] = pack(exp2_fast(s[m][n][2 * h] * scale - offset[m][h]),
                                            exp2_fast(s[m][n][2 * h + 1] * scale - offset[m][h]));
  accumulate(state, p, v_lane);
}

// O through the warp's own rows of the query's shared memory, so that rows leave in 16-byte pieces.
__device__ __forceinline__ void finish(const State& state, bf16* o, int seq, int heads, char* shared) {
  const int id = thread(), warp = id / 32, lane = id % 32;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < m_tiles; m++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const float norm = __frcp_rn(state.sum[m / 2][2 * h + m % 2]);
      const int row = warp * warp_rows + m * 16 + h * 8 + lane / 4;
#pragma unroll
      for (int d = 0; d < d_tiles; d++) {
        u32* at = (u32*)(shared + row * row_bytes + ((d ^ (row & 7)) << 4)) + lane % 4;
        *at = pack(state.out[m][d][2 * h] * norm, state.out[m][d][2 * h + 1] * norm);
      }
    }
  __syncwarp();
  const uint3 at = cta();
  const int first_row = first_row_of(at.y);
  const u32 stride = heads * row_bytes;
  char* o_rows = (char*)o + ((long long)at.z * seq + first_row) * stride + at.x * row_bytes;
#pragma unroll
  for (int i = 0; i < warp_rows / 2; i++) {
    const int row = warp * warp_rows + i * 2 + lane / 16, chunk = lane % 16;
    if (first_row + row < seq)
      *(uint4*)(o_rows + (long long)row * stride + chunk * 16) =
          *(const uint4*)(shared + row * row_bytes + ((chunk ^ (row & 7)) << 4));
  }
}

// grid: (heads, blocks of BLOCK_M rows, batch): heads of one K/V group run side by side and share it in L2.
// scale is 1 / sqrt(head_dim) * log2(e).
extern "C" __global__ void __launch_bounds__(threads, CTAS_PER_SM)
    attention_forward(const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v,
                      bf16* __restrict__ o, float scale, int seq, int heads, int group) {
  extern __shared__ __align__(1024) char shared[];  // query | STAGES x (K tile | V tile) | barriers
  const int head = blockIdx.x, entry = blockIdx.z;
  const int first_row = first_row_of(blockIdx.y);
  const u32 q_stride = heads * row_bytes, kv_stride = heads / group * row_bytes;
  const long long kv_base = (long long)entry * seq * kv_stride + head / group * row_bytes;
  const char* q_rows = (const char*)q + ((long long)entry * seq + first_row) * q_stride + head * row_bytes;
  const char* k_rows = (const char*)k + kv_base;
  const char* v_rows = (const char*)v + kv_base;

  const u32 base = (u32)__cvta_generic_to_shared(shared);
  const u32 kv = base + query_bytes;
  const u32 full = kv + STAGES * 2 * tile_bytes, empty = full + 8 * STAGES;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row0 = first_row + warp * warp_rows;
  const int keys = CAUSAL ? min(seq, first_row + BLOCK_M) : seq;
  const int tiles = (keys + BLOCK_N - 1) / BLOCK_N;
  const int masked_turns = tiles - (CAUSAL ? first_row : seq) / BLOCK_N;

  if (threadIdx.x < STAGES) {
    barrier_init(full + 8 * threadIdx.x, threads);
    barrier_init(empty + 8 * threadIdx.x, WARPS);
  }
  {
    const u32 row = threadIdx.x / 16, chunk = threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < BLOCK_M / load_rows; i++) {
      const u32 at = row + i * load_rows;
      const bool inside = first_row + (int)at < seq;
      copy_async_or_zero(base + at * row_bytes + ((chunk ^ (at & 7)) << 4),
                         inside ? q_rows + (long long)at * q_stride + chunk * 16 : (const char*)q, inside);
    }
  }
  __syncthreads();

  // Tile `tiles - 1 - turn` into its stage. Only the first can reach past the last key.
  auto load_tile = [&](int turn, bool checked) {
    const int first_key = (tiles - 1 - turn) * BLOCK_N;
    const u32 id = thread(), row = id / 16, chunk = id % 16;
    const long long from = (long long)first_key * kv_stride + row * kv_stride + chunk * 16;
    const char* k_from = k_rows + from;
    const char* v_from = v_rows + from;
    const u32 to = kv + turn % STAGES * 2 * tile_bytes + row * row_bytes + ((chunk ^ (row & 7)) << 4);
#pragma unroll
    for (int i = 0; i < passes; i++) {
      const u32 at = to + i * load_rows * row_bytes;
      if (checked) {
        const bool inside = first_key + (int)row + i * load_rows < seq;
        copy_async_or_zero(at, inside ? k_from : k_rows, inside);
        copy_async_or_zero(at + tile_bytes, inside ? v_from : v_rows, inside);
      } else {
        copy_async(at, k_from);
        copy_async(at + tile_bytes, v_from);
      }
      k_from += load_rows * kv_stride;
      v_from += load_rows * kv_stride;
    }
    barrier_arrive_after_copies(full + 8 * (turn % STAGES));
  };

#pragma unroll
  for (int turn = 0; turn < STAGES - 1; turn++)
    if (turn < tiles) load_tile(turn, turn == 0);

  const u32 swizzle = lane & 7;
  const u32 q_lane = base + (warp * warp_rows + (lane & 15)) * row_bytes + (((lane >> 4) ^ swizzle) << 4);
  const u32 k_lane = kv + ((lane & 7) + (lane >> 4) * 8) * row_bytes + ((((lane >> 3) & 1) ^ swizzle) << 4);
  const u32 v_lane = kv + tile_bytes + (lane & 15) * row_bytes + (((lane >> 4) ^ swizzle) << 4);

  State state;
#pragma unroll
  for (int m = 0; m < m_tiles; m++) {
    state.reference[m][0] = state.reference[m][1] = -infinity;
#pragma unroll
    for (int i = 0; i < 4; i++) state.sum[m / 2][i] = 0.0f;
#pragma unroll
    for (int d = 0; d < d_tiles; d++)
#pragma unroll
      for (int i = 0; i < 4; i++) state.out[m][d][i] = 0.0f;
  }

  int turn = 0;
  auto begin = [&]() { barrier_wait(full + 8 * (turn % STAGES), turn / STAGES % 2); };
  auto load_next = [&]() {
    const int next = turn + STAGES - 1;
    if (next >= tiles) return;
    if (next >= STAGES) barrier_wait(empty + 8 * (next % STAGES), (next / STAGES + 1) % 2);
    load_tile(next, false);
  };
  auto end = [&]() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(empty + 8 * (turn % STAGES));
  };
#pragma unroll 1
  for (; turn < masked_turns; turn++) {
    begin();
    load_next();
    const u32 stage = turn % STAGES * 2 * tile_bytes;
    const int key0 = (tiles - 1 - turn) * BLOCK_N;
    if (!CAUSAL || key0 < row0 + warp_rows)  // else all of it is above this warp's diagonal
      attend<true>(state, q_lane, k_lane + stage, v_lane + stage, row0, key0, seq, scale, []() {});
    end();
  }
#pragma unroll 1
  for (; turn < tiles; turn++) {
    begin();
    const u32 stage = turn % STAGES * 2 * tile_bytes;
    // loading after the first product hides its address arithmetic (+2 % against before it)
    attend<false>(state, q_lane, k_lane + stage, v_lane + stage, row0, 0, seq, scale, load_next);
    end();
  }
  finish(state, o, seq, heads, shared);
}
