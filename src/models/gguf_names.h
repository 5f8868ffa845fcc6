// How the parameters of GPT-2 are called in GGUF files.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "gpt/core/error.h"

namespace gpt {

/// "blk.0.attn_qkv.weight" for "h.0.attn.c_attn.weight". The name must be one that Gpt2::visit gives.
inline std::string gguf_name_of(std::string_view parameter) {
  constexpr std::pair<std::string_view, std::string_view> kNames[] = {
      {"wte.", "token_embd."},     {"wpe.", "position_embd."},       {"ln_f.", "output_norm."},
      {"lm_head.", "output."},     {"ln_1.", "attn_norm."},          {"attn.c_attn.", "attn_qkv."},
      {"ln_2.", "ffn_norm."},      {"attn.c_proj.", "attn_output."}, {"mlp.c_fc.", "ffn_up."},
      {"mlp.c_proj.", "ffn_down."}};
  std::string_view rest = parameter, layer;
  if (rest.starts_with("h.")) {
    layer = rest.substr(2, rest.find('.', 2) - 2);
    rest.remove_prefix(2 + layer.size() + 1);
  }
  for (const auto& [ours, theirs] : kNames)
    if (rest.starts_with(ours))
      return concat(layer.empty() ? "" : concat("blk.", layer, "."), theirs, rest.substr(ours.size()));
  fail<UnsupportedError>("gguf", "the format has no name for the parameter ", parameter);
}

}  // namespace gpt
