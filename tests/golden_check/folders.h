// The forms of folders that goldens/README.md describes. A form is one entry in the table of golden_check.cpp
// and one source file.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "report.h"

namespace gpt::golden {

/// What the command line says about all folders.
struct Settings {
  /// The checkpoint for a folder of expected values that has none.
  std::optional<std::filesystem::path> model;
  /// The vocabulary for a tokenizer folder that has none.
  std::optional<std::filesystem::path> tokenizer;
  /// The text that train_parity and validation losses are about.
  std::optional<std::filesystem::path> corpus;
  /// How many steps of a recorded training run are made, the others being skipped; all without it.
  std::optional<std::size_t> train_steps;
};

/// Each `is_…` says whether a folder has this form, and each `knows_…` whether a file of this name is one of its expected values;
/// each `check_…` judges everything in it, printing `name` for it, and throws Unreadable when the folder is not what its form
/// demands.

/// A checkpoint with expected values: golden.safetensors and golden.json and those of adapters, or (a trained
/// checkpoint with its tokenizer) golden.json and val.json.
bool is_model_folder(const std::filesystem::path& folder);
bool knows_model_file(std::string_view name);
void check_model_folder(const std::filesystem::path& folder, const std::string& name,
                        const Settings& settings, Report& report);

/// Rows of texts and token ids.
bool is_tokenizer_folder(const std::filesystem::path& folder);
bool knows_tokenizer_file(std::string_view name);
void check_tokenizer_folder(const std::filesystem::path& folder, const std::string& name,
                            const Settings& settings, Report& report);

/// sampling.jsonl and schedules.json.
bool is_sampling_folder(const std::filesystem::path& folder);
bool knows_sampling_file(std::string_view name);
void check_sampling_folder(const std::filesystem::path& folder, const std::string& name,
                           const Settings& settings, Report& report);

/// A recorded training run: losses.json, init/, final/ and the tokenizer.
bool is_train_parity_folder(const std::filesystem::path& folder);
bool knows_train_parity_file(std::string_view name);
void check_train_parity_folder(const std::filesystem::path& folder, const std::string& name,
                               const Settings& settings, Report& report);

}  // namespace gpt::golden
