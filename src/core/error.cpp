#include "gpt/core/error.h"

#include <charconv>
#include <cmath>
#include <type_traits>

namespace gpt::detail {
namespace {

template <class T, std::size_t size>
std::string_view print_to(char (&buffer)[size], T value) noexcept {
  if constexpr (std::is_floating_point_v<T>)
    if (std::isnan(value)) return "nan";  // whose sign says nothing
  return {buffer, std::to_chars(buffer, buffer + size, value).ptr};
}

const MemoryError& no_memory() {
  // Never destroyed: what ends the program may fail, too.
  static const MemoryError& error = *new MemoryError("[memory] out of memory");
  return error;
}

// Made now: later it would need what is missing.
[[maybe_unused]] const MemoryError& g_no_memory = no_memory();

}  // namespace

void MessagePart::print(long long value) noexcept { text_ = print_to(buffer_, value); }
void MessagePart::print(unsigned long long value) noexcept { text_ = print_to(buffer_, value); }
void MessagePart::print(float value) noexcept { text_ = print_to(buffer_, value); }
void MessagePart::print(double value) noexcept { text_ = print_to(buffer_, value); }

std::string join(std::span<const MessagePart> parts) try {
  std::size_t size = 0;
  for (const MessagePart& part : parts) size += part.text().size();
  std::string out;
  out.reserve(size);
  for (const MessagePart& part : parts) out += part.text();
  return out;
} catch (const std::bad_alloc&) {
  fail_without_memory();
}

void fail_without_memory() {
  throw MemoryError(no_memory());  // a copy shares the text
}

}  // namespace gpt::detail
