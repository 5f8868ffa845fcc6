// GGUF files: llama.cpp's container of metadata, tokenizer and weights.
// Format: https://github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3, little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/atomic_file.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/shape.h"
#include "gpt/core/tensor.h"

namespace gpt {

/// Element types of tensors, under ggml's numbers; the blocks are described in gpt/ops/gguf_blocks.h.
enum class GgufType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30
};

/// "F32", "Q4_K", ...; "unknown" for a number that is none of these.
std::string_view name_of(GgufType type) noexcept;
/// f32, f16 or bf16; empty for blocks.
std::optional<DType> dtype_of_gguf(GgufType type) noexcept;

/// What a GGUF file says of one of its tensors.
struct GgufTensorInfo {
  GgufType type = GgufType::kF32;
  Shape shape;  // row-major: the file's dimensions in reverse order
  std::size_t nbytes = 0;
};

/// One GGUF file. Everything in it is checked once, when it is opened, and no tensor is read. Copies share the file, which stays
/// open as long as one of them, or a tensor in it, lives. Const access is thread-safe.
class GgufFile {
 public:
  /// kRead reads the whole file into memory, which its tensors then share. Throws IoError as MappedFile, and naming the file
  /// and the key or tensor FormatError when
  ///   - the magic is wrong, or the file ends early, or a count or length is more than the file can hold;
  ///   - a key or a tensor occurs twice, the type of a value or tensor does not exist, a flag is neither 0 nor 1;
  ///   - the alignment is no power of 2, or a tensor is not aligned to it;
  ///   - a tensor has no dimensions, more than 4, one of 0, or more elements than can be counted; its rows are no whole blocks;
  ///   - tensors overlap, or end after the file;
  /// UnsupportedError for version 1 and unknown ones, big-endian files, lists of lists, types of tensors not listed above.
  explicit GgufFile(const std::filesystem::path& path, MappedFile::Mode mode = MappedFile::Mode::kMap);
  /// The same on bytes in memory that `owner` keeps alive. `source` names them in errors.
  GgufFile(std::shared_ptr<const void> owner, std::span<std::byte> bytes, std::string source);

  std::uint32_t version() const noexcept { return contents_->version; }
  /// The keys of the metadata, sorted.
  std::vector<std::string> keys() const;
  bool has(std::string_view key) const noexcept { return contents_->values.contains(key); }
  /// The value of a key; empty when there is none. Throw FormatError naming the key when it is something else: get_unsigned
  /// takes integers of any width from 0 on, get_float both widths, get_strings a list of text, get_ints one of integers.
  std::optional<std::uint64_t> get_unsigned(std::string_view key) const;
  std::optional<double> get_float(std::string_view key) const;
  std::optional<bool> get_bool(std::string_view key) const;
  std::optional<std::string> get_string(std::string_view key) const;
  std::optional<std::vector<std::string>> get_strings(std::string_view key) const;
  std::optional<std::vector<std::int64_t>> get_ints(std::string_view key) const;

  /// Names in the order of the data in the file.
  const std::vector<std::string>& names() const noexcept { return contents_->names; }
  bool contains(std::string_view name) const noexcept { return contents_->tensors.contains(name); }
  /// These throw FormatError naming the file and the tensor when there is none of that name.
  const GgufTensorInfo& info(std::string_view name) const { return find(name).info; }
  std::span<const std::byte> bytes(std::string_view name) const;
  /// The tensor, without a copy, sharing the ownership of the file; copied where the file does not align it to its element
  /// size. Throws UnsupportedError for blocks, MemoryError.
  Tensor tensor(std::string_view name) const;
  /// As SafetensorsFile::drop_pages.
  void drop_pages(std::string_view name) const;

  /// The path, as given, or the name of the memory.
  const std::string& source() const noexcept { return contents_->source; }

 private:
  struct Value {
    std::uint32_t type = 0;  // of the elements, of a list
    bool list = false;
    std::uint64_t count = 1;
    std::uint64_t begin = 0;  // in the file: of the first element
  };
  struct Entry {
    GgufTensorInfo info;
    std::uint64_t begin = 0;  // in the file
  };
  struct Contents {
    std::optional<MappedFile> mapping;
    std::shared_ptr<const void> owner;
    std::span<std::byte> bytes;
    std::string source;
    std::uint32_t version = 0;
    std::map<std::string, Value, std::less<>> values;
    std::vector<std::string> names;
    std::map<std::string, Entry, std::less<>> tensors;
  };
  class Parser;
  void parse(Contents contents);
  const Entry& find(std::string_view name) const;
  const Value* value(std::string_view key, bool list) const;
  [[noreturn]] void fail_value(std::string_view key, const Value& value, std::string_view expected) const;
  std::int64_t integer_at(std::string_view key, const Value& value, std::uint64_t i) const;

  std::shared_ptr<const Contents> contents_;
};

/// The metadata of a file to be written, in the order of the calls.
class GgufMetadata {
 public:
  void set_uint32(std::string_view key, std::uint32_t value);
  void set_float32(std::string_view key, float value);
  void set_bool(std::string_view key, bool value);
  void set_string(std::string_view key, std::string_view value);
  void set_strings(std::string_view key, std::span<const std::string> values);
  void set_int32s(std::string_view key, std::span<const std::int32_t> values);

  std::uint64_t count() const noexcept { return keys_.size(); }
  const std::vector<std::string>& keys() const noexcept { return keys_; }
  /// As it stands in the file.
  const std::string& bytes() const noexcept { return bytes_; }

 private:
  void begin(std::string_view key, std::uint32_t type);

  std::string bytes_;
  std::vector<std::string> keys_;
};

/// A tensor to be written. `make` gives its bytes, called once, when their turn comes.
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::kF32;
  Shape shape;  // row-major
  std::function<std::vector<std::byte>()> make;
};

/// Bytes of a tensor. Throws ArgumentError for a type that is none, UnsupportedError where its rows are no whole blocks,
/// ShapeError.
std::size_t gguf_tensor_size(std::string_view name, GgufType type, const Shape& shape);

/// Writes a file of version 3, aligned to 32 bytes, that the caller commits. Throws IoError as PendingFile; ArgumentError for a
/// name or key that occurs twice, a name longer than ggml's 63 bytes, the key general.alignment, and a tensor without
/// dimensions, with more than 4 or one of 0, or of a type that is none; ShapeError when a tensor's bytes are not as many as it
/// needs.
void write_gguf(PendingFile& file, const GgufMetadata& metadata, std::span<const GgufTensor> tensors);

}  // namespace gpt
