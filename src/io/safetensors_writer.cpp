#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "core/in_range.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "io/safetensors_dtypes.h"

namespace gpt {
namespace {

// The format asks for 8 bytes. Kernels read panels of weights where they are mapped, faster when no vector crosses a cache
// line.
constexpr std::size_t kDataAlignment = 64;

std::string json_string(const std::string& text, std::string_view source) {
  auto json = json::dump_string(text);
  if (!json) fail<ArgumentError>(source, "cannot store ", quote(text), ": it is not UTF-8");
  return *std::move(json);
}

DType stored_dtype(const NamedTensor& t) noexcept { return t.stored.value_or(t.tensor.dtype()); }

/// Some elements at a time, so that the tensor is never there twice.
void write_rounded(PendingFile& file, const std::string& name, ConstTensorView t, DType dtype) {
  constexpr std::int64_t kTogether = std::int64_t{1} << 18;
  for (std::int64_t begin = 0; begin < t.numel(); begin += kTogether) {
    const std::byte* const from = t.raw() + static_cast<std::size_t>(begin) * size_of(t.dtype());
    const Tensor part = Tensor::borrow(nullptr, const_cast<std::byte*>(from),
                                       {std::min(kTogether, t.numel() - begin)}, t.dtype());
    const Tensor rounded = to_in_range(name, part, dtype);
    file.write({rounded.view().raw(), rounded.nbytes()});
  }
}

std::string header_of(std::span<const NamedTensor* const> tensors, const Metadata& metadata,
                      std::string_view source) {
  std::string header = "{";
  const auto finish_list = [&header](char close) {  // its last item has left a comma
    if (header.back() == ',') header.pop_back();
    header += close;
  };
  if (!metadata.empty()) {
    header += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata)
      header += concat(json_string(key, source), ":", json_string(value, source), ",");
    finish_list('}');
    header += ',';
  }
  std::uint64_t offset = 0;
  for (const NamedTensor* t : tensors) {
    const DType dtype = stored_dtype(*t);
    const std::uint64_t end = offset + static_cast<std::uint64_t>(t->tensor.numel()) * size_of(dtype);
    header += concat(json_string(t->name, source), ":{\"dtype\":\"", stored_name_of(dtype),
                     "\",\"data_offsets\":[", offset, ",", end, "],\"shape\":[");
    for (const std::int64_t extent : t->tensor.shape()) header += concat(extent, ",");
    finish_list(']');
    header += "},";
    offset = end;
  }
  finish_list('}');
  const std::size_t begin = sizeof(std::uint64_t) + header.size();  // of the data
  header.append((kDataAlignment - begin % kDataAlignment) % kDataAlignment, ' ');
  return header;
}

}  // namespace

void write_safetensors(PendingFile& file, std::span<const NamedTensor> tensors, const Metadata& metadata,
                       const std::stop_token& stop) try {
  const std::string source = file.path().string();
  std::vector<const NamedTensor*> sorted;
  for (const NamedTensor& t : tensors) {
    if (t.name == "__metadata__") fail<ArgumentError>(source, "no tensor can have the name __metadata__");
    sorted.push_back(&t);
  }
  std::sort(sorted.begin(), sorted.end(), [](const NamedTensor* a, const NamedTensor* b) {
    const std::size_t size_a = size_of(stored_dtype(*a)), size_b = size_of(stored_dtype(*b));
    return size_a != size_b ? size_a > size_b : a->name < b->name;
  });
  std::vector<std::string_view> names;
  for (const NamedTensor* t : sorted) names.push_back(t->name);
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
    fail<ArgumentError>(source, "cannot store two tensors of the name ", quote(*twice));

  const std::string header = header_of(sorted, metadata, source);
  const std::uint64_t length = header.size();
  if (length > kMaxSafetensorsHeader)
    fail<ArgumentError>(source, "the header would be ", length, " bytes long, the limit is ",
                        kMaxSafetensorsHeader);

  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (const NamedTensor* t : sorted) {
    if (stop.stop_requested()) fail<CancelledError>(source, "writing was cancelled");
    if (stored_dtype(*t) == t->tensor.dtype())
      file.write({t->tensor.raw(), t->tensor.nbytes()});
    else
      write_rounded(file, t->name, t->tensor, stored_dtype(*t));
  }
} catch (...) {
  rethrow_with_memory_errors(file.path().native());
}

void save_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                      const Metadata& metadata) {
  AtomicFile file(path);
  write_safetensors(file, tensors, metadata);
  file.commit();
}

}  // namespace gpt
