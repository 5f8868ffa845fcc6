#include "golden_check.h"

#include <algorithm>
#include <array>
#include <set>

#include "expected.h"

namespace gpt::golden {

namespace fs = std::filesystem;

namespace {

struct Form {
  bool (*is)(const fs::path&);
  void (*check)(const fs::path&, const std::string&, const Settings&, Report&);
};

constexpr std::array kForms{
    Form{is_model_folder, check_model_folder},
    Form{is_tokenizer_folder, check_tokenizer_folder},
    Form{is_sampling_folder, check_sampling_folder},
    Form{is_train_parity_folder, check_train_parity_folder},
};

// The folder and all below it, in the order of their names. Links are followed, each folder is visited once.
void collect(const fs::path& folder, std::set<fs::path>& visited, std::vector<fs::path>& found) {
  if (!visited.insert(fs::canonical(folder)).second) return;
  found.push_back(folder);
  std::vector<fs::path> children;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_directory()) children.push_back(entry.path());
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
      report.unreadable(concat(name, ": ", e.what()));
    }
  }
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
    } catch (const fs::filesystem_error& e) {
      report.unreadable(e.what());
      continue;
    }
    bool recognised = false;
    for (const fs::path& folder : folders) recognised |= check_folder(folder, settings, report);
    if (!recognised)
      report.unreadable(concat(path.string(), ": no folder of expected values, nor any below it"));
  }
  if (report.compared() == 0) report.unreadable("nothing was checked: no quantity was compared");
  report.summary();
  return report.exit_status();
}

}  // namespace gpt::golden
