// The weights of Hugging Face checkpoints: safetensors files, single and sharded.
// Format: https://github.com/huggingface/safetensors, README.md, "Format".
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/atomic_file.h"
#include "gpt/core/dtype.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/shape.h"
#include "gpt/core/tensor.h"

namespace gpt {

class InputFile;

using Metadata = std::map<std::string, std::string, std::less<>>;

/// What a safetensors file says of one of its tensors.
struct TensorInfo {
  std::string stored_dtype;    // as the file writes it: "F32", "BF16", "F8_E4M3", ...
  std::optional<DType> dtype;  // empty for a type that libgpt lacks: the tensor can be listed, not read
  Shape shape;
  std::size_t nbytes = 0;
};

/// A tensor that lies in a file of another format as it would in this one: row-major, little-endian, in one piece.
struct PlacedTensor {
  std::string name;
  TensorInfo info;
  std::uint64_t begin = 0;  // in the file
};

/// One safetensors file. Everything in it is checked once, when it is opened, and nothing is read but the
/// header. Copies share the file, which stays open, or mapped, as long as one of them, or a tensor in the mapping, lives. Const
/// access is thread-safe.
class SafetensorsFile {
 public:
  /// Throws IoError as MappedFile does, and FormatError naming the file and the tensor when
  ///   - the header is not JSON, longer than 100 MB or than the file, or does not begin with '{';
  ///   - a name occurs twice, a dtype is unknown, a field is missing, unknown or of another type;
  ///   - a shape overflows, or its size is not that of data_offsets;
  ///   - the tensors overlap, leave holes, or do not end where the file ends.
  /// Throws UnsupportedError for a tensor of more than Shape::kMaxRank dimensions.
  explicit SafetensorsFile(const std::filesystem::path& path, MappedFile::Mode mode = MappedFile::Mode::kMap);

  /// The same on bytes in memory that `owner` keeps alive (empty: the caller does, for as long as any
  /// tensor() lives). `source` names them in errors.
  SafetensorsFile(std::shared_ptr<const void> owner, std::span<std::byte> bytes, std::string source);

  /// The tensors that a file of another format holds, in this order; they may overlap. Throws IoError as MappedFile, FormatError
  /// naming the tensor for a name that occurs twice and for bytes beyond the file's end.
  SafetensorsFile(const std::filesystem::path& path, MappedFile::Mode mode,
                  std::vector<PlacedTensor> tensors);

  /// Names in the order of the data in the file; of tensors that were given, as they were: those of pytorch_model.bin in the
  /// order of its dict.
  const std::vector<std::string>& names() const noexcept { return contents_->names; }
  bool contains(std::string_view name) const noexcept { return contents_->tensors.contains(name); }
  /// Throws FormatError naming the file and the tensor when there is none of that name.
  const TensorInfo& info(std::string_view name) const { return find(name).info; }

  /// The tensor, without a copy, sharing the ownership of the file; copied where the file does not align it
  /// to its element size. Of a file opened with kRead, read anew at every call into memory of its own. Throws FormatError
  /// when there is none, or a BOOL holds a byte other than 0 and 1; UnsupportedError for a dtype that libgpt lacks;
  /// MemoryError; with kRead, IoError.
  Tensor tensor(std::string_view name) const;

  /// Lets go of the memory that the tensor's bytes in a mapped file take; whoever reads them next reads the file again.
  /// What was written to them is lost. Does nothing to a file that is not mapped.
  void drop_pages(std::string_view name) const;

  /// The content of "__metadata__".
  const Metadata& metadata() const noexcept { return contents_->metadata; }
  /// The path, as given, or the name of the memory.
  const std::string& source() const noexcept { return contents_->source; }

 private:
  struct Entry {
    TensorInfo info;
    std::uint64_t begin = 0;  // in the file
  };
  struct Contents {
    std::shared_ptr<const InputFile> input;  // of kRead; otherwise the bytes are in memory:
    std::optional<MappedFile> mapping;       // none: in the memory of a caller
    std::shared_ptr<const void> owner;
    std::byte* bytes = nullptr;
    std::string source;
    std::vector<std::string> names;
    std::map<std::string, Entry, std::less<>> tensors;
    Metadata metadata;
  };
  static std::uint64_t open(const std::filesystem::path& path, MappedFile::Mode mode, Contents& contents);
  void parse(Contents contents, std::uint64_t file_size);
  const Entry& find(std::string_view name) const;

