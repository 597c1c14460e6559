// errno texts. See error.h.
#include "reactor/base/error.h"

#include <cstring>

namespace catnap {

std::string errno_text(int errno_value) {
  char buffer[128];
  return strerror_r(errno_value, buffer, sizeof buffer);  // the GNU variant: returns the text, which may lie outside the buffer
}

}  // namespace catnap
