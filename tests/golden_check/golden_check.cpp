#include "golden_check.h"

#include <algorithm>
#include <array>
#include <exception>
#include <set>

#include "expected.h"

namespace gpt::golden {

namespace fs = std::filesystem;

namespace {

struct Form {
  bool (*is)(const fs::path&);
  bool (*knows)(std::string_view file);
  void (*check)(const fs::path&, const std::string&, const Settings&, Report&);
};

constexpr std::array kForms{
    Form{is_model_folder, knows_model_file, check_model_folder},
    Form{is_tokenizer_folder, knows_tokenizer_file, check_tokenizer_folder},
    Form{is_sampling_folder, knows_sampling_file, check_sampling_folder},
    Form{is_train_parity_folder, knows_train_parity_file, check_train_parity_folder},
};

// The folder and all below it, in the order of their names. Links are followed, each folder is visited once.
void collect(const fs::path& folder, std::set<fs::path>& visited, std::vector<fs::path>& found) {
  if (!fs::exists(folder)) throw Unreadable(folder.string() + " does not exist");
  if (!fs::is_directory(folder)) throw Unreadable(folder.string() + " is no folder");
  if (!visited.insert(fs::canonical(folder)).second) return;
  std::vector<fs::path> children;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory()) children.push_back(entry.path());
  found.push_back(folder);
  std::ranges::sort(children);
  for (const fs::path& child : children) collect(child, visited, found);
}

bool is_there(const fs::path& folder, const char* file) { return fs::exists(folder / file); }

// A checkpoint without expected values. Those of a training run are judged with it.
bool is_bare_checkpoint(const fs::path& folder) {
  return (is_there(folder, "config.json") || is_there(folder, "model.safetensors") ||
          is_there(folder, "model.safetensors.index.json")) &&
         !is_train_parity_folder(folder.parent_path());
}

// Files that are named like expected values but belong to no form: rows, and golden_<adapter>.json with .safetensors. A half of
// such a pair is a failure.
void report_strangers(const fs::path& folder, const std::string& name, Report& report) {
  std::set<std::string> strangers;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string file = entry.path().filename().string(), type = entry.path().extension().string();
    const bool named_so =
        type == ".jsonl" || (file.starts_with("golden") && (type == ".json" || type == ".safetensors"));
    const auto knows = [&](const Form& form) { return form.knows(file); };
    if (named_so && entry.is_regular_file() && std::ranges::none_of(kForms, knows)) strangers.insert(file);
  }
  for (const std::string& file : strangers) {
    const fs::path type = fs::path(file).extension();
    const std::string other =
        fs::path(file).replace_extension(type == ".json" ? ".safetensors" : ".json").string();
    const bool is_half = type != ".jsonl" && !fs::exists(folder / other);
    report.add(name, file, is_half ? Outcome::exact(1, other + " is missing beside it") : Outcome::skip());
  }
}

// What an exception says about a folder, which is named once.
std::string message_of(const std::exception& e, const std::string& folder) {
  if (const auto* of_files = dynamic_cast<const fs::filesystem_error*>(&e))
    return concat(of_files->path1().string(), " cannot be read: ", of_files->code().message());
  return with_place(folder, e.what());
}

// Judges one folder by every form it has; returns whether it has any.
bool check_folder(const fs::path& folder, const Settings& settings, Report& report) {
  const std::string name = folder.generic_string();
  bool recognised = false;
  for (const Form& form : kForms) {
    if (!form.is(folder)) continue;
    recognised = true;
    try {
      const std::int64_t before = report.judged();
      form.check(folder, name, settings, report);
      if (report.judged() == before) throw Unreadable("nothing in it is to be checked");
    } catch (const std::exception& e) {
      report.unreadable(message_of(e, name));
    }
  }
  report_strangers(folder, name, report);
  if (!recognised && is_bare_checkpoint(folder)) report.add(name, "golden.json", Outcome::skip());
  return recognised;
}

}  // namespace

int check_paths(const std::vector<fs::path>& paths, const Settings& settings, std::ostream& out,
                std::ostream& err) {
  Report report(out, err);
  for (const fs::path& path : paths) {
    std::vector<fs::path> folders;
    try {
      std::set<fs::path> visited;
      collect(path, visited, folders);
    } catch (const std::exception& e) {
      report.unreadable(message_of(e, path.string()));
      continue;
    }
    bool recognised = false;
    for (const fs::path& folder : folders) {
      try {
        recognised |= check_folder(folder, settings, report);
      } catch (const std::exception& e) {
        report.unreadable(message_of(e, folder.generic_string()));
      }
    }
    if (!recognised)
      report.unreadable(concat(path.string(), ": no folder of expected values, nor any below it"));
  }
  if (report.compared() == 0) report.unreadable("nothing was checked: no quantity was compared");
  report.summary();
  return report.exit_status();
}

}  // namespace gpt::golden
