// The plain honest kernel: what all cases are measured against.
#include "attention.h"

static void run(const Arguments& a) { attend_all(a); }
