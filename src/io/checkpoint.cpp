#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "core/json.h"
#include "core/file_status.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kPickle = "pytorch_model.bin";
constexpr const char* kPickleIndex = "pytorch_model.bin.index.json";

// A shard's name comes from a file that may come from anywhere: it must not lead out of the directory.
bool stays_inside(const std::string& name) {
  const fs::path path(name);
  return !path.empty() && path.is_relative() && name.find('\0') == name.npos && path.has_filename() &&
         std::none_of(path.begin(), path.end(),
                      [](const fs::path& part) { return part == ".." || part == "."; });
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& directory, MappedFile::Mode mode) {
  require_directory(directory, "a checkpoint's");
  if (is_there(directory / kSingle)) {
    source_ = (directory / kSingle).string();
    add_shard(SafetensorsFile(directory / kSingle, mode));
  } else if (is_there(directory / kIndex)) {
    source_ = (directory / kIndex).string();
    open_shards(directory, mode);
  } else if (is_there(directory / kPickle) || is_there(directory / kPickleIndex)) {
    fail<UnsupportedError>(directory.string(), "holds its weights only as ", kPickle,
                           ", which cannot be loaded directly; `convert` makes a ", kSingle, " of it");
  } else {
    fail<IoError>(directory.string(), "holds no weights: looked for ", kSingle, " and ", kIndex);
  }
}

void Checkpoint::open_shards(const fs::path& directory, MappedFile::Mode mode) {
  const json::Value index = json::parse_object(read_text_file(source_), source_);
  const auto weight_map = index.find("weight_map");
  if (weight_map == index.end()) fail<FormatError>(source_, "has no weight_map");
  if (!weight_map->is_object())
    fail<FormatError>(source_, "weight_map is ", json::describe(*weight_map), ", expected an object");
  if (weight_map->empty()) fail<FormatError>(source_, "weight_map is empty");

  std::map<std::string, std::size_t> files;  // sorted, so that the order of names() is settled
  for (const auto& [name, file] : weight_map->items()) {
    if (!file.is_string() || !stays_inside(file.get_ref<const std::string&>()))
      fail<FormatError>(source_, "weight_map: ", quote(name), " is in ", json::describe(file),
                        ", expected the name of a file inside the directory");
    files.emplace(file.get_ref<const std::string&>(), 0);
  }
  for (auto& [file, number] : files) {
    number = shards_.size();
    add_shard(SafetensorsFile(directory / file, mode));
  }
  for (const auto& [name, file] : weight_map->items()) {
    const SafetensorsFile& listed = shards_[files.at(file.get_ref<const std::string&>())];
    if (!listed.contains(name))
      fail<FormatError>(source_, "weight_map: ", quote(name), " should be in ", listed.source(),
                        ", but is not");
  }
}

void Checkpoint::add_shard(SafetensorsFile file) {
  for (const std::string& name : file.names()) {
    const auto [other, fresh] = shard_of_.emplace(name, shards_.size());
    if (!fresh)
      fail<FormatError>(source_, "tensor ", quote(name), " is both in ", shards_[other->second].source(),
                        " and in ", file.source());
    names_.push_back(name);
  }
  shards_.push_back(std::move(file));
}

const SafetensorsFile& Checkpoint::shard(std::string_view name) const {
  const auto found = shard_of_.find(name);
  if (found == shard_of_.end()) fail<FormatError>(source_, "has no tensor ", quote(name));
  return shards_[found->second];
}

}  // namespace gpt
