#include "train/training_checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <system_error>

#include "core/directory.h"
#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "models/parameter_names.h"
#include "peft/adapter_files.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kName = "checkpoint-";
constexpr std::string_view kUnfinished = ".checkpoint-";
constexpr std::string_view kOptimizer = "optimizer.safetensors";
constexpr std::string_view kState = "trainer_state.json";

/// Calls f(name) for what is in the directory; a directory that is not there is empty.
template <class F>
void for_each_entry(const fs::path& directory, const F& f) {
  const std::error_code error = for_each_name(directory, f);
  if (error && error != std::errc::no_such_file_or_directory)
    fail<IoError>(directory.string(), "cannot be read: ", error.message());
}

void remove_all_of(const fs::path& path) {
  if (const std::error_code error = remove_tree(path))
    fail<IoError>(path.string(), "cannot be removed: ", error.message());
}

std::string rest_of(const Parameter& p) { return "rest." + p.name; }

std::string own_of(const Parameter& p) { return "parameter." + p.name; }

std::string average_of(const Parameter& p) { return "ema." + p.name; }

/// Calls f(name, tensor) for what an adapter's training has beside its tensors.
template <class F>
void for_state(const Parameters& parameters, const F& f) {
  if (parameters.adapter() == nullptr) return;
  parameters.adapter()->visit_state(
      [&](const std::string& name, Tensor& tensor, const Shape&) { f("state." + name, tensor.view()); });
}

/// What is read from files, checked as a whole before the first element changes.
class Copies {
 public:
  template <class File>
  void add(const File& file, const std::string& name, TensorView to) {
    const Tensor from = file.tensor(name);
    if (from.dtype() != to.dtype() || from.shape() != to.shape())
      fail<FormatError>(file.source(), name, " is ", name_of(from.dtype()), " ", from.shape().to_string(),
                        ", expected ", name_of(to.dtype()), " ", to.shape().to_string());
    all_.push_back({from, to});
  }
  void add_weights(const fs::path& checkpoint, const Parameters& parameters, WeightAverage& average) {
    if (parameters.adapter() != nullptr)
      add_weights(SafetensorsFile(checkpoint / peft::kWeightsFile), checkpoint, parameters, average,
                  [](const auto&, const std::string& name) { return name; });
    else
      add_weights(Checkpoint(checkpoint), checkpoint, parameters, average, name_in);
  }
  void make() const noexcept {
    for (const Copy& copy : all_) std::memcpy(copy.to.raw(), copy.from.view().raw(), copy.to.nbytes());
  }

 private:
  template <class File, class Naming>
  void add_weights(const File& weights, const fs::path& checkpoint, const Parameters& parameters,
                   WeightAverage& average, const Naming& name_of_parameter) {
    const SafetensorsFile optimizer(checkpoint / kOptimizer);
    for (std::size_t i = 0; i < parameters.all().size(); ++i) {
      const Parameter& p = parameters.all()[i];
      if (average.is_on()) add(optimizer, average_of(p), average.tensors()[i]);
      if (p.of_objective)
        add(optimizer, own_of(p), p.value);
      else
        add(weights, name_of_parameter(weights, p.name), p.value);
      if (p.rest.raw() != nullptr) add(optimizer, rest_of(p), p.rest);
    }
  }

  struct Copy {
    Tensor from;
    TensorView to;
  };
  std::vector<Copy> all_;
};

HfConfig to_json(const TrainingState& s, const HfConfig& run) {
  HfConfig json{std::string(kState)};
  json.set_int("global_step", s.global_step);
  json.set_int("epoch", s.epoch);
  json.set_int("next_batch", s.next_batch);
  if (s.best_eval_loss)
    json.set_float("best_eval_loss", *s.best_eval_loss);
  else
    json.set_null("best_eval_loss");
  if (s.best_metric) json.set_float("best_metric", *s.best_metric);
  json.set_int("best_step", s.best_step);
  json.set_int("last_evaluation", s.last_evaluation);
  json.set_int("evaluations_without_best", s.evaluations_without_best);
  json.set_float("loss_sum", s.loss_sum);
  json.set_int("loss_labels", s.loss_labels);
  json.set_object("run", run);
  return json;
}

