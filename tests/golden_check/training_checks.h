// Judges gradients and the optimizer: README 2.2, 2.3 and 2.8.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "expected.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/model.h"
#include "gpt/train/parameters.h"

namespace gpt::golden {

/// The gradients of the batch input_ids with labels, and five steps of AdamW on train_input_ids with train_labels (themselves,
/// where there are none). Of the adapter, where the model has one. `load` makes the model anew, `recipe` is README 2.3's
/// "adamw". All arguments must outlive it and its rules.
class TrainingChecks {
 public:
  TrainingChecks(std::function<Model()> load, const ExpectedTensors& expected, const Json& recipe)
      : load_(std::move(load)), expected_(expected), recipe_(recipe) {}

  std::vector<Rule> tensor_rules();
  std::vector<Rule> json_rules();
  /// For the recipe where it stands.
  std::vector<Rule> recipe_rules();

 private:
  /// What one quantity of a parameter is called: grad.<name>, adamw5_rows.<name>.
  struct Quantity {
    std::string kind;  // "grad", "adamw1", "adamw5"
    std::string name;
    bool rows = false;  // only the rows named in rows.<name>
  };
  static Quantity quantity_of(const std::string& entry);

  void differentiate();  // each once, before the first comparison
  void train();
  const Tensor& found(const Quantity& quantity);

  Outcome gradient(const Entry& entry);
  Outcome parameter(const Entry& entry);
  Outcome train_loss(const Entry& entry);
  Outcome train_gradient_norm(const Entry& entry);
  Outcome gradient_norm(const Entry& entry);
  Outcome norm(const Entry& entry);
  Outcome recipe(const Entry& entry);

  std::function<Model()> load_;
  const ExpectedTensors& expected_;
  const Json& recipe_;
  std::map<std::string, std::map<std::string, Tensor>> found_;  // by kind, by parameter
  double gradient_norm_ = 0;
  std::vector<double> losses_, norms_;  // of each step
};

/// Adds the gradients of the mean loss over a batch, and returns that loss.
double add_gradients(const Gpt2& network, const Parameters& parameters, Arena& arena,
                     std::span<const LabelledSequence> batch);

/// |found - expected| after `steps` updates, by README 2.3: noise that the optimizer amplifies is told from error.
Outcome compare_trained(std::span<const float> found, std::span<const float> expected,
                        const std::string& name, int steps);

}  // namespace gpt::golden
