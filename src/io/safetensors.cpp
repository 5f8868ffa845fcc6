#include "gpt/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/json.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "io/safetensors_dtypes.h"

namespace gpt {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors are read and written without byte swapping");

constexpr std::size_t kLengthBytes = 8;  // the header's length, before the header

/// The header's text. `bytes` is the whole file.
std::string_view header_text(std::span<const std::byte> bytes, std::string_view source) {
  if (bytes.size() < kLengthBytes)
    fail<FormatError>(source, "is no safetensors file: it has ", bytes.size(), " bytes, expected 8 or more");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kMaxSafetensorsHeader)
    fail<FormatError>(source, "is no safetensors file: the header would be ", length,
                      " bytes long, the limit is ", kMaxSafetensorsHeader);
  if (length > bytes.size() - kLengthBytes)
    fail<FormatError>(source, "is truncated: the header is ", length, " bytes long, ",
                      bytes.size() - kLengthBytes, " are there");
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                              static_cast<std::size_t>(length));
  if (!text.starts_with('{'))
    fail<FormatError>(source, "is no safetensors file: the header does not begin with '{'");
  return text;
}

/// Reads one member of the header; knows what to name in errors.
class EntryReader {
 public:
  EntryReader(std::string_view source, std::string_view name, std::uint64_t data_size)
      : source_(source), name_(name), data_size_(data_size) {}

  struct Result {
    TensorInfo info;
    std::uint64_t begin, end;  // of the tensor in the data
  };

  Result read(const json::Value& entry) const {
    if (!entry.is_object()) fail_here("is ", json::describe(entry), ", expected an object");
    for (const auto& [field, value] : entry.items())
      if (field != "dtype" && field != "shape" && field != "data_offsets")
        fail_here("has the unknown field ", quote(field));
    const StoredDType& dtype = read_dtype(entry);
    const Shape shape = read_shape(entry);
    const std::uint64_t nbytes = size_in_bytes(shape, dtype);
    const auto [begin, end] = read_offsets(entry);
    if (end - begin != nbytes)
      fail_here("of dtype ", dtype.name, " and shape ", shape.to_string(), " needs ", nbytes,
                " bytes, but its data_offsets span ", end - begin);
    return {{std::string(dtype.name), dtype.dtype, shape, static_cast<std::size_t>(nbytes)}, begin, end};
  }

 private:
  template <class E = FormatError, class... Parts>
  [[noreturn]] void fail_here(const Parts&... parts) const {
    fail<E>(source_, "tensor ", quote(name_), " ", parts...);
  }

  const json::Value& field(const json::Value& entry, const char* name) const {
    const auto found = entry.find(name);
    if (found == entry.end()) fail_here("has no ", name);
    return *found;
  }

  const StoredDType& read_dtype(const json::Value& entry) const {
    const json::Value& value = field(entry, "dtype");
    const StoredDType* found =
        value.is_string() ? find_stored_dtype(value.get_ref<const std::string&>()) : nullptr;
    if (found == nullptr)
      fail_here("has the unknown dtype ", json::describe(value), ", expected F32, BF16, I64, ...");
    return *found;
  }

  Shape read_shape(const json::Value& entry) const {
    const json::Value& value = field(entry, "shape");
    if (!value.is_array()) fail_here("has the shape ", json::describe(value), ", expected a list");
    if (value.size() > Shape::kMaxRank)
      fail_here<UnsupportedError>("has ", value.size(), " dimensions, more than the ", Shape::kMaxRank,
                                  " that are supported");
    std::vector<std::int64_t> extents;
    for (const json::Value& extent : value) {
      const std::uint64_t n = read_unsigned(extent, "shape");
      if (n > std::numeric_limits<std::int64_t>::max()) fail_here("has the extent ", n, ", which overflows");
      extents.push_back(static_cast<std::int64_t>(n));
    }
    try {
      return Shape(extents);
    } catch (const ShapeError&) {
      fail_here("has a shape whose number of elements overflows: ", quote(json::dump(value)));
    }
  }

  std::uint64_t size_in_bytes(const Shape& shape, const StoredDType& dtype) const {
    const auto n = static_cast<std::uint64_t>(shape.numel());
    if (n > std::numeric_limits<std::uint64_t>::max() / dtype.bits)
      fail_here("has the shape ", shape.to_string(), ", whose size in bytes overflows");
    if (n * dtype.bits % 8 != 0)
      fail_here("has ", n, " elements of ", dtype.bits, " bits, which do not fill whole bytes");
    return n * dtype.bits / 8;
  }

