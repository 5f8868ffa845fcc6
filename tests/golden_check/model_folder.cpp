// A checkpoint with expected values: README 2, and the trained checkpoint of README 5.
#include <algorithm>
#include <array>

#include "adapter_checks.h"
#include "classification_checks.h"
#include "corpus.h"
#include "decoding_checks.h"
#include "expected.h"
#include "folders.h"
#include "forward_checks.h"
#include "gpt/models/model.h"
#include "gpt/peft/load_adapter.h"
#include "training_checks.h"

namespace gpt::golden {

namespace fs = std::filesystem;

namespace {

// What the library is given: in golden.safetensors, and those of adapters and classification.
constexpr std::array<std::string_view, 10> kInputTensors{
    "input_ids",           "*_input_ids",      "labels",         "*_labels",    "*_labels_multi",
    "*_labels_regression", "*_attention_mask", "*_position_ids", "logits_cols", "rows.*"};
/// README 2.6, and the other methods of PEFT, in the same forms (generator/make_peft_goldens.py).
constexpr std::array<const char*, 6> kAdapters{"lora",    "prompt_tuning", "dora",
                                               "adalora", "ia3",           "prefix_tuning"};
constexpr std::array<std::string_view, 12> kInputValues{"tolerances",
                                                        "greedy[*].prompt",
                                                        "greedy[*].max_new_tokens",
                                                        "greedy[*].eos_token_id",
                                                        "beam[*].prompt",
                                                        "beam[*].num_beams",
                                                        "beam[*].max_new_tokens",
                                                        "beam[*].length_penalty",
                                                        "beam[*].early_stopping",
                                                        "beam[*].eos_token_id",
                                                        "step",
                                                        "window"};

constexpr std::array<std::string_view, 7> kRecipeKeys{"lr",           "beta1",     "beta2",  "eps",
                                                      "weight_decay", "clip_norm", "decayed"};
constexpr std::array<std::string_view, 3> kToleranceKeys{"max_abs", "f32_err", "f32_err_key_slice"};

template <class Patterns>
std::vector<Rule> input_rules(const Patterns& patterns) {
  std::vector<Rule> rules;
  for (const std::string_view pattern : patterns) rules.push_back({pattern, is_input});
  return rules;
}

void append(std::vector<Rule>& rules, std::vector<Rule> more) {
  std::ranges::move(more, std::back_inserter(rules));
}

// Groups of tensors of which a folder has all or none.
void require_whole_groups(const ExpectedTensors& tensors) {
  static const std::vector<std::vector<std::string>> groups{
      {"input_ids", "labels"},
      {"logits_sel", "logits_cols", "logits_lse", "logits_argmax", "logits_last"},
      {"token_logprobs", "seq_logprob"},
      {"greedy_prompt", "greedy_generated"},
      {"pad_left_input_ids", "pad_left_attention_mask", "pad_left_position_ids", "pad_left_labels",
       "pad_left_loss"},
      {"pad_right_input_ids", "pad_right_attention_mask", "pad_right_position_ids", "pad_right_labels",
       "pad_right_loss"},
  };
  for (const auto& group : groups) {
    const auto present = [&](const std::string& name) { return tensors.contains(name); };
    if (std::ranges::none_of(group, present)) continue;
    const auto missing = std::ranges::find_if_not(group, present);
    if (missing != group.end()) throw Unreadable(concat(tensors.source(), " has no tensor ", *missing));
  }
}

struct Document {
  std::string source;  // the JSON file
  Json json;
  std::optional<ExpectedTensors> tensors;
};

// <stem>.json and <stem>.safetensors; the tensors may be missing when the JSON gives no tolerances for any.
Document read_expected(const fs::path& folder, const std::string& stem) {
  const fs::path file = folder / (stem + ".json");
  Document document{file.string(), read_json(file), {}};
  const fs::path tensors = folder / (stem + ".safetensors");
  if (!document.json.is_object() || document.json.empty())
    throw Unreadable(concat(document.source, " is no object with expected values"));
  if (fs::exists(tensors) || document.json.contains("tolerances")) {
    document.tensors.emplace(tensors, member(document.json, "tolerances", document.source));
    require_whole_groups(*document.tensors);
  }
  return document;
}

void judge_document(const Document& document, const std::string& name, const std::vector<Rule>& tensor_rules,
                    const std::vector<Rule>& json_rules, Report& report) {
  const std::int64_t before = report.judged();
  if (document.tensors) judge_tensors(report, name, *document.tensors, tensor_rules);
  judge_json(report, name, document.source, document.json, json_rules);
  if (document.tensors)
    for (const auto& [tensor, tolerance] : document.json.at("tolerances").items())
      report_unknown_keys(report, name, "tolerances." + tensor, tolerance, kToleranceKeys);
  if (report.judged() == before)
    throw Unreadable(concat(document.source, ": nothing in it is to be checked"));
}

// golden_<adapter>.*: README 2.6. `recipe` is the folder's "adamw".
void check_adapter(const fs::path& folder, const fs::path& checkpoint, const std::string& name,
                   const std::string& adapter, const Json& recipe, Report& report) {
  const std::string stem = "golden_" + adapter;
  if (!fs::exists(folder / adapter) && !fs::exists(folder / (stem + ".json")) &&
      !fs::exists(folder / (stem + ".safetensors")))
    return;
  const SafetensorsFile weights(folder / adapter / "adapter_model.safetensors");
  read_json(folder / adapter / "adapter_config.json");
  const Document document = read_expected(folder, stem);
  std::vector<Rule> tensor_rules = input_rules(kInputTensors), json_rules = input_rules(kInputValues);
  if (!document.tensors) {
    judge_document(document, name + "/" + adapter, tensor_rules, json_rules, report);
    return;
  }
  const auto load = [&] {
    Model model = Model::load(checkpoint);
    model.network().attach(load_adapter(model.network(), folder / adapter));
    return model;
  };
  const Model model = load();
  ForwardChecks forward(model.network(), *document.tensors);
  TrainingChecks training(load, *document.tensors, recipe);
  if (adapter == "lora")
    append(tensor_rules, merged_tensor_rules(checkpoint, folder / adapter, *document.tensors));
  append(tensor_rules, forward.tensor_rules());
  append(tensor_rules, training.tensor_rules());
  append(json_rules, forward.json_rules());
  append(json_rules, training.json_rules());
  judge_document(document, name + "/" + adapter, tensor_rules, json_rules, report);
}

const fs::path& checkpoint_of(const fs::path& folder, const Settings& settings) {
  if (fs::exists(folder / "config.json")) return folder;
  if (settings.model) return *settings.model;
  throw Unreadable(concat(folder.string(), " has no config.json; --model DIR names a checkpoint"));
}

// Whether the rest of the configuration is right is for the library to say.
bool is_classifier(const Json& config) {
  if (!config.is_object() || !config.contains("architectures")) return false;
  const Json& architectures = config.at("architectures");
  return std::ranges::find(architectures, "GPT2ForSequenceClassification") != architectures.end();
}

// val.json: the loss over the validation part of the corpus.
void check_validation(const fs::path& folder, const std::string& name, const Model& model,
                      const Settings& settings, Report& report) {
  const std::string source = (folder / "val.json").string();
  const Json document = read_json(source);
  std::vector<Rule> rules = input_rules(kInputValues);
  if (settings.corpus) append(rules, validation_rules(model, *settings.corpus));
  const std::int64_t before = report.judged();
  judge_json(report, name, source, document, rules);
  if (report.judged() == before) throw Unreadable(concat(source, ": nothing in it is to be checked"));
}

}  // namespace

bool knows_model_file(std::string_view name) {
  const auto is_pair_of = [&](const std::string& stem) {
    return name == stem + ".json" || name == stem + ".safetensors";
  };
  return name == "val.json" || is_pair_of("golden") ||
         std::ranges::any_of(kAdapters,
                             [&](const char* adapter) { return is_pair_of(concat("golden_", adapter)); });
}

bool is_model_folder(const fs::path& folder) {
  return std::ranges::any_of(fs::directory_iterator(folder), [](const fs::directory_entry& file) {
    return knows_model_file(file.path().filename().string());
  });
}

void check_model_folder(const fs::path& folder, const std::string& name, const Settings& settings,
                        Report& report) {
  const Document document = read_expected(folder, "golden");
  std::vector<Rule> tensor_rules = input_rules(kInputTensors);
  std::vector<Rule> json_rules = input_rules(kInputValues);
  const fs::path& checkpoint = checkpoint_of(folder, settings);
  if (is_classifier(read_json(checkpoint / "config.json"))) {
    std::optional<ClassificationChecks> classification;
    if (document.tensors) {
      classification.emplace(checkpoint, *document.tensors);
      append(tensor_rules, classification->tensor_rules());
      append(json_rules, classification->json_rules());
    }
    judge_document(document, name, tensor_rules, json_rules, report);
    return;
  }

  const Model model = Model::load(checkpoint);
  DecodingChecks decoding(model);
  std::optional<ForwardChecks> forward;
  std::optional<TrainingChecks> training;
  const Json recipe = document.json.value("adamw", Json());
  append(json_rules, decoding.json_rules());
  if (document.tensors) {
    forward.emplace(model.network(), *document.tensors);
    tensor_rules = padded_tensor_rules(model.network(), *document.tensors);
    append(tensor_rules, input_rules(kInputTensors));
    append(tensor_rules, forward->tensor_rules());
    append(tensor_rules, decoding.tensor_rules(*document.tensors, document.json));
    append(json_rules, forward->json_rules());
    training.emplace([&] { return Model::load(checkpoint); }, *document.tensors, recipe);
    append(tensor_rules, training->tensor_rules());
    append(json_rules, training->json_rules());
    append(json_rules, training->recipe_rules());
    report_unknown_keys(report, name, "adamw", recipe, kRecipeKeys);
  }
  judge_document(document, name, tensor_rules, json_rules, report);
  if (fs::exists(folder / "val.json")) check_validation(folder, name, model, settings, report);
  for (const char* adapter : kAdapters) check_adapter(folder, checkpoint, name, adapter, recipe, report);
}

}  // namespace gpt::golden
