#include "gpt/io/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <tuple>

#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "io/gguf_format.h"

namespace gpt {

using namespace gguf;

namespace {

template <class T>
T load(std::span<const std::byte> bytes, std::uint64_t at) noexcept {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

}  // namespace

std::string_view name_of(GgufType type) noexcept {
  const TypeInfo* const info = find_type(static_cast<std::uint32_t>(type));
  return info == nullptr ? "unknown" : info->name;
}

std::optional<DType> dtype_of_gguf(GgufType type) noexcept {
  switch (type) {
    case GgufType::kF32: return DType::f32;
    case GgufType::kF16: return DType::f16;
    case GgufType::kBF16: return DType::bf16;
    default: return std::nullopt;
  }
}

/// Walks through a file from its beginning.
class GgufFile::Parser {
 public:
  explicit Parser(Contents& contents) : c_(contents), bytes_(contents.bytes), source_(contents.source) {}

  void parse() {
    read_header();
    for (std::uint64_t i = 0; i < keys_; ++i) read_key();
    const std::uint64_t alignment = read_alignment();
    std::vector<std::tuple<std::uint64_t, std::uint64_t, std::string>> extents;  // offset, end, name
    for (std::uint64_t i = 0; i < tensors_; ++i) {
      auto [name, entry] = read_tensor(alignment);
      extents.emplace_back(entry.begin, entry.begin + entry.info.nbytes, name);
      if (!c_.tensors.emplace(name, std::move(entry)).second)
        fail<FormatError>(source_, "tensor ", quote(name), " occurs twice");
    }
    const std::uint64_t data = padded(at_, alignment);
    const std::uint64_t data_size = data <= bytes_.size() ? bytes_.size() - data : 0;
    std::sort(extents.begin(), extents.end());
    std::uint64_t covered = 0;
    for (auto& [begin, end, name] : extents) {
      if (end > data_size)
        fail<FormatError>(source_, "tensor ", quote(name), " ends at byte ", end,
                          " of the data, beyond the file's end: there are ", data_size, " bytes");
      if (begin < covered)
        fail<FormatError>(source_, "tensor ", quote(name), " begins at byte ", begin,
                          " of the data and overlaps the one before, which ends at ", covered);
      covered = end;
      c_.tensors.find(name)->second.begin += data;
      c_.names.push_back(std::move(name));
    }
  }

 private:
  template <class T>
  T read(std::string_view what) {
    if (bytes_.size() - at_ < sizeof(T))
      fail<FormatError>(source_, "ends at byte ", bytes_.size(), ", in ", what);
    const T value = load<T>(bytes_, at_);
    at_ += sizeof(T);
    return value;
  }

