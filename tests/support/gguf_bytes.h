// Handmade GGUF files, right and wrong ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/io/gguf.h"

namespace gpt::test {

/// The numbers of a GGUF file, little-endian, as the format's description has them.
template <class T>
std::string raw(T value) {
  std::string out(sizeof value, '\0');
  for (std::size_t i = 0; i < sizeof value; ++i)
    out[i] = reinterpret_cast<const char*>(
        &value)[i];  // the tests run on little-endian machines, as the reader does
  return out;
}
inline std::string text(std::string_view s) { return raw<std::uint64_t>(s.size()).append(s); }

/// A file in parts that a test can spoil.
struct GgufBytes {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::vector<std::string> keys = {};                   // key, type and value
  std::vector<std::string> tensors = {};                // name, dimensions, type and offset
  std::uint64_t missing_keys = 0, missing_tensors = 0;  // that are announced, too
  std::size_t alignment = 32;
  std::string data = {};

  void add_key(std::string_view key, std::uint32_t type, std::string_view value) {
    keys.push_back(text(key) + raw(type) + std::string(value));
  }
  void add_tensor(std::string_view name, std::vector<std::uint64_t> dimensions, std::uint32_t type,
                  std::uint64_t offset) {
    std::string t = text(name) + raw<std::uint32_t>(static_cast<std::uint32_t>(dimensions.size()));
    for (const std::uint64_t d : dimensions) t += raw(d);
    tensors.push_back(t + raw(type) + raw(offset));
  }

  std::string bytes() const {
    std::string out = magic + raw(version) + raw<std::uint64_t>(tensors.size() + missing_tensors) +
                      raw<std::uint64_t>(keys.size() + missing_keys);
    for (const std::string& key : keys) out += key;
    for (const std::string& tensor : tensors) out += tensor;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

/// Opens bytes in memory, under the name "bytes".
inline GgufFile open_gguf(std::string bytes) {
  auto owner = std::make_shared<std::string>(std::move(bytes));
  const std::span<std::byte> span(reinterpret_cast<std::byte*>(owner->data()), owner->size());
  return GgufFile(owner, span, "bytes");
}

}  // namespace gpt::test
