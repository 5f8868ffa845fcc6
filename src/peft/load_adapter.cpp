#include "gpt/peft/load_adapter.h"

#include <array>
#include <string>
#include <utility>

#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/peft/lora.h"
#include "gpt/peft/prompt_tuning.h"
#include "peft/adapter_files.h"

namespace gpt {
namespace {

struct Method {
  std::string_view peft_type;
  std::shared_ptr<nn::Adapter> (*load)(const Gpt2&, const std::filesystem::path&, const peft::OnWarning&);
};

template <class T>
constexpr Method method(std::string_view type) {
  return {type,
          [](const Gpt2& network, const std::filesystem::path& directory, const peft::OnWarning& on_warning)
              -> std::shared_ptr<nn::Adapter> { return T::load(network, directory, on_warning); }};
}

constexpr std::array kMethods{method<LoraAdapter>("LORA"), method<PromptTuning>("PROMPT_TUNING"),
                              method<PrefixTuning>("PREFIX_TUNING")};

}  // namespace

std::shared_ptr<nn::Adapter> load_adapter(const Gpt2& network, const std::filesystem::path& directory,
                                          const std::function<void(std::string_view)>& on_warning) {
  return with_memory_errors(directory.native(), [&] {
    const std::string type = peft::peft_type_of(directory);
    std::string known;
    for (const Method& m : kMethods) {
      if (m.peft_type == type) return m.load(network, directory, on_warning);
      known += concat(known.empty() ? "" : ", ", m.peft_type);
    }
    fail<UnsupportedError>((directory / peft::kConfigFile).string(), "peft_type is ", type,
                           ", expected one of ", known);
  });
}

}  // namespace gpt
