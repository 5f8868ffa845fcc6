#include "gpt/peft/load_adapter.h"

#include <array>
#include <string>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/peft/adalora.h"
#include "gpt/peft/bitfit.h"
#include "gpt/peft/bottleneck.h"
#include "gpt/peft/ia3.h"
#include "gpt/peft/lora.h"
#include "gpt/peft/prompt_tuning.h"
#include "gpt/peft/stacked.h"
#include "peft/any_adapter.h"

namespace gpt {
namespace {

struct MethodOfFile {
  std::string_view peft_type;
  std::shared_ptr<nn::Adapter> (*from_config)(const Gpt2&, const HfConfig&, const peft::OnWarning&);
};

template <class T>
constexpr MethodOfFile method(std::string_view type) {
  return {type,
          [](const Gpt2& network, const HfConfig& config, const peft::OnWarning& on_warning)
              -> std::shared_ptr<nn::Adapter> { return T::from_config(network, config, on_warning); }};
}

constexpr std::array kMethods{method<LoraAdapter>("LORA"),
                              method<AdaLoraAdapter>("ADALORA"),
                              method<Ia3Adapter>("IA3"),
                              method<PromptTuning>("PROMPT_TUNING"),
                              method<PrefixTuning>("PREFIX_TUNING"),
                              method<BottleneckAdapter>("BOTTLENECK"),
                              method<BitFitAdapter>("BITFIT"),
                              method<StackedAdapter>("STACKED")};

}  // namespace

std::shared_ptr<nn::Adapter> peft::adapter_of(const Gpt2& network, const HfConfig& config,
                                              const OnWarning& on_warning) {
  const std::string type = peft_type_of(config);
  std::string known;
  for (const MethodOfFile& m : kMethods) {
    if (m.peft_type == type) return m.from_config(network, config, on_warning);
    known += concat(known.empty() ? "" : ", ", m.peft_type);
  }
  fail<UnsupportedError>(config.source(), "peft_type is ", type, ", expected one of ", known);
}

std::shared_ptr<nn::Adapter> load_adapter(const Gpt2& network, const std::filesystem::path& directory,
                                          const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    auto adapter = peft::adapter_of(network, peft::read_config(directory), on_warning);
    peft::read_tensors(directory, *adapter);
    return adapter;
  });
}

}  // namespace gpt
