// Controls: 0 correct, 1 correct but slower, 2 plainly wrong (the mask is ignored).
#include "attention.h"

static void run(const Arguments& a) {
    Arguments own = a;
#if HONEST
#elif ATTACK == 1
    attend_all(a);
#elif ATTACK == 2
    own.causal = 0;
#endif
    attend_all(own);
}