  std::shared_ptr<const Contents> contents_;
};

/// The weights in a Hugging Face directory: `model.safetensors`, or else the shards that
/// `model.safetensors.index.json` names. As in transformers, all tensors of all shards count, whether the
/// index lists them or not; but the index must be right in what it lists, and no name may be in two shards.
class Checkpoint {
 public:
  /// Throws, besides what SafetensorsFile throws: IoError when the directory is missing or holds no weights;
  /// UnsupportedError when it holds only pytorch_model.bin; FormatError when the index is malformed, names a
  /// shard outside the directory, or a tensor that its shard does not have.
  explicit Checkpoint(const std::filesystem::path& directory, MappedFile::Mode mode = MappedFile::Mode::kMap);

  /// The weights in `pytorch_model.bin`, or else the shards that `pytorch_model.bin.index.json` names, as torch.save of PyTorch
  /// 1.6 or later writes them; of their pickles nothing is executed. Throws likewise; UnsupportedError naming what no dict of
  /// tensors needs, files of older PyTorch, tensors that are not contiguous.
  static Checkpoint pickled(const std::filesystem::path& directory,
                            MappedFile::Mode mode = MappedFile::Mode::kMap);

  /// Names shard after shard (shards in the order of their file names), inside a shard as
  /// SafetensorsFile::names.
  const std::vector<std::string>& names() const noexcept { return names_; }
  bool contains(std::string_view name) const noexcept { return shard_of_.contains(name); }
  /// These throw as SafetensorsFile's; a name that is nowhere is reported with the directory or file looked
  /// in.
  const TensorInfo& info(std::string_view name) const { return shard(name).info(name); }
  Tensor tensor(std::string_view name) const { return shard(name).tensor(name); }
  void drop_pages(std::string_view name) const { shard(name).drop_pages(name); }

  /// The metadata of the first shard.
  const Metadata& metadata() const noexcept { return shards_.front().metadata(); }
  /// The file, or the index of the shards.
  const std::string& source() const noexcept { return source_; }
  /// The files that were opened: the one, or the shards.
  std::vector<std::filesystem::path> files() const;

 private:
  using Opener = SafetensorsFile (*)(const std::filesystem::path& path, MappedFile::Mode mode);
  Checkpoint() = default;
  void open_one(const std::filesystem::path& file, MappedFile::Mode mode, Opener open);
  void open_shards(const std::filesystem::path& directory, const char* index, MappedFile::Mode mode,
                   Opener open);
  void add_shard(SafetensorsFile file);
  const SafetensorsFile& shard(std::string_view name) const;

  std::string source_;
  std::vector<SafetensorsFile> shards_;  // never empty
  std::vector<std::string> names_;
  std::map<std::string, std::size_t, std::less<>> shard_of_;
};

/// What a sharded checkpoint in the directory consists of, to be removed when `model.safetensors` takes its place: the index
/// first, then the shards it names (those in the directory itself, called *.safetensors, save `model.safetensors`). Empty
/// without an index; the index alone when it is not one. Throws IoError as Checkpoint.
std::vector<std::filesystem::path> sharded_files(const std::filesystem::path& directory);

struct NamedTensor {
  std::string name;
  ConstTensorView tensor;
  /// The weight type that the file gets it in, rounded to nearest even; unset: its own.
  std::optional<DType> stored = {};
};

/// Writes a safetensors file as the reference implementation lays it out: larger element types first, then by
/// name, every tensor aligned to its element size; the header padded with spaces so that the data begin at a multiple of
/// 64 bytes (the reference implementation: 8). The file
/// is replaced atomically (AtomicFile), so the tensors may lie in the very file that is being replaced.
/// transformers wants
/// {"format", "pt"} among the metadata.
/// Throws IoError as AtomicFile; ArgumentError for a name that occurs twice, is "__metadata__" or is not
/// UTF-8, and for a header beyond 100 MB; UnsupportedError as Tensor::to for a type to store;
/// NumericError naming the tensor for a finite element that would become infinite in it.
void save_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                      const Metadata& metadata = {});

/// The same content, written to a file that the caller commits. Throws likewise, and CancelledError: `stop` is checked before every
/// tensor.
void write_safetensors(PendingFile& file, std::span<const NamedTensor> tensors, const Metadata& metadata = {},
                       const std::stop_token& stop = {});

}  // namespace gpt
