// SPDX-License-Identifier: MIT
// The CPU kernel as a program, for ../test_cpu_attention_paths.py: reads problems, writes outputs.
//
// A problem: eight int32 (batch, seq, heads, kv_heads, causal, threads, team, bytes of the workspace),
// scale_log2e, then q, k, v. Its output is o. With `team` set the threads are the loader's (team.h), else the kernel starts its own.

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "team.h"

#include "attention.cpp"

namespace {

Team team;

void parallel(Team::Work work, void* context, int32_t count) { team.run(work, context, count); }

// Exactly as large as the contents, so that a sanitizer sees the first byte after it.
struct Tensor {
    explicit Tensor(size_t elements) : bytes(2 * elements), data(static_cast<uint16_t*>(malloc(bytes))) {}
    ~Tensor() { free(data); }
    void read() {
        if (fread(data, 1, bytes, stdin) != bytes) exit(2);
    }
    size_t bytes;
    uint16_t* data;
};

}  // namespace

int main() {
    bool started = false;
    for (int32_t n[8]; fread(n, sizeof n, 1, stdin) == 1;) {
        float scale;
        if (fread(&scale, sizeof scale, 1, stdin) != 1) return 2;
        const size_t width = 128, queries = size_t(n[0]) * n[1] * n[2] * width;
        const size_t keys = size_t(n[0]) * n[1] * n[3] * width;
        Tensor q(queries), k(keys), v(keys), o(queries);
        q.read(), k.read(), v.read();
        memset(o.data, 0xFF, o.bytes);  // NaN
        float* packed = static_cast<float*>(aligned_alloc(64, n[7]));
        memset(packed, 0xFF, n[7]);
        if (n[6] && !started) team.start(n[5]);
        started |= n[6] != 0;
        avo_parallel = n[6] ? parallel : nullptr;
        attention_forward(q.data, k.data, v.data, o.data, packed, n[0], n[1], n[2], n[3], n[4], scale, n[5]);
        free(packed);
        if (fwrite(o.data, 1, o.bytes, stdout) != o.bytes) return 2;
    }
    fflush(stdout);
    _Exit(0);  // the team sleeps on
}
