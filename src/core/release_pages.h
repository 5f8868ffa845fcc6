// Memory that is given back while what owns it goes on.
#pragma once

#include <cstddef>
#include <span>

namespace gpt {

/// Gives back the memory that whole pages of `part` take. Who touches them next finds the file, where it is mapped, or zeros.
void release_pages(std::span<std::byte> part) noexcept;

}  // namespace gpt
