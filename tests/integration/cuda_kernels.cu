// SPDX-License-Identifier: MIT
// Small kernels that behave in one way each; see test_cuda_device.py.
// a: input, o: output, both [rows, width] BF16 bit patterns; n: elements.

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct FastDiv {
    u32 divisor, multiplier, shift;
};
struct alignas(64) TensorMap {
    char bytes[128];
};

__device__ int first() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ int stride() { return gridDim.x * blockDim.x; }
__device__ u64 nanoseconds() {
    u64 now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    return now;
}

extern "C" __global__ void copy(const u16* a, u16* o, int n) {
    for (int i = first(); i < n; i += stride()) o[i] = a[i];
}

// Writes one element at any distance from the output's start.
extern "C" __global__ void write_at(const u16* a, u16* o, int n, long long element) {
    for (int i = first(); i < n; i += stride()) o[i] = a[i];
    if (first() == 0) o[element] = 1;
}

// Ends by itself after 20 s, so that a failing test leaves the device usable.
extern "C" __global__ void hang() {
    const u64 begun = nanoseconds();
    while (nanoseconds() - begun < 20000000000ull) {}
}

extern "C" __global__ void large_static(u16* o) {
    __shared__ u16 memory[4096];
    extern __shared__ u16 dynamic[];
    memory[threadIdx.x] = dynamic[threadIdx.x] = threadIdx.x;
    o[0] = memory[threadIdx.x ^ 1] + dynamic[threadIdx.x ^ 1];
}

// The values of its arguments, and n / d for eight n.
extern "C" __global__ void scalars(u32* o, int i, u32 u, long long l, float f, FastDiv d) {
    o[0] = i;
    o[1] = u;
    o[2] = (u32)l;
    o[3] = (u32)(l >> 32);
    o[4] = __float_as_uint(f);
    const u32 numbers[8] = {0, 1, d.divisor - 1, d.divisor, 2147483647u, 2147483648u, 4294967294u, 4294967295u};
    for (int k = 0; k < 8; ++k)
        o[5 + k] = (u32)(((u64)__umulhi(numbers[k], d.multiplier) + numbers[k]) >> d.shift);
    o[13] = d.divisor;
}

extern "C" __global__ void fill_table(u32* table, int words) {
    for (int i = first(); i < words; i += stride()) table[i] = 3 * i;
}

// Copies only where all workspaces are as promised; `counter` and `scratch` are used up.
extern "C" __global__ void with_workspaces(
    const u16* a, u16* o, int n, u32* scratch, u32* counter, u32* table, int words, int tamper) {
    __shared__ int good;
    if (threadIdx.x == 0) good = 1;
    __syncthreads();
    for (int i = threadIdx.x; i < words; i += blockDim.x) {
        const u32 lane = scratch[i] & 0xFFFF;
        const bool poisoned = (lane & 0x7F81) == 0x7F81 && scratch[i] >> 16 == lane;
        if (!poisoned || counter[i] != 0 || table[i] != 3 * i) good = 0;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) o[i] = good ? a[i] : 0;
    for (int i = threadIdx.x; i < words; i += blockDim.x) {
        scratch[i] = 1;
        counter[i] += 1;
    }
    if (tamper && threadIdx.x == 0) table[words - 1] ^= 1u << 31;
}

extern "C" __global__ void remember(const u16* a, u32* table) { table[0] = a[0]; }

// A fixed amount of arithmetic.
extern "C" __global__ void spin(u16* o, int n, int rounds) {
    float x = threadIdx.x;
    for (int k = 0; k < rounds; ++k) x = x * 1.0001f + 0.5f;
    for (int i = first(); i < n; i += stride()) o[i] = (u16)(__float_as_uint(x) >> 16) & 0x7F00;
}

extern "C" __global__ void wait_cycles(long long cycles) {
    const long long begun = clock64();
    while (clock64() - begun < cycles) {}
}

// Leaves a word in shared memory, or writes 1 to o[1] when it finds such words there.
extern "C" __global__ void shared_state(u32* o, u32 mark, int words, int leave) {
    extern __shared__ u32 memory[];
    int seen = 0;
    for (int i = threadIdx.x; i < words; i += blockDim.x) {
        if (leave) ((volatile u32*)memory)[i] = mark;
        else seen += ((volatile u32*)memory)[i] == mark;
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) o[0] = 0;
    if (seen) o[1] = 1;
}

#if __CUDA_ARCH__ >= 900
extern "C" __global__ void first_half(const u16* a, u16* middle, int n) {
    asm volatile("griddepcontrol.launch_dependents;");
    for (int i = first(); i < n; i += stride()) middle[i] = a[i];
}

extern "C" __global__ void second_half(const u16* middle, u16* o, int n) {
    asm volatile("griddepcontrol.wait;" ::: "memory");
    for (int i = first(); i < n; i += stride()) o[i] = middle[i];
}

// Each block of a 2-block cluster moves a 64 x 8 box through 128-byte swizzled shared memory.
extern "C" __global__ void tma_copy(const __grid_constant__ TensorMap map, u16* o, int width) {
    extern __shared__ __align__(1024) unsigned char tile[];
    __shared__ u64 barrier;
    const u32 to = (u32)__cvta_generic_to_shared(tile);
    const u32 at = (u32)__cvta_generic_to_shared(&barrier);
    const int column = blockIdx.x * 64, row = blockIdx.y * 8;
    u32 cluster;
    asm volatile("mov.u32 %0, %cluster_nctaid.x;" : "=r"(cluster));
    if (cluster != 2) return;
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(at));
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 1024;" ::"r"(at) : "memory");
        asm volatile(
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
            "[%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(&map), "r"(column), "r"(row), "r"(at)
            : "memory");
    }
    __syncthreads();
    u32 done = 0;
    while (!done)
        asm volatile(
            "{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
            : "=r"(done) : "r"(at) : "memory");
    for (int i = threadIdx.x; i < 8 * 64; i += blockDim.x) {
        const int r = i / 64, c = i % 64;
        const int swizzled = r * 128 + ((c / 8) ^ r) * 16 + (c % 8) * 2;
        o[(row + r) * width + column + c] = *(const u16*)(tile + swizzled);
    }
}
#endif
