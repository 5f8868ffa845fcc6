#include "adapter_checks.h"

#include "compare.h"
#include "gpt/models/model.h"
#include "gpt/peft/lora.h"
#include "tolerances.h"

namespace gpt::golden {

std::vector<Rule> merged_tensor_rules(const std::filesystem::path& checkpoint,
                                      const std::filesystem::path& adapter, const ExpectedTensors& expected) {
  const auto check = [&checkpoint, adapter, &expected](const Entry& entry) {
    Model model = Model::load(checkpoint);
    LoraAdapter::load(model.network(), adapter)->merge(model.network());
    const std::string name = entry.name.substr(std::string_view("merged.").size());
    std::optional<Outcome> outcome;
    model.network().visit_matrices([&](const std::string& matrix, const ops::Weight& weight) {
      if (matrix != name) return;
      const Tensor values = weight.values.to(DType::f32);
      outcome = compare_reals(std::span<const float>(values.span<float>()),
                              expected.reals(entry.name, values.shape()),
                              kMergedTolerance * expected.scale(entry.name));
    });
    if (!outcome) throw Unreadable(concat(expected.source(), ": the network has no ", name));
    return *outcome;
  };
  return {{"merged.*", check}};
}

}  // namespace gpt::golden
