#include "io/pytorch_file.h"

#include <algorithm>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/input_file.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "io/pickle.h"
#include "io/safetensors_dtypes.h"
#include "io/zip_archive.h"

namespace gpt {
namespace {

constexpr std::uint64_t kMostPickle = 2'000'000;  // bytes; that of GPT-2's largest has 0.1 million
constexpr std::string_view kPickleName = "/data.pkl";

constexpr std::pair<std::string_view, DType> kStorageTypes[] = {
    {"FloatStorage", DType::f32},   {"HalfStorage", DType::f16}, {"BFloat16Storage", DType::bf16},
    {"DoubleStorage", DType::f64},  {"LongStorage", DType::i64}, {"IntStorage", DType::i32},
    {"ShortStorage", DType::i16},   {"CharStorage", DType::i8},  {"ByteStorage", DType::u8},
    {"BoolStorage", DType::boolean}};

std::string text_at(const InputFile& file, const ZipArchive::Member& member) {
  std::string text(member.size, '\0');
  file.read(member.begin, std::as_writable_bytes(std::span(text)));
  return text;
}

void require_zip(const InputFile& file, const std::string& source) {
  unsigned char start[4] = {};
  if (file.size() >= sizeof start) file.read(0, std::as_writable_bytes(std::span(start)));
  if (start[0] == 'P' && start[1] == 'K' && start[2] == 3 && start[3] == 4) return;
  if (start[0] == 0x80)
    fail<UnsupportedError>(source,
                           "is of the format of PyTorch before 1.6, which is not read: load and save it "
                           "with a newer one (torch.save(torch.load(file, weights_only=True), file))");
  fail<FormatError>(source, "is no file of torch.save: it does not begin as a zip archive");
}

class StateDict {
 public:
  StateDict(const InputFile& file, std::string source) : source_(std::move(source)), archive_(file) {
    for (const auto& [name, member] : archive_.members()) {
      if (!name.ends_with(kPickleName) || name.find('/') != name.size() - kPickleName.size()) continue;
      folder_ = name.substr(0, name.size() - kPickleName.size() + 1);
      pickle_ = member;
    }
    if (folder_.empty())
      fail<FormatError>(source_, "holds no ", kPickleName.substr(1), ": not a file of torch.save");
    if (archive_.members().contains(folder_ + "constants.pkl"))
      fail<UnsupportedError>(source_, "is a TorchScript archive, expected a state dict");
    const auto order = archive_.members().find(folder_ + "byteorder");
    if (order != archive_.members().end() && order->second.size < 64 &&
        text_at(file, order->second) != "little")
      fail<UnsupportedError>(source_, "is not little-endian");
    if (pickle_.size > kMostPickle)
      fail<FormatError>(source_, "its pickle has ", pickle_.size, " bytes, the limit is ", kMostPickle);
    text_ = text_at(file, pickle_);
  }

  std::vector<PlacedTensor> tensors() const {
    std::vector<PlacedTensor> placed;
    for (const auto& [name, tensor] : read_state_dict(text_, source_)) placed.push_back(place(name, tensor));
    return placed;
  }

 private:
  PlacedTensor place(const std::string& name, const PickledTensor& tensor) const {
    const auto refuse = [&](const auto&... parts) {
      fail<FormatError>(source_, "tensor ", quote(name), " ", parts...);
    };
    const auto* const type = std::find_if(std::begin(kStorageTypes), std::end(kStorageTypes),
                                          [&](const auto& t) { return t.first == tensor.storage_type; });
    if (type == std::end(kStorageTypes))
      fail<UnsupportedError>(source_, "tensor ", quote(name), " is of the type ", quote(tensor.storage_type),
                             ", which is not supported");
    const auto member = archive_.members().find(concat(folder_, "data/", tensor.storage));
    if (member == archive_.members().end())
      refuse("has its elements in data/", tensor.storage, ", which is missing");
    const std::uint64_t element = size_of(type->second), stored = member->second.size / element;
    if (tensor.storage_size > stored)
      refuse("has a storage of ", tensor.storage_size, " elements, but data/", tensor.storage, " holds ",
             stored);
    PlacedTensor placed{
        name, {std::string(stored_name_of(type->second)), type->second, shape_of(name, tensor), 0}, 0};
    const auto count = static_cast<std::uint64_t>(placed.info.shape.numel());
    if (tensor.offset > stored || count > stored - tensor.offset)
      refuse("has ", count, " elements from ", tensor.offset, " on, but data/", tensor.storage, " holds ",
             stored);
    placed.info.nbytes = count * element;
    placed.begin = member->second.begin + tensor.offset * element;
    return placed;
  }

  Shape shape_of(const std::string& name, const PickledTensor& tensor) const {
    if (tensor.shape.size() > Shape::kMaxRank || tensor.stride.size() != tensor.shape.size())
      fail<FormatError>(source_, "tensor ", quote(name), " has ", tensor.shape.size(), " sizes and ",
                        tensor.stride.size(), " strides, expected as many of each, and at most ",
                        Shape::kMaxRank);
    Shape shape;
    try {
      shape = Shape(tensor.shape);
    } catch (const ShapeError&) {
      fail<FormatError>(source_, "tensor ", quote(name), " has a size whose number of elements overflows");
    }
    std::int64_t step = 1;
    for (std::size_t axis = tensor.shape.size(); axis-- > 0 && shape.numel() > 0; step *= tensor.shape[axis])
      if (tensor.shape[axis] != 1 && tensor.stride[axis] != step)
        fail<UnsupportedError>(source_, "tensor ", quote(name), " is not contiguous: axis ", axis,
                               " has the stride ", tensor.stride[axis], ", expected ", step);
    return shape;
  }

  std::string source_;
  ZipArchive archive_;
  std::string folder_;  // with its slash
  ZipArchive::Member pickle_;
  std::string text_;
};

}  // namespace

SafetensorsFile open_pytorch_file(const std::filesystem::path& path, MappedFile::Mode mode) {
  std::vector<PlacedTensor> tensors;
  {
    const InputFile file(path);
    require_zip(file, path.string());
    tensors = StateDict(file, path.string()).tensors();
  }
  return SafetensorsFile(path, mode, std::move(tensors));
}

}  // namespace gpt
