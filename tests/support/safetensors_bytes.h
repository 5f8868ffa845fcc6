// Handmade safetensors files, right and wrong ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "gpt/io/safetensors.h"

namespace gpt::test {

/// The header's length, the header, the data.
inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
  std::string out;
  for (int i = 0; i < 8; ++i) out += static_cast<char>(static_cast<std::uint64_t>(header.size()) >> (8 * i));
  out += header;
  out += data;
  return out;
}

/// Opens bytes in memory, under the name "bytes".
inline SafetensorsFile open_bytes(std::string bytes) {
  auto owner = std::make_shared<std::string>(std::move(bytes));
  const std::span<std::byte> span(reinterpret_cast<std::byte*>(owner->data()), owner->size());
  return SafetensorsFile(owner, span, "bytes");
}

}  // namespace gpt::test
