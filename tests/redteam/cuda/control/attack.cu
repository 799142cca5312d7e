// Controls: 0 correct, 1 correct but slower, 2 plainly wrong (the mask is ignored).
#include "attention.h"

__device__ void run(const Arguments& a) {
    Arguments own = a;
#if HONEST
#elif ATTACK == 1
    attend(a, a.row());
    __syncwarp();
#elif ATTACK == 2
    own.causal = 0;
#endif
    attend(own, a.row());
}
