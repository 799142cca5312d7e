// Launch descriptions that do not say what they do: T18, T19, T22, C24, R04, G17. The code is honest.
#include "attention.h"

__device__ void run(const Arguments& a) { attend(a, a.row()); }
