#include "gpt/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "core/input_file.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "io/safetensors_dtypes.h"

namespace gpt {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors are read and written without byte swapping");

// A tensor consists of some ten values, and metadata of one for each key: what has more is neither, and would take much memory
// before it is seen.
constexpr std::size_t kMostValues = 65536;

constexpr std::size_t kLengthBytes = 8;  // the header's length, before the header

/// The bytes of the header, told by the file's first eight.
std::size_t header_length(std::span<const std::byte, kLengthBytes> first, std::uint64_t file_size,
                          std::string_view source) {
  std::uint64_t length = 0;
  std::memcpy(&length, first.data(), kLengthBytes);
  if (length > kMaxSafetensorsHeader)
    fail<FormatError>(source, "is no safetensors file: the header would be ", length,
                      " bytes long, the limit is ", kMaxSafetensorsHeader);
  if (length > file_size - kLengthBytes)
    fail<FormatError>(source, "is truncated: the header is ", length, " bytes long, ",
                      file_size - kLengthBytes, " are there");
  return static_cast<std::size_t>(length);
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

  Result read(const json::Value& value) const {
    const auto* object = value.get_if<json::Value::Object>();
    if (object == nullptr) fail_here("is ", json::describe(value), ", expected an object");
    const json::Value::Object& entry = *object;
    for (const auto& [field, ignored] : entry)
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

  const json::Value& field(const json::Value::Object& entry, const char* name) const {
    const json::Value* found = json::find(entry, name);
    if (found == nullptr) fail_here("has no ", name);
    return *found;
  }

  const StoredDType& read_dtype(const json::Value::Object& entry) const {
    const json::Value& value = field(entry, "dtype");
    const auto* name = value.get_if<std::string>();
    const StoredDType* found = name == nullptr ? nullptr : find_stored_dtype(*name);
    if (found == nullptr)
      fail_here("has the unknown dtype ", json::describe(value), ", expected F32, BF16, I64, ...");
    return *found;
  }

  Shape read_shape(const json::Value::Object& entry) const {
    const json::Value& value = field(entry, "shape");
    const auto* list = value.get_if<json::Value::Array>();
    if (list == nullptr) fail_here("has the shape ", json::describe(value), ", expected a list");
    if (list->size() > Shape::kMaxRank)
      fail_here<UnsupportedError>("has ", list->size(), " dimensions, more than the ", Shape::kMaxRank,
                                  " that are supported");
    std::vector<std::int64_t> extents;
    for (const json::Value& extent : *list) {
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

  std::pair<std::uint64_t, std::uint64_t> read_offsets(const json::Value::Object& entry) const {
    const json::Value& value = field(entry, "data_offsets");
    const auto* list = value.get_if<json::Value::Array>();
    if (list == nullptr || list->size() != 2)
      fail_here("has data_offsets that are ", json::describe(value), ", expected [begin, end]");
    const std::uint64_t begin = read_unsigned(list->front(), "data_offsets");
    const std::uint64_t end = read_unsigned(list->back(), "data_offsets");
    if (end < begin) fail_here("ends before it begins: data_offsets [", begin, ", ", end, "]");
    if (end > data_size_)
      fail_here("ends at byte ", end, " of the data, beyond the file's end: there are ", data_size_,
                " bytes");
    return {begin, end};
  }

  std::uint64_t read_unsigned(const json::Value& value, const char* where) const {
    const auto number = value.to_unsigned();
    if (!number)
      fail_here("has ", json::describe(value), " in its ", where, ", expected an integer from 0 to ",
                std::numeric_limits<std::uint64_t>::max());
    return *number;
  }

  std::string_view source_;
  std::string_view name_;
  std::uint64_t data_size_;
};

Metadata read_metadata(const json::Value& value, std::string_view source) {
  const auto* object = value.get_if<json::Value::Object>();
  if (object == nullptr)
    fail<FormatError>(source, "__metadata__ is ", json::describe(value), ", expected an object");
  Metadata metadata;
  for (const auto& [key, entry] : *object) {
    const auto* text = entry.get_if<std::string>();
    if (text == nullptr)
      fail<FormatError>(source, "__metadata__: ", quote(key), " is ", json::describe(entry),
                        ", expected a string");
    metadata.emplace(key, *text);
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

std::uint64_t SafetensorsFile::open(const std::filesystem::path& path, MappedFile::Mode mode,
                                    Contents& contents) {
  contents.source = path.string();
  if (mode == MappedFile::Mode::kRead) {
    contents.input = std::make_shared<const InputFile>(path);
    return contents.input->size();
  }
  const MappedFile& file = contents.mapping.emplace(path);
  contents.owner = file.owner();
  contents.bytes = file.bytes().data();
  return file.bytes().size();
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path, MappedFile::Mode mode) {
  with_memory_errors(path.native(), [&] {
    Contents contents;
    const std::uint64_t size = open(path, mode, contents);
    parse(std::move(contents), size);
  });
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path, MappedFile::Mode mode,
                                 std::vector<PlacedTensor> tensors) {
  with_memory_errors(path.native(), [&] {
    Contents contents;
    const std::uint64_t size = open(path, mode, contents);
    for (PlacedTensor& tensor : tensors) {
      if (tensor.begin > size || tensor.info.nbytes > size - tensor.begin)
        fail<FormatError>(contents.source, "tensor ", quote(tensor.name), " of ", tensor.info.nbytes,
                          " bytes ends beyond the file's end");
      if (!contents.tensors.emplace(tensor.name, Entry{std::move(tensor.info), tensor.begin}).second)
        fail<FormatError>(contents.source, "tensor ", quote(tensor.name), " occurs twice");
      contents.names.push_back(std::move(tensor.name));
    }
    contents_ = std::make_shared<const Contents>(std::move(contents));
  });
}

SafetensorsFile::SafetensorsFile(std::shared_ptr<const void> owner, std::span<std::byte> bytes,
                                 std::string source) {
  with_memory_errors("SafetensorsFile", [&] {
    Contents contents;
    contents.owner = std::move(owner);
    contents.bytes = bytes.data();
    contents.source = std::move(source);
    parse(std::move(contents), bytes.size());
  });
}

void SafetensorsFile::parse(Contents contents, std::uint64_t file_size) {
  const std::string& source = contents.source;
  std::vector<std::byte> buffer;
  const auto bytes_at = [&](std::size_t begin, std::size_t size) -> std::span<const std::byte> {
    if (!contents.input) return {contents.bytes + begin, size};
    buffer.resize(size);
    contents.input->read(begin, buffer);
    return buffer;
  };
  if (file_size < kLengthBytes)
    fail<FormatError>(source, "is no safetensors file: it has ", file_size, " bytes, expected 8 or more");
  const std::size_t length =
      header_length(bytes_at(0, kLengthBytes).first<kLengthBytes>(), file_size, source);
  const std::span<const std::byte> header_bytes = bytes_at(kLengthBytes, length);
  const std::string_view text(reinterpret_cast<const char*>(header_bytes.data()), length);
  if (!text.starts_with('{'))
    fail<FormatError>(source, "is no safetensors file: the header does not begin with '{'");
  const std::uint64_t data_begin = kLengthBytes + length, data_size = file_size - data_begin;

  const std::string header = source + ": header";
  const auto require_first = [&header](bool is_first, const std::string& name) {
    if (!is_first) fail<FormatError>(header, "has the key ", quote(name), " twice in one object");
  };
  std::vector<Extent> extents;
  bool has_metadata = false;
  json::for_each_member(text, header, kMostValues, [&](const json::Value::Member& member) {
    const std::string& name = member.key;
    if (name == "__metadata__") {
      require_first(!std::exchange(has_metadata, true), name);
      contents.metadata = read_metadata(member.value, source);
      return;
    }
    auto [info, begin, end] = EntryReader(source, name, data_size).read(member.value);
    require_first(contents.tensors.emplace(name, Entry{std::move(info), data_begin + begin}).second, name);
    extents.push_back({begin, end, name});
  });
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  require_gapless(extents, data_size, source);
  for (Extent& e : extents) contents.names.push_back(std::move(e.name));
  contents_ = std::make_shared<const Contents>(std::move(contents));
}

const SafetensorsFile::Entry& SafetensorsFile::find(std::string_view name) const {
  const auto found = contents_->tensors.find(name);
  if (found == contents_->tensors.end()) fail<FormatError>(source(), "has no tensor ", quote(name));
  return found->second;
}

void SafetensorsFile::drop_pages(std::string_view name) const {
  const Entry& entry = find(name);
  if (contents_->mapping) contents_->mapping->drop_pages({contents_->bytes + entry.begin, entry.info.nbytes});
}

Tensor SafetensorsFile::tensor(std::string_view name) const {
  return with_memory_errors(source(), [&]() -> Tensor {
    const Entry& entry = find(name);
    const TensorInfo& info = entry.info;
    if (!info.dtype)
      fail<UnsupportedError>(source(), "tensor ", quote(name), " has dtype ", info.stored_dtype,
                             ", which is not supported");
    const auto checked = [&](Tensor tensor) {
      if (info.dtype == DType::boolean)  // a bool of any other value is undefined behaviour
        for (const std::byte b : std::span(std::as_const(tensor).view().raw(), info.nbytes))
          if (b > std::byte{1})
            fail<FormatError>(source(), "tensor ", quote(name), " of dtype BOOL holds the byte ",
                              std::to_integer<int>(b), ", expected 0 or 1");
      return tensor;
    };
    if (!contents_->input) {
      std::byte* const data = contents_->bytes + entry.begin;
      if (reinterpret_cast<std::uintptr_t>(data) % size_of(*info.dtype) == 0)
        return checked(Tensor::borrow(contents_->owner, data, info.shape, *info.dtype));
    }
    Tensor copy = Tensor::empty(info.shape, *info.dtype);
    const std::span<std::byte> to(copy.view().raw(), info.nbytes);
    if (contents_->input)
      contents_->input->read(entry.begin, to);
    else
      std::copy_n(contents_->bytes + entry.begin, to.size(), to.data());
    return checked(std::move(copy));
  });
}

}  // namespace gpt
