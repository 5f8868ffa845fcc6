#include <algorithm>
#include <string>

#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/io/gguf.h"
#include "io/gguf_format.h"

namespace gpt {

using namespace gguf;

namespace {

template <class T>
void append(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& to, std::string_view text) {
  append<std::uint64_t>(to, text.size());
  to += text;
}

void check_tensor(const GgufTensor& t, const std::string& source) {
  const auto refuse = [&](const auto&... parts) {
    fail<ArgumentError>(source, "cannot store tensor ", quote(t.name), ", which has ", parts...);
  };
  const int rank = t.shape.rank();
  if (rank < 1 || rank > static_cast<int>(kMaxDimensions))
    refuse(rank, " dimensions, expected 1 to ", kMaxDimensions);
  if (t.shape.numel() == 0) refuse("the extent 0, expected 1 or more");
  if (const auto type = static_cast<std::uint32_t>(t.type); find_type(type) == nullptr)
    refuse("the unknown type ", type);
}

void check_keys(const GgufMetadata& metadata, const std::string& source) {
  std::vector<std::string_view> keys(metadata.keys().begin(), metadata.keys().end());
  std::sort(keys.begin(), keys.end());
  if (const auto twice = std::adjacent_find(keys.begin(), keys.end()); twice != keys.end())
    fail<ArgumentError>(source, "cannot store two keys of the name ", quote(*twice));
  if (std::binary_search(keys.begin(), keys.end(), "general.alignment"))
    fail<ArgumentError>(source, "cannot store the key general.alignment: the data are aligned to ",
                        gguf::kAlignment, " bytes, which needs none");
}

void check_names(std::span<const GgufTensor> tensors, const std::string& source) {
  std::vector<std::string_view> names;
  for (const GgufTensor& t : tensors) {
    check_tensor(t, source);
    if (t.name.size() > kMaxName)
      fail<ArgumentError>(source, "cannot store a tensor of the name ", quote(t.name),
                          ", which is longer than ", kMaxName, " bytes");
    names.push_back(t.name);
  }
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
    fail<ArgumentError>(source, "cannot store two tensors of the name ", quote(*twice));
}

}  // namespace

void GgufMetadata::begin(std::string_view key, std::uint32_t type) {
  append_text(bytes_, key);
  append(bytes_, type);
  keys_.emplace_back(key);
}

void GgufMetadata::set_uint32(std::string_view key, std::uint32_t value) try {
  begin(key, kUint32);
  append(bytes_, value);
} catch (...) {
  rethrow_with_memory_errors("gguf");
}

void GgufMetadata::set_float32(std::string_view key, float value) try {
  begin(key, kFloat32);
  append(bytes_, value);
} catch (...) {
  rethrow_with_memory_errors("gguf");
}

void GgufMetadata::set_bool(std::string_view key, bool value) try {
  begin(key, kBool);
  append<std::uint8_t>(bytes_, value ? 1 : 0);
} catch (...) {
  rethrow_with_memory_errors("gguf");
}

void GgufMetadata::set_string(std::string_view key, std::string_view value) try {
  begin(key, kString);
  append_text(bytes_, value);
} catch (...) {
  rethrow_with_memory_errors("gguf");
}

void GgufMetadata::set_strings(std::string_view key, std::span<const std::string> values) try {
  begin(key, kArray);
  append<std::uint32_t>(bytes_, kString);
  append<std::uint64_t>(bytes_, values.size());
  for (const std::string& value : values) append_text(bytes_, value);
} catch (...) {
  rethrow_with_memory_errors("gguf");
}

void GgufMetadata::set_int32s(std::string_view key, std::span<const std::int32_t> values) try {
  begin(key, kArray);
  append<std::uint32_t>(bytes_, kInt32);
  append<std::uint64_t>(bytes_, values.size());
  for (const std::int32_t value : values) append(bytes_, value);
} catch (...) {
  rethrow_with_memory_errors("gguf");
}

std::size_t gguf_tensor_size(std::string_view name, GgufType type, const Shape& shape) {
  const TypeInfo* const found = find_type(static_cast<std::uint32_t>(type));
  if (found == nullptr) fail<ArgumentError>(name, "has the unknown type ", static_cast<std::uint32_t>(type));
  const TypeInfo& info = *found;
  const std::int64_t row = shape.rank() == 0 ? 1 : shape[shape.rank() - 1];
  if (row % info.block != 0)
    fail<UnsupportedError>(name, "has rows of ", row, " elements, which are no whole blocks of ", info.name,
                           ": ", info.block);
  return static_cast<std::size_t>(Shape{shape.numel() / info.block, info.bytes}.numel());
}

void write_gguf(PendingFile& file, const GgufMetadata& metadata, std::span<const GgufTensor> tensors) try {
  const std::string source = file.path().string();
  check_names(tensors, source);
  check_keys(metadata, source);
  std::string head(kMagic);
  append<std::uint32_t>(head, 3);
  append<std::uint64_t>(head, tensors.size());
  append<std::uint64_t>(head, metadata.count());
  head += metadata.bytes();
  std::uint64_t offset = 0;
  for (const GgufTensor& t : tensors) {
    append_text(head, t.name);
    append(head, static_cast<std::uint32_t>(t.shape.rank()));
    for (int axis = t.shape.rank(); axis-- > 0;) append(head, static_cast<std::uint64_t>(t.shape[axis]));
    append(head, static_cast<std::uint32_t>(t.type));
    append(head, offset);
    offset += padded(gguf_tensor_size(t.name, t.type, t.shape), gguf::kAlignment);
  }
  head.resize(padded(head.size(), gguf::kAlignment));
  file.write(head);
  for (const GgufTensor& t : tensors) {
    std::vector<std::byte> bytes = t.make();
    const std::size_t expected = gguf_tensor_size(t.name, t.type, t.shape);
    if (bytes.size() != expected)
      fail<ShapeError>(source, "tensor ", quote(t.name), " has ", bytes.size(), " bytes, expected ",
                       expected);
    bytes.resize(padded(bytes.size(), gguf::kAlignment));
    file.write(bytes);
  }
} catch (...) {
  rethrow_with_memory_errors(file.path().native());
}

}  // namespace gpt
