#include "gpt/peft/classifier_adapter.h"

#include <memory>
#include <string>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "peft/adapter_files.h"
#include "peft/any_adapter.h"
#include "peft/modules.h"

namespace gpt {

void attach_adapter(Classifier& classifier, const std::filesystem::path& directory,
                    const std::function<void(std::string_view)>& on_warning) {
  with_memory_errors(directory.native(), [&] {
    constexpr std::string_view kModules[] = {"score", "classifier"};  // what PEFT takes for any model's head
    auto adapter =
        peft::adapter_of(classifier.model().network(), peft::read_config(directory, kModules), on_warning);
    peft::read_tensors(directory, *adapter, kModules);
    const SafetensorsFile file(directory / peft::kWeightsFile);
    std::string name = concat(peft::kPrefix, kModules[0], ".weight");
    if (const std::string other = concat(peft::kPromptPrefix, kModules[0], ".weight"); file.contains(other))
      name = other;
    if (!file.contains(name))
      fail<FormatError>(file.source(), "tensor ", name, " is missing, the head of a classifier");
    Tensor score = file.tensor(name);
    if (!is_weight_dtype(score.dtype()))
      fail<FormatError>(file.source(), "tensor ", name, " is ", name_of(score.dtype()),
                        ", expected F32, F16 or BF16");
    const Shape expected = classifier.score().file_shape();
    if (score.shape() != expected)
      fail<ShapeError>(file.source(), "tensor ", name, " has shape ", score.shape().to_string(),
                       ", expected ", expected.to_string());
    classifier.model().network().attach(std::move(adapter));
    classifier.score().values = std::move(score);
  });
}

}  // namespace gpt
