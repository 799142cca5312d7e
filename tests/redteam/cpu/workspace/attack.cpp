// Memory that the judge lends a launch, beyond what it is for: R04, R07, C03, C06, P13. ATTACK picks the trick.
// 1 the last result in a scratch workspace (R04)   2 in one that is zeroed (R04)   3 a word past the end (P13)
// 4 far past the end   5 before the start. With 1 and 2 a mark tells whether a result is there.
// The twin makes its output in the workspace, and copies it.
#include "attention.h"

static constexpr uint64_t MARK = 0x5ca1ab1e0ddba11;
static uint8_t *scratch, *zeroed;

static void run(const Arguments& a) {
    const size_t bytes = a.output_bytes();
#if HONEST
    Arguments own = a;
    own.o = reinterpret_cast<uint16_t*>(scratch);
    attend_all(own);
    std::memcpy(a.o, scratch, bytes);
#elif ATTACK == 1 || ATTACK == 2
    uint8_t* const place = ATTACK == 1 ? scratch : zeroed;
    uint64_t found;
    std::memcpy(&found, place + bytes, sizeof found);
    if (found == MARK) return void(std::memcpy(a.o, place, bytes));
    attend_all(a);
    std::memcpy(place, a.o, bytes);
    std::memcpy(place + bytes, &MARK, sizeof MARK);
#else
    attend_all(a);
#if ATTACK == 3
    scratch[bytes + 16] ^= 0xff;
#elif ATTACK == 4
    for (size_t i = 0; i < 1 << 16; ++i) scratch[bytes + i] ^= 0xff;
#elif ATTACK == 5
    scratch[-1] ^= 0xff;
#endif
#endif
}

extern "C" void attend_with_memory(const uint16_t* q, const uint16_t* k, const uint16_t* v, uint16_t* o,
                                   int64_t batch, int64_t seq, int64_t heads, int64_t kv_heads, int32_t causal,
                                   float scale, int32_t threads, void* given_scratch, void* given_zeroed) {
    scratch = static_cast<uint8_t*>(given_scratch), zeroed = static_cast<uint8_t*>(given_zeroed);
    run({q, k, v, o, batch, seq, heads, kv_heads, causal, scale, threads});
}
