// The number of a vocabulary entry.
#pragma once

#include <cstdint>

namespace gpt {

using TokenId = std::int32_t;

}  // namespace gpt
