// What data sets ask of their arguments.
#pragma once

#include <cstdint>
#include <string_view>

#include "gpt/core/error.h"

namespace gpt {

inline void require_index(std::string_view where, std::int64_t index, std::int64_t size) {
  if (index < 0 || index >= size)
    fail<ArgumentError>(where, "sample ", index, " is out of range, expected 0 to ", size - 1);
}

/// floor(fraction * count). Throws ArgumentError for a fraction that is not between 0 and 1.
inline std::int64_t validation_share(std::string_view where, double fraction, std::int64_t count) {
  if (!(fraction > 0 && fraction < 1))
    fail<ArgumentError>(where, "validation_fraction is ", fraction, ", expected more than 0 and less than 1");
  return static_cast<std::int64_t>(fraction * static_cast<double>(count));
}

}  // namespace gpt