std::int64_t count_in(const HfConfig& json, std::string_view key) {
  const auto value = json.get_int(key);
  if (!value || *value < 0)
    fail<FormatError>(json.source(), key, " is ", value ? concat(*value) : std::string("missing"),
                      ", expected 0 or more");
  return *value;
}

/// What a run says by a fingerprint, or at length: its value says nothing to who reads a message.
struct Unreadable {
  std::string_view key, article, name;
};
constexpr Unreadable kUnreadable[] = {{"data", "", "training data"},
                                      {"evaluation_data", "", "evaluation data"},
                                      {"initial_model", "a ", "model"},
                                      {"adapter", "an ", "adapter"},
                                      {"learning_rate_factor_of", "a ", "learning_rate_factor_of"},
                                      {"learns", "a ", "choice of what learns"}};

/// `saved` is that of the checkpoint; both are objects of strings.
void require_same_run(const HfConfig& run, const HfConfig& saved, const fs::path& checkpoint) {
  // Runs of before these were known go on with any.
  constexpr std::string_view kNew[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
  const auto refuse = [](const auto&... what) { fail<ArgumentError>("trainer", what...); };
  std::vector<std::string> keys = run.keys();
  for (std::string& key : saved.keys()) keys.push_back(std::move(key));
  for (const std::string& key : keys) {
    const std::string now = run.get_string(key).value_or("none"),
                      then = saved.get_string(key).value_or("none");
    if (now == then || (!saved.has(key) && std::ranges::find(kNew, key) != std::end(kNew))) continue;
    const std::string of_run = concat("the run in ", checkpoint.string());
    const auto* const it = std::ranges::find(kUnreadable, key, &Unreadable::key);
    if (it == std::end(kUnreadable))
      refuse(key, " is ", now, ", but ", of_run, " was made with ", then);
    else if (now == "none")
      refuse("there is no ", it->name, ", but ", of_run, " was made with ", it->article, it->name);
    else if (then == "none")
      refuse("there is ", it->article, it->name, ", but ", of_run, " was made without");
    else
      refuse("the ", it->name, " is not that of ", of_run, ", which goes on with the same alone");
  }
}

}  // namespace

std::vector<std::int64_t> checkpoints_in(const fs::path& output_dir) {
  std::vector<std::int64_t> steps;
  for_each_entry(output_dir, [&](std::string_view name) {
    if (!name.starts_with(kName)) return;
    std::int64_t step = 0;
    const char *first = name.data() + kName.size(), *last = name.data() + name.size();
    const auto [end, error] = std::from_chars(first, last, step);
    if (error == std::errc() && end == last && step >= 0) steps.push_back(step);
  });
  std::ranges::sort(steps);
  return steps;
}

fs::path checkpoint_path(const fs::path& output_dir, std::int64_t step) {
  return output_dir / concat(kName, step);
}

void save_checkpoint(const fs::path& output_dir, const TrainingState& state, const HfConfig& run,
                     const Model& model, const Objective& objective, const Parameters& parameters,
                     AdamW& optimizer, WeightAverage& average) {
  const fs::path target = checkpoint_path(output_dir, state.global_step);
  const fs::path unfinished = output_dir / concat(kUnfinished, state.global_step);
  remove_all_of(unfinished);
  make_directory(unfinished);
  std::error_code error;
  try {
    objective.save(model, unfinished);
    std::vector<NamedTensor> moments;
    for (std::size_t i = 0; i < parameters.all().size(); ++i) {
      const Parameter& p = parameters.all()[i];
      const std::string& name = p.name;
      if (p.rest.raw() != nullptr) moments.push_back({rest_of(p), p.rest});
      if (p.of_objective) moments.push_back({own_of(p), p.value});
      if (average.is_on()) moments.push_back({average_of(p), average.tensors()[i].view()});
      moments.push_back({"exp_avg." + name, optimizer.first_moments()[i].view()});
      moments.push_back({"exp_avg_sq." + name, optimizer.second_moments()[i].view()});
    }
    for_state(parameters, [&](const std::string& name, TensorView tensor) {
      moments.push_back({name, tensor});
    });
    save_safetensors(unfinished / kOptimizer, moments);
    to_json(state, run).save(unfinished / kState);
    remove_checkpoint(output_dir, state.global_step);  // of a run that was resumed before it
    fs::rename(unfinished, target, error);
    if (error) fail<IoError>(target.string(), "cannot be put in place: ", error.message());
  } catch (...) {
    remove_tree(unfinished);
    throw;
  }
  sync_directory(output_dir);
}

