#include <algorithm>
#include <filesystem>
#include <set>
#include <string>

#include "core/file_status.h"
#include "core/json.h"
#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "io/pytorch_file.h"

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

const json::Value::Object& weight_map_of(const json::Value::Object& index, const std::string& source) {
  const json::Value* value = json::find(index, "weight_map");
  if (value == nullptr) fail<FormatError>(source, "has no weight_map");
  const auto* weight_map = value->get_if<json::Value::Object>();
  if (weight_map == nullptr)
    fail<FormatError>(source, "weight_map is ", json::describe(*value), ", expected an object");
  if (weight_map->empty()) fail<FormatError>(source, "weight_map is empty");
  return *weight_map;
}

// Sorted, so that the order of Checkpoint::names() is settled.
std::set<std::string> shards_in(const json::Value::Object& weight_map, const std::string& source) {
  std::set<std::string> files;
  for (const auto& [name, value] : weight_map) {
    const auto* file = value.get_if<std::string>();
    if (file == nullptr || !stays_inside(*file))
      fail<FormatError>(source, "weight_map: ", quote(name), " is in ", json::describe(value),
                        ", expected the name of a file inside the directory");
    files.insert(*file);
  }
  return files;
}

}  // namespace

Checkpoint::Checkpoint(const fs::path& directory, MappedFile::Mode mode) {
  with_memory_errors(directory.native(), [&] {
    const Opener open = [](const fs::path& path, MappedFile::Mode how) { return SafetensorsFile(path, how); };
    require_directory(directory, "a checkpoint's");
    if (is_there(directory / kSingle)) {
      open_one(directory / kSingle, mode, open);
    } else if (is_there(directory / kIndex)) {
      open_shards(directory, kIndex, mode, open);
    } else if (is_there(directory / kPickle) || is_there(directory / kPickleIndex)) {
      fail<UnsupportedError>(directory.string(), "holds its weights only as ", kPickle, ", expected ",
                             kSingle, ": gpt-convert --model ", directory.string(),
                             " --output DIR writes that");
    } else {
      fail<IoError>(directory.string(), "holds no weights: looked for ", kSingle, " and ", kIndex);
    }
  });
}

Checkpoint Checkpoint::pickled(const fs::path& directory, MappedFile::Mode mode) {
  return with_memory_errors(directory.native(), [&] {
    require_directory(directory, "a checkpoint's");
    Checkpoint checkpoint;
    if (is_there(directory / kPickle))
      checkpoint.open_one(directory / kPickle, mode, open_pytorch_file);
    else if (is_there(directory / kPickleIndex))
      checkpoint.open_shards(directory, kPickleIndex, mode, open_pytorch_file);
    else
      fail<IoError>(directory.string(), "holds no weights: looked for ", kPickle, " and ", kPickleIndex);
    return checkpoint;
  });
}

void Checkpoint::open_one(const fs::path& file, MappedFile::Mode mode, Opener open) {
  source_ = file.string();
  add_shard(open(file, mode));
}

void Checkpoint::open_shards(const fs::path& directory, const char* index_name, MappedFile::Mode mode,
                             Opener open) {
  source_ = (directory / index_name).string();
  const json::Value::Object index = json::parse_object(read_text_file(source_), source_);
  const json::Value::Object& weight_map = weight_map_of(index, source_);
  for (const std::string& file : shards_in(weight_map, source_)) add_shard(open(directory / file, mode));
  for (const auto& [name, file] : weight_map) {
    const fs::path listed = directory / *file.get_if<std::string>();
    if (shard_of_.contains(name) && shard(name).source() == listed) continue;
    fail<FormatError>(source_, "weight_map: ", quote(name), " should be in ", listed.string(),
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

std::vector<fs::path> Checkpoint::files() const {
  return with_memory_errors(source_, [&] {
    std::vector<fs::path> files;
    for (const SafetensorsFile& shard : shards_) files.emplace_back(shard.source());
    return files;
  });
}

std::vector<fs::path> sharded_files(const fs::path& directory) {
  const fs::path index = directory / kIndex;
  if (!is_there(index)) return {};
  std::vector<fs::path> files{index};
  const std::string source = index.string();
  try {
    const json::Value::Object object = json::parse_object(read_text_file(index), source);
    // The index may come from anywhere: it must not get other files removed.
    for (const fs::path file : shards_in(weight_map_of(object, source), source))
      if (file != kSingle && file.extension() == ".safetensors" && !file.has_parent_path())
        files.push_back(directory / file);
  } catch (const FormatError&) {  // what it says is lost; it still must not be read as the new weights' index
  }
  return files;
}

}  // namespace gpt
