// Memory that is given back while what owns it goes on.
#pragma once

#include <cstddef>
#include <span>

namespace gpt {

/// Gives back the memory that whole pages of `part` take. Who touches them next finds the file, where it is mapped, or zeros.
void release_pages(std::span<std::byte> part) noexcept;

/// The same for whole pages of 2 MiB alone: memory that has such pages keeps them in one piece.
void release_huge_pages(std::span<std::byte> part) noexcept;

/// Makes every byte of `part` 0, which is memory from core/memory.h: by giving its pages back, where the system makes pages
/// of zeros for who touches them next. Until then they take no memory.
void zero_pages(std::span<std::byte> part) noexcept;

}  // namespace gpt