  std::string read_text(std::string_view what) {
    const auto length = read<std::uint64_t>(what);
    if (length > bytes_.size() - at_)
      fail<FormatError>(source_, what, " has ", length, " bytes, more than the ", bytes_.size() - at_,
                        " that are left of the file");
    std::string text(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
    at_ += length;
    return text;
  }

  /// A number of things of at least `least` bytes each.
  std::uint64_t read_count(std::string_view what, std::uint64_t least) {
    const auto count = read<std::uint64_t>(what);
    if (count > (bytes_.size() - at_) / least)
      fail<FormatError>(source_, what, " is ", count, ", more than the rest of the file, ",
                        bytes_.size() - at_, " bytes, can hold");
    return count;
  }

  void read_header() {
    if (bytes_.size() < kMagic.size() ||
        std::string_view(reinterpret_cast<const char*>(bytes_.data()), kMagic.size()) != kMagic)
      fail<FormatError>(source_, "is no GGUF file: it does not begin with ", kMagic);
    at_ = kMagic.size();
    c_.version = read<std::uint32_t>("the version");
    if (c_.version != 0 && (c_.version & 0xffff) == 0)
      fail<UnsupportedError>(source_, "is a big-endian GGUF file, expected a little-endian one");
    if (c_.version != 2 && c_.version != 3)
      fail<UnsupportedError>(source_, "is GGUF of version ", c_.version, ", expected 2 or 3");
    // A tensor is at least its name's length, dimensions, type and offset; a key its length, type and value. The number of
    // tensors stands before the keys.
    tensors_ = read_count("the number of tensors", 8 + 4 + 8 + 4 + 8);
    keys_ = read_count("the number of keys", 8 + 4 + 1);
  }

  void read_key() {
    const std::string key = read_text("the name of a key");
    const std::string what = concat("key ", quote(key));
    Value value;
    value.type = read<std::uint32_t>(what);
    value.list = value.type == kArray;
    if (value.list) {
      value.type = read<std::uint32_t>(what);
      if (value.type == kArray) fail<UnsupportedError>(source_, what, " is a list of lists");
    }
    if (value.type >= kValueNames.size())
      fail<FormatError>(source_, what, " has the unknown type ", value.type);
    if (value.list) value.count = read_count(concat(what, ": its length"), kValueBytes[value.type]);
    value.begin = at_;
    skip_value(what, value);
    if (!c_.values.emplace(key, value).second) fail<FormatError>(source_, what, " occurs twice");
  }

  void skip_value(const std::string& what, const Value& value) {
    for (std::uint64_t i = 0; value.type == kString && i < value.count; ++i) {
      const auto length = read<std::uint64_t>(what);
      if (length > bytes_.size() - at_)
        fail<FormatError>(source_, what, " holds text of ", length, " bytes, more than the ",
                          bytes_.size() - at_, " that are left of the file");
      at_ += length;
    }
    if (value.type == kString) return;
    const std::uint64_t size = value.count * kValueBytes[value.type];  // a list's was compared with the file
    if (size > bytes_.size() - at_) fail<FormatError>(source_, "ends at byte ", bytes_.size(), ", in ", what);
    for (std::uint64_t i = 0; value.type == kBool && i < size; ++i)
      if (load<std::uint8_t>(bytes_, at_ + i) > 1)
        fail<FormatError>(source_, what, " holds the flag ", load<std::uint8_t>(bytes_, at_ + i),
                          ", expected 0 or 1");
    at_ += size;
  }

  std::uint64_t read_alignment() const {
    constexpr std::string_view kKey = "general.alignment";
    const auto found = c_.values.find(kKey);
    if (found == c_.values.end()) return gguf::kAlignment;
    if (found->second.list || found->second.type != kUint32)
      fail<FormatError>(source_, kKey, " is no uint32");
    const auto alignment = load<std::uint32_t>(bytes_, found->second.begin);
    if (!std::has_single_bit(alignment))
      fail<FormatError>(source_, kKey, " is ", alignment, ", expected a power of 2");
    return alignment;
  }

  std::pair<std::string, Entry> read_tensor(std::uint64_t alignment) {
    std::string name = read_text("the name of a tensor");
    const std::string what = concat("tensor ", quote(name));
    Entry entry;
    const auto rank = read<std::uint32_t>(what);
    if (rank < 1 || rank > kMaxDimensions)
      fail<FormatError>(source_, what, " has ", rank, " dimensions, expected 1 to ", kMaxDimensions);
    std::vector<std::int64_t> extents(rank);
    for (std::uint32_t i = 0; i < rank; ++i) {
      const auto extent = read<std::uint64_t>(what);
      if (extent < 1 || extent > std::numeric_limits<std::int64_t>::max())
        fail<FormatError>(source_, what, " has the extent ", extent, ", expected 1 to 2^63 - 1");
      extents[rank - 1 - i] = static_cast<std::int64_t>(extent);
    }
    try {
      entry.info.shape = Shape(extents);
    } catch (const ShapeError&) {
      fail<FormatError>(source_, what, " has a shape whose number of elements overflows");
    }
    const auto number = read<std::uint32_t>(what);
    const TypeInfo* const type = find_type(number);
    if (type == nullptr && number < kTypeNames.size() && !kTypeNames[number].empty())
      fail<UnsupportedError>(source_, what, " is ", kTypeNames[number], ", which is not supported");
    if (type == nullptr) fail<FormatError>(source_, what, " has the unknown type ", number);
    entry.info.type = type->type;
    try {
      entry.info.nbytes = gguf_tensor_size(name_of(type->type), type->type, entry.info.shape);
    } catch (const Error& e) {
      fail<FormatError>(source_, what, ": ", e.what());
    }
    entry.begin = read<std::uint64_t>(what);
    if (entry.begin % alignment != 0)
      fail<FormatError>(source_, what, " begins at byte ", entry.begin,
                        " of the data, which is no multiple of the alignment ", alignment);
    if (entry.begin > bytes_.size() || entry.info.nbytes > bytes_.size())
      fail<FormatError>(source_, what, " has ", entry.info.nbytes, " bytes from byte ", entry.begin,
                        " of the data on, beyond the file's end: it has ", bytes_.size(), " bytes");
    return {std::move(name), std::move(entry)};
  }

  Contents& c_;
  std::span<const std::byte> bytes_;
  const std::string& source_;
  std::uint64_t at_ = 0;
  std::uint64_t tensors_ = 0, keys_ = 0;
};

GgufFile::GgufFile(const std::filesystem::path& path, MappedFile::Mode mode) {
  with_memory_errors(path.native(), [&] {
    Contents contents;
    contents.source = path.string();
    const MappedFile& file = contents.mapping.emplace(path, mode);
    contents.owner = file.owner();
    contents.bytes = file.bytes();
    parse(std::move(contents));
  });
}

GgufFile::GgufFile(std::shared_ptr<const void> owner, std::span<std::byte> bytes, std::string source) {
  with_memory_errors("GgufFile", [&] {
    Contents contents;
    contents.owner = std::move(owner);
    contents.bytes = bytes;
    contents.source = std::move(source);
    parse(std::move(contents));
  });
}

void GgufFile::parse(Contents contents) {
  static_assert(std::endian::native == std::endian::little);
  Parser(contents).parse();
  contents_ = std::make_shared<const Contents>(std::move(contents));
}

std::vector<std::string> GgufFile::keys() const {
  return with_memory_errors(source(), [&] {
    std::vector<std::string> keys;
    for (const auto& [key, value] : contents_->values) keys.push_back(key);
    return keys;
  });
}

const GgufFile::Value* GgufFile::value(std::string_view key, bool list) const {
  const auto found = contents_->values.find(key);
  if (found == contents_->values.end()) return nullptr;
  if (found->second.list != list) fail_value(key, found->second, list ? "a list" : "a single value");
  return &found->second;
}

void GgufFile::fail_value(std::string_view key, const Value& value, std::string_view expected) const {
  fail<FormatError>(source(), key, " is ", value.list ? "a list of " : "", kValueNames[value.type],
                    ", expected ", expected);
}

std::int64_t GgufFile::integer_at(std::string_view key, const Value& value, std::uint64_t i) const {
  const std::uint64_t at = value.begin + i * kValueBytes[value.type];
  const std::span<const std::byte> bytes = contents_->bytes;
  switch (value.type) {
    case kUint8: return load<std::uint8_t>(bytes, at);
    case kInt8: return load<std::int8_t>(bytes, at);
    case kUint16: return load<std::uint16_t>(bytes, at);
    case kInt16: return load<std::int16_t>(bytes, at);
    case kUint32: return load<std::uint32_t>(bytes, at);
    case kInt32: return load<std::int32_t>(bytes, at);
    case kInt64: return load<std::int64_t>(bytes, at);
    case kUint64: {
      const auto n = load<std::uint64_t>(bytes, at);
      if (n > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        fail<FormatError>(source(), key, " holds ", n, ", expected less than 2^63");
      return static_cast<std::int64_t>(n);
    }
    default: fail_value(key, value, value.list ? "a list of integers" : "an integer");
  }
}

std::optional<std::uint64_t> GgufFile::get_unsigned(std::string_view key) const {
  const Value* const v = value(key, false);
  if (v == nullptr) return std::nullopt;
  const std::int64_t n = integer_at(key, *v, 0);
  if (n < 0) fail<FormatError>(source(), key, " is ", n, ", expected 0 or more");
  return static_cast<std::uint64_t>(n);
}

std::optional<double> GgufFile::get_float(std::string_view key) const {
  const Value* const v = value(key, false);
  if (v == nullptr) return std::nullopt;
  if (v->type == kFloat32) return static_cast<double>(load<float>(contents_->bytes, v->begin));
  if (v->type != kFloat64) fail_value(key, *v, "float32 or float64");
  return load<double>(contents_->bytes, v->begin);
}

std::optional<bool> GgufFile::get_bool(std::string_view key) const {
  const Value* const v = value(key, false);
  if (v == nullptr) return std::nullopt;
  if (v->type != kBool) fail_value(key, *v, "a bool");
  return load<std::uint8_t>(contents_->bytes, v->begin) != 0;
}

std::optional<std::string> GgufFile::get_string(std::string_view key) const {
  return with_memory_errors(source(), [&]() -> std::optional<std::string> {
    const Value* const v = value(key, false);
    if (v == nullptr) return std::nullopt;
    if (v->type != kString) fail_value(key, *v, "text");
    return std::string(reinterpret_cast<const char*>(contents_->bytes.data()) + v->begin + 8,
                       load<std::uint64_t>(contents_->bytes, v->begin));
  });
}

std::optional<std::vector<std::string>> GgufFile::get_strings(std::string_view key) const {
  return with_memory_errors(source(), [&]() -> std::optional<std::vector<std::string>> {
    const Value* const v = value(key, true);
    if (v == nullptr) return std::nullopt;
    if (v->type != kString) fail_value(key, *v, "a list of text");
    std::vector<std::string> texts;
    texts.reserve(v->count);
    std::uint64_t at = v->begin;
    for (std::uint64_t i = 0; i < v->count; ++i) {
      const auto length = load<std::uint64_t>(contents_->bytes, at);
      texts.emplace_back(reinterpret_cast<const char*>(contents_->bytes.data()) + at + 8, length);
      at += 8 + length;
    }
    return texts;
  });
}

std::optional<std::vector<std::int64_t>> GgufFile::get_ints(std::string_view key) const {
  return with_memory_errors(source(), [&]() -> std::optional<std::vector<std::int64_t>> {
    const Value* const v = value(key, true);
    if (v == nullptr) return std::nullopt;
    std::vector<std::int64_t> integers;
    for (std::uint64_t i = 0; i < v->count; ++i) integers.push_back(integer_at(key, *v, i));
    return integers;
  });
}

const GgufFile::Entry& GgufFile::find(std::string_view name) const {
  const auto found = contents_->tensors.find(name);
  if (found == contents_->tensors.end()) fail<FormatError>(source(), "has no tensor ", quote(name));
  return found->second;
}

std::span<const std::byte> GgufFile::bytes(std::string_view name) const {
  const Entry& entry = find(name);
  return contents_->bytes.subspan(entry.begin, entry.info.nbytes);
}

Tensor GgufFile::tensor(std::string_view name) const {
  return with_memory_errors(source(), [&]() -> Tensor {
    const Entry& entry = find(name);
    const auto dtype = dtype_of_gguf(entry.info.type);
    if (!dtype)
      fail<UnsupportedError>(source(), "tensor ", quote(name), " is ", name_of(entry.info.type),
                             ", expected F32, F16 or BF16");
    std::byte* const data = contents_->bytes.data() + entry.begin;
    if (reinterpret_cast<std::uintptr_t>(data) % size_of(*dtype) == 0)
      return Tensor::borrow(contents_->owner, data, entry.info.shape, *dtype);
    Tensor copy = Tensor::empty(entry.info.shape, *dtype);
    std::memcpy(copy.view().raw(), data, entry.info.nbytes);
    return copy;
  });
}

void GgufFile::drop_pages(std::string_view name) const {
  const Entry& entry = find(name);
  if (contents_->mapping)
    contents_->mapping->drop_pages(contents_->bytes.subspan(entry.begin, entry.info.nbytes));
}

}  // namespace gpt
