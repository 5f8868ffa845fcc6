// A classifier's checkpoint: that of its model, with a head. And an adapter's, with the head beside it.
#include <algorithm>
#include <charconv>
#include <map>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "core/directory.h"
#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "gpt/models/classifier.h"
#include "models/model_head.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kScore = "score.weight";

std::vector<std::string> default_labels(std::int64_t count) {
  std::vector<std::string> labels;
  for (std::int64_t i = 0; i < count; ++i) labels.push_back(concat("LABEL_", i));
  return labels;
}

/// id2label by the numbers that its keys are. Throws FormatError for other keys.
std::vector<std::string> labels_of(const HfConfig& config, const HfConfig::MapOf<std::string>& id2label) {
  std::vector<std::string> labels(id2label.size());
  std::vector<bool> seen(id2label.size());
  for (const auto& [id, label] : id2label) {
    std::size_t number = labels.size();
    const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), number);
    if (error != std::errc() || number >= labels.size() || id != concat(number) || seen[number])
      fail<FormatError>(config.source(), "id2label has the key \"", id, "\", expected the numbers 0 to ",
                        labels.size() - 1);
    labels[number] = label;
    seen[number] = true;
  }
  return labels;
}

std::vector<std::string> read_labels(const HfConfig& config, const LoadOptions& options) {
  const auto count = config.get_int("num_labels");
  if (count && (*count < 1 || *count > (std::int64_t{1} << 24)))
    fail<FormatError>(config.source(), "num_labels is ", *count, ", expected 1 to ", std::int64_t{1} << 24);
  const auto id2label = config.get_string_map("id2label");
  if (!id2label || id2label->empty()) return default_labels(count.value_or(2));
  std::vector<std::string> labels = labels_of(config, *id2label);
  if (!count || *count == static_cast<std::int64_t>(labels.size())) return labels;
  if (options.on_warning)
    options.on_warning(concat("[", config.source(), "] num_labels is ", *count, ", but id2label has ",
                              labels.size(), " labels, and is not used"));
  return default_labels(*count);
}

ProblemType read_problem_type(const HfConfig& config, std::size_t labels) {
  const auto name = config.get_string("problem_type");
  if (!name) return labels == 1 ? ProblemType::kRegression : ProblemType::kSingleLabel;
  const auto type = problem_type_from_name(*name);
  if (!type)
    fail<UnsupportedError>(config.source(), "problem_type is \"", *name, "\", expected ",
                           name_of(ProblemType::kRegression), ", ", name_of(ProblemType::kSingleLabel),
                           " or ", name_of(ProblemType::kMultiLabel));
  return *type;
}

ops::Weight read_score(const Checkpoint& file, std::int64_t labels, std::int64_t features,
                       const LoadOptions& options) {
  const std::string name(kScore);
  if (!file.contains(name))
    fail<FormatError>(file.source(), "tensor ", name,
                      " is missing, which a classifier's checkpoint has (GPT2ForSequenceClassification)");
  const TensorInfo& info = file.info(name);
  if (!info.dtype || !is_weight_dtype(*info.dtype))
    fail<FormatError>(file.source(), "tensor ", name, " is ", info.stored_dtype,
                      ", expected F32, F16 or BF16");
  const Shape expected{labels, features};
  if (info.shape != expected)
    fail<ShapeError>(file.source(), "tensor ", name, " has shape ", info.shape.to_string(), ", expected ",
                     expected.to_string());
  const Tensor tensor = file.tensor(name);
  return {.in = features,
          .out = labels,
          .layout = ops::WeightLayout::kOutIn,
          .values = options.dtype ? tensor.to(*options.dtype) : tensor};
}

}  // namespace

