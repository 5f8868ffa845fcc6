#include "output_place.h"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <ranges>
#include <system_error>
#include <vector>

#include <gpt/core/error.h>
#include <gpt/text/tokenizer.h>

#include "program.h"

namespace program {
namespace {

namespace fs = std::filesystem;

bool is_of_a_model(std::string_view name) {
  constexpr std::string_view kNames[] = {"config.json",
                                         "generation_config.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "tokenizer.json",
                                         "tokenizer_config.json",
                                         "chat_template.jinja",
                                         "classification.json",
                                         "bag_of_words.safetensors",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.txt",
                                         "tokenizer.model",
                                         "spiece.model",
                                         "adapter_config.json"};
  return std::ranges::find(kNames, name) != std::ranges::end(kNames) ||
         ((name.starts_with("model") || name.starts_with("adapter_model")) &&
          name.find(".safetensors") != std::string_view::npos) ||
         (name.starts_with("pytorch_model") && name.find(".bin") != std::string_view::npos);
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

std::string model_file_in(const fs::path& directory) {
  for (const std::string& name : names_in(directory))
    if (is_of_a_model(name)) return name;
  return {};
}

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

void require_no_other_model(const fs::path& output_dir, const fs::path& read) {
  std::error_code error;
  if (fs::equivalent(output_dir, read, error)) return;
  if (const std::string name = model_file_in(output_dir); !name.empty())
    gpt::fail<gpt::ArgumentError>(output_dir.string(), "holds ", name, ": choose another --output-dir");
}

void save_model(const gpt::Model& model, const std::string& directory, const gpt::SaveOptions& options) {
  const bool adapter_alone = model.network().adapter() != nullptr;
  if (!adapter_alone && !model.has_tokenizer() && gpt::has_tokenizer(directory))
    warn(gpt::concat("the tokenizer in ", directory, " is removed: the model that is saved there has none"));
  model.save(directory, options);
}

}  // namespace program
