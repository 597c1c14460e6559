// See heap_trim.h.
#include "reactor/heap_trim.h"

#include <malloc.h>

#include <algorithm>

#include "reactor/runtime.h"

namespace catnap {

void HeapTrim::freed_one(std::uint64_t left) {
  if (++freed_ < std::max(least, left)) return;
  freed_ = 0;
  // Without a runtime (a test's thread turned by hand) there is nobody to do it.
  if (Runtime::instance() != nullptr) Runtime::instance()->workers().submit([] { malloc_trim(0); });
}

}  // namespace catnap