Classifier Classifier::load(const fs::path& directory, const LoadOptions& options) {
  return with_memory_errors(directory.native(), [&] {
    const DefaultFloatEnvironment environment;
    ProblemType type = ProblemType::kSingleLabel;
    std::vector<std::string> labels;
    ops::Weight score;
    std::string source;
    const auto read = [&](const HfConfig& config, const Checkpoint& weights) {
      labels = read_labels(config, options);
      type = read_problem_type(config, labels.size());
      const auto features = config.get_int("n_embd");
      score = read_score(weights, static_cast<std::int64_t>(labels.size()),
                         features ? *features : config.get_int("hidden_size").value_or(Gpt2Config().n_embd),
                         options);
    };
    const HeadReader head{kScore, read};
    Model model = Model::load_with_head(directory, options, head);
    Classifier classifier(std::move(model), type);
    classifier.labels_ = std::move(labels);
    classifier.score_ = std::move(score);
    return classifier;
  });
}

void Classifier::save(const fs::path& directory, const SaveOptions& options) const {
  with_memory_errors(directory.native(), [&] {
    if (score_.values.shape() != score_.file_shape())
      fail<ShapeError>(kScore, "cannot save: it has shape ", score_.values.shape().to_string(), ", expected ",
                       score_.file_shape().to_string());
    if (model_.network().adapter() != nullptr) return save_adapter(directory, options);
    const auto describe = [&](HfConfig& config) {
      const std::vector<std::string> architecture{"GPT2ForSequenceClassification"};
      config.set_string_list("architectures", architecture);
      config.set_int("num_labels", num_labels());
      HfConfig::MapOf<std::string> id2label;
      HfConfig::MapOf<std::int64_t> label2id;
      std::map<std::string_view, std::size_t>
          places;  // of several labels of one name label2id has the last, as a Python dict
      for (std::size_t i = 0; i < labels_.size(); ++i) {
        id2label.emplace_back(concat(i), labels_[i]);
        const auto number = static_cast<std::int64_t>(i);
        if (const auto [known, is_new] = places.emplace(labels_[i], label2id.size()); is_new)
          label2id.emplace_back(labels_[i], number);
        else
          label2id[known->second].second = number;
      }
      config.set_string_map("id2label", id2label);
      config.set_int_map("label2id", label2id);
      config.set_string("problem_type", name_of(problem_type_));
    };
    model_.save_with_head(directory, options, {kScore, score_.values.view(), describe});
  });
}

/// Around what any adapter saves: its files with the head among them take their names together.
void Classifier::save_adapter(const fs::path& directory, const SaveOptions& options) const {
  const DefaultFloatEnvironment environment;
  OutputDirectory output(directory);
  const fs::path aside = directory / ".adapter";
  struct Removed {
    const fs::path& path;
    ~Removed() { remove_tree(path); }
  } const removed{aside};
  model_.network().adapter()->save(aside, options.dtype);

  HfConfig config = HfConfig::load(aside / "adapter_config.json");
  config.set_string("task_type", "SEQ_CLS");
  const std::vector<std::string> modules{"score"};
  config.set_string_list("modules_to_save", modules);
  const SafetensorsFile file(aside / "adapter_model.safetensors");
  std::vector<Tensor> kept;
  std::vector<NamedTensor> tensors;
  for (const std::string& name : file.names()) {
    kept.push_back(file.tensor(name));
    tensors.push_back({name, kept.back().view()});
  }
  // PEFT puts a layer around the model, unless the adapter is virtual tokens.
  const std::string type = config.get_string("peft_type").value_or("");
  const bool virtual_tokens = type == "PROMPT_TUNING" || type == "PREFIX_TUNING";
  tensors.push_back({concat(virtual_tokens ? "base_model." : "base_model.model.", kScore),
                     score_.values.view(), options.dtype});
  AtomicFiles files;
  PendingFile& weights = files.add(directory / "adapter_model.safetensors");
  files.add(directory / "adapter_config.json").write(config.dump());
  write_safetensors(weights, tensors, {{"format", "pt"}});
  files.commit();
  output.keep();
}

}  // namespace gpt
