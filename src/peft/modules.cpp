#include "peft/modules.h"

#include <algorithm>

#include "gpt/core/error.h"
#include "models/parameter_names.h"

namespace gpt::peft {

bool is_named(std::string_view module, std::string_view target) {
  if (!module.ends_with(target)) return false;
  const std::size_t rest = module.size() - target.size();
  return rest == 0 || module[rest - 1] == '.';
}

std::string bias_of(const Module& module) {
  constexpr std::string_view kWeight = "weight";
  return module.matrix.substr(0, module.matrix.size() - kWeight.size()) + "bias";
}

std::vector<Module> modules_of(const Gpt2& network) {
  const Gpt2Config& c = network.config();
  const std::int64_t features = c.n_embd, inner = c.inner_dim();
  struct Kind {
    std::string_view name;
    std::int64_t in, out;
  };
  std::vector<Module> modules;
  for (std::int64_t layer = 0; layer < c.n_layer; ++layer) {
    const std::int64_t heads = c.heads_of(layer) * c.head_dim();
    const Kind kinds[nn::kLinearPlaces] = {{"attn.c_attn", features, 3 * heads},
                                           {"attn.c_proj", heads, features},
                                           {"mlp.c_fc", features, inner},
                                           {"mlp.c_proj", inner, features}};
    for (std::int64_t i = 0; i < nn::kLinearPlaces; ++i) {
      const auto& [kind, in, out] = kinds[i];
      const std::string plain = concat("h.", layer, ".", kind);
      modules.push_back({{layer, static_cast<nn::LinearPlace>(i)},
                         concat(kBaseModelPrefix, plain),
                         plain + ".weight",
                         in,
                         out});
    }
  }
  return modules;
}

std::vector<Module> targeted(const Gpt2& network, std::span<const std::string> targets) {
  std::vector<Module> all = modules_of(network);
  if (targets.size() == 1 && targets.front() == "all-linear") return all;
  if (targets.empty()) fail<ArgumentError>("peft", "target_modules is empty, expected names of dense layers");
  for (const std::string& target : targets)
    if (std::ranges::none_of(all, [&](const Module& m) { return is_named(m.name, target); }))
      fail<ArgumentError>("peft", "target_modules: no dense layer of the blocks is called ", target,
                          ", expected c_attn, attn.c_proj, c_fc, mlp.c_proj, c_proj or a whole name");
  std::erase_if(all, [&](const Module& m) {
    return std::ranges::none_of(targets, [&](const std::string& t) { return is_named(m.name, t); });
  });
  return all;
}

}  // namespace gpt::peft