  std::pair<std::uint64_t, std::uint64_t> read_offsets(const json::Value& entry) const {
    const json::Value& value = field(entry, "data_offsets");
    if (!value.is_array() || value.size() != 2)
      fail_here("has data_offsets that are ", json::describe(value), ", expected [begin, end]");
    const std::uint64_t begin = read_unsigned(value[0], "data_offsets");
    const std::uint64_t end = read_unsigned(value[1], "data_offsets");
    if (end < begin) fail_here("ends before it begins: data_offsets [", begin, ", ", end, "]");
    if (end > data_size_)
      fail_here("ends at byte ", end, " of the data, beyond the file's end: there are ", data_size_,
                " bytes");
    return {begin, end};
  }

  std::uint64_t read_unsigned(const json::Value& value, const char* where) const {
    if (!value.is_number_unsigned())
      fail_here("has ", json::describe(value), " in its ", where, ", expected an integer of 0 or more");
    return value.get<std::uint64_t>();
  }

  std::string_view source_;
  std::string_view name_;
  std::uint64_t data_size_;
};

Metadata read_metadata(const json::Value& value, std::string_view source) {
  if (!value.is_object())
    fail<FormatError>(source, "__metadata__ is ", json::describe(value), ", expected an object");
  Metadata metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string())
      fail<FormatError>(source, "__metadata__: ", quote(key), " is ", json::describe(text),
                        ", expected a string");
    metadata.emplace(key, text.get_ref<const std::string&>());
  }
  return metadata;
}

/// Where a tensor lies in the data.
struct Extent {
  std::uint64_t begin, end;
  std::string name;
};

void require_gapless(const std::vector<Extent>& sorted, std::uint64_t data_size, std::string_view source) {
  std::uint64_t covered = 0;
  for (const Extent& e : sorted) {
    if (e.begin != covered)
      fail<FormatError>(source, "tensor ", quote(e.name), " begins at byte ", e.begin,
                        " of the data, expected ", covered, ": it ",
                        e.begin < covered ? "overlaps" : "leaves a hole after", " the one before");
    covered = e.end;
  }
  if (covered != data_size)
    fail<FormatError>(source, "has ", data_size, " bytes of data, but its tensors end at byte ", covered);
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path, MappedFile::Mode mode)
    : SafetensorsFile(MappedFile(path, mode)) {}

SafetensorsFile::SafetensorsFile(const MappedFile& file)
    : SafetensorsFile(file.owner(), file.bytes(), file.path().string(), file) {}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const void> owner, std::span<std::byte> bytes,
                                 std::string source)
    : SafetensorsFile(std::move(owner), bytes, std::move(source), std::nullopt) {}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const void> owner, std::span<std::byte> bytes,
                                 std::string source, std::optional<MappedFile> file) {
  const std::string_view text = header_text(bytes, source);
  const json::Value header = json::parse_object(text, source + ": header");
  const std::span<std::byte> data = bytes.subspan(kLengthBytes + text.size());

  auto contents = std::make_shared<Contents>();
  std::vector<Extent> extents;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      contents->metadata = read_metadata(value, source);
      continue;
    }
    auto [info, begin, end] = EntryReader(source, name, data.size()).read(value);
    contents->tensors.emplace(name, Entry{std::move(info), data.data() + begin});
    extents.push_back({begin, end, name});
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  require_gapless(extents, data.size(), source);
  for (Extent& e : extents) contents->names.push_back(std::move(e.name));
  contents->owner = std::move(owner);
  contents->file = std::move(file);
  contents->source = std::move(source);
  contents_ = std::move(contents);
}

const SafetensorsFile::Entry& SafetensorsFile::find(std::string_view name) const {
  const auto found = contents_->tensors.find(name);
  if (found == contents_->tensors.end()) fail<FormatError>(source(), "has no tensor ", quote(name));
  return found->second;
}

void SafetensorsFile::drop_pages(std::string_view name) const {
  const Entry& entry = find(name);
  if (contents_->file) contents_->file->drop_pages({entry.data, entry.info.nbytes});
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  const auto& [info, data] = find(name);
  if (!info.dtype)
    fail<UnsupportedError>(source(), "tensor ", quote(name), " has dtype ", info.stored_dtype,
                           ", which is not supported");
  if (info.dtype == DType::boolean) {
    const std::byte* const end = data + info.nbytes;
    const std::byte* bad =
        std::find_if<const std::byte*>(data, end, [](std::byte b) { return b > std::byte{1}; });
    if (bad != end)  // a bool of any other value is undefined behaviour
      fail<FormatError>(source(), "tensor ", quote(name), " of dtype BOOL holds the byte ",
                        std::to_integer<int>(*bad), ", expected 0 or 1");
  }
  if (reinterpret_cast<std::uintptr_t>(data) % size_of(*info.dtype) == 0)
    return Tensor::borrow(contents_->owner, data, info.shape, *info.dtype);
  Tensor copy = Tensor::empty(info.shape, *info.dtype);
  std::memcpy(copy.view().raw(), data, info.nbytes);
  return copy;
}

}  // namespace gpt
