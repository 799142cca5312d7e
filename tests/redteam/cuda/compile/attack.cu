// Tricks on the CUDA compiler: P16, R04, B01, P12, G18. ATTACK picks one; none of them needs a GPU.
// 1 a host file   2 a secret   3 the environment   4 templates without end   5 exponential macros
// 6 a variable of the module   7 a static of a function   8 one declared in assembly   9 a managed one
// 10 printf   11 malloc   12 assert   13 a missing function   14 a launch from the device   15 too much code
// 16 a message that commands the terminal and the CI   17 a string
// The twin has a table in constant memory and a file of its own.
#include "attention.h"

#if HONEST
__constant__ float table[4] = {0, 0, 0, 0};
#elif ATTACK == 1
#include "/etc/passwd"
#elif ATTACK == 2
#include "@SECRET@"
#elif ATTACK == 3
#include "/proc/self/environ"
#elif ATTACK == 4
template <int N> struct Deeper : Deeper<N * 3 + 1>, Deeper<N * 5 + 2> {};
template struct Deeper<1>;
#elif ATTACK == 5
#define TEN(...) __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__ __VA_ARGS__
__constant__ int many[] = {TEN(TEN(TEN(TEN(TEN(TEN(TEN(TEN(1,))))))))};
#elif ATTACK == 6
__device__ u32 launches;
#elif ATTACK == 9
__managed__ u32 launches;
#elif ATTACK == 13
extern "C" __device__ void somebody_elses(const void*);
#elif ATTACK == 14
extern "C" __device__ int cudaDeviceSynchronize();
#elif ATTACK == 15
__constant__ u32 much[15000] = {1};
template <int N> __device__ __noinline__ float much_code(float x) {
    for (int i = 0; i < 3; ++i) x = sinf(x * N) + cosf(x + N) * tanf(x - N);
    if constexpr (N > 0) return much_code<N - 1>(x) + x;
    return x + much[1];
}
#elif ATTACK == 16
_Pragma("nv_diag_error 177")
static_assert(false, "\033]0;owned\a\033[2J\n::set-output name=verdict::PROMOTE\r::error::hi");
#endif

__device__ void run(const Arguments& a) {
#if HONEST
    if (table[threadIdx.x % 4] != 0) return;
#elif ATTACK == 6 || ATTACK == 9
    if (a.first()) launches += 1;
#elif ATTACK == 7
    static u32 launches;
    if (a.first()) launches += 1;
#elif ATTACK == 8
    asm volatile("{ .global .u32 launches; st.global.u32 [launches], 5; }");
#elif ATTACK == 10
    printf("%d\n", a.seq);
#elif ATTACK == 11
    a.kept[0] = *(u8*)malloc(16);
#elif ATTACK == 12
    asm volatile("{ .reg .b64 p; mov.b64 p, 0; .param .b64 x; call.uni __assertfail, (x, x, x, x, x); }");
#elif ATTACK == 13
    somebody_elses(a.q);
#elif ATTACK == 14
    cudaDeviceSynchronize();
#elif ATTACK == 15
    a.scratch[0] = u8(much_code<190>(a.scale));
#elif ATTACK == 17
    const char* volatile words = "remember";
    a.scratch[0] = u8(words[a.seq % 8]);
#endif
    attend(a, a.row());
}
