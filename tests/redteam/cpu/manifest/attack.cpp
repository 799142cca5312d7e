// Manifests that ask the compiler or the loader for more: P09, B07, G17. The code is honest.
#include "attention.h"

static void run(const Arguments& a) { attend_all(a); }
