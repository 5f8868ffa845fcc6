#include "output_place.h"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <ranges>
#include <system_error>
#include <vector>

#include <gpt/core/error.h>

namespace program {
namespace {

namespace fs = std::filesystem;

bool is_of_a_tokenizer(std::string_view name) {
  constexpr std::string_view kNames[] = {
      "vocab.json",          "merges.txt",        "tokenizer.json",          "tokenizer_config.json",
      "chat_template.jinja", "added_tokens.json", "special_tokens_map.json", "vocab.txt",
      "tokenizer.model",     "spiece.model"};
  return std::ranges::find(kNames, name) != std::ranges::end(kNames);
}

bool is_of_a_model(std::string_view name) {
  constexpr std::string_view kNames[] = {"config.json", "generation_config.json", "classification.json",
                                         "bag_of_words.safetensors", "adapter_config.json"};
  return is_of_a_tokenizer(name) || std::ranges::find(kNames, name) != std::ranges::end(kNames) ||
         ((name.starts_with("model") || name.starts_with("adapter_model")) &&
          name.find(".safetensors") != std::string_view::npos) ||
         (name.starts_with("pytorch_model") && name.find(".bin") != std::string_view::npos);
}

/// The first name in the directory that is one; empty: none.
template <class Predicate>
std::string first_in(const fs::path& directory, Predicate is_one) {
  for (const std::string& name : names_in(directory))
    if (is_one(name)) return name;
  return {};
}

void require_none(std::string_view option, const fs::path& directory, const std::string& name,
                  std::string_view whole) {
  if (!name.empty())
    gpt::fail<gpt::ArgumentError>(directory.string(), "holds ", name, ": choose another ", option,
                                  ", or remove the ", whole, " there first");
}

}  // namespace

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(directory.c_str()), ::closedir);
  if (entries == nullptr) return names;
  for (errno = 0; const dirent* const entry = ::readdir(entries.get()); errno = 0)
    if (const std::string_view name = entry->d_name; name != "." && name != "..") names.emplace_back(name);
  if (errno != 0)
    gpt::fail<gpt::IoError>(directory.string(), "cannot be read: ", std::generic_category().message(errno));
  std::ranges::sort(names);
  return names;
}

std::string model_file_in(const fs::path& directory) { return first_in(directory, is_of_a_model); }

void require_not_read(std::string_view option, const fs::path& output, std::span<const std::string> read) {
  std::error_code error;
  if (!fs::exists(output, error)) return;  // then nothing is lost
  const fs::path directory = fs::absolute(output, error).parent_path();
  const bool of_a_model = is_of_a_model(output.filename().string());
  for (const std::string& path : read)
    if (fs::equivalent(path, output, error) || (of_a_model && fs::equivalent(path, directory, error)))
      gpt::fail<gpt::ArgumentError>(option, output.string(), " would be replaced, which is read (", path,
                                    "): choose another");
}

void require_no_other_model(std::string_view option, const fs::path& directory, const fs::path& read) {
  std::error_code error;
  if (!fs::equivalent(directory, read, error))
    require_none(option, directory, model_file_in(directory), "model");
}

void require_no_tokenizer(std::string_view option, const fs::path& directory) {
  require_none(option, directory, first_in(directory, is_of_a_tokenizer), "tokenizer");
}

}  // namespace program