TrainingState load_checkpoint(const fs::path& checkpoint, const HfConfig& run, const Parameters& parameters,
                              AdamW& optimizer, WeightAverage& average) {
  const HfConfig json = HfConfig::load(checkpoint / kState);
  const auto saved_run = json.get_object("run");
  if (!saved_run) fail<FormatError>(json.source(), "has no run");
  require_same_run(run, *saved_run, checkpoint);
  TrainingState s;
  s.global_step = count_in(json, "global_step");
  s.epoch = count_in(json, "epoch");
  s.next_batch = count_in(json, "next_batch");
  s.best_eval_loss = json.get_float("best_eval_loss");
  s.best_metric = json.has("best_metric") ? json.get_float("best_metric") : s.best_eval_loss;
  s.best_step = count_in(json, "best_step");
  s.last_evaluation = count_in(json, "last_evaluation");
  s.evaluations_without_best = count_in(json, "evaluations_without_best");
  s.loss_sum = json.get_float("loss_sum").value_or(0);
  s.loss_labels = count_in(json, "loss_labels");
  if (checkpoint.filename() != checkpoint_path({}, s.global_step).filename())
    fail<FormatError>(json.source(), "global_step is ", s.global_step, ", in a checkpoint of another name");

  Copies copies;
  const SafetensorsFile moments(checkpoint / kOptimizer);
  for (std::size_t i = 0; i < parameters.all().size(); ++i) {
    const std::string& name = parameters.all()[i].name;
    copies.add(moments, "exp_avg." + name, optimizer.first_moments()[i].view());
    copies.add(moments, "exp_avg_sq." + name, optimizer.second_moments()[i].view());
  }
  for_state(parameters,
            [&](const std::string& name, TensorView tensor) { copies.add(moments, name, tensor); });
  copies.add_weights(checkpoint, parameters, average);
  copies.make();
  optimizer.set_steps(s.global_step);
  return s;
}

void load_parameters(const fs::path& checkpoint, const Parameters& parameters, WeightAverage& average) {
  Copies copies;
  copies.add_weights(checkpoint, parameters, average);
  copies.make();
}

void remove_checkpoint(const fs::path& output_dir, std::int64_t step) {
  const fs::path target = checkpoint_path(output_dir, step),
                 aside = output_dir / concat(kUnfinished, step, ".old");
  remove_all_of(aside);
  std::error_code error;
  fs::rename(target, aside, error);
  if (error == std::errc::no_such_file_or_directory) return;
  if (error) fail<IoError>(target.string(), "cannot be removed: ", error.message());
  remove_all_of(aside);
}

void remove_unfinished(const fs::path& output_dir) {
  std::vector<fs::path> unfinished;
  for_each_entry(output_dir, [&](std::string_view name) {
    if (!name.starts_with(kUnfinished)) return;
    const std::size_t end = name.find_first_not_of("0123456789", kUnfinished.size());
    if (end == name.npos || name.substr(end) == ".old") unfinished.push_back(output_dir / name);
  });
  for (const fs::path& path : unfinished) remove_all_of(path);
}

}  // namespace gpt
