#include "gpt/models/gpt2_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/io/hf_config.h"
#include "models/eos_token.h"
#include "models/quantization_config.h"

namespace gpt {
namespace {

// Keys that say nothing about the network's results.
constexpr std::string_view kHarmless[] = {
    "_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype", "use_cache",
    "return_dict", "output_attentions", "output_hidden_states", "gradient_checkpointing",
    "task_specific_params", "n_ctx", "summary_type", "summary_use_proj", "summary_activation",
    "summary_proj_to_labels", "summary_first_dropout",
    // of classifiers: the head's, not the network's
    "num_labels", "id2label", "label2id", "problem_type"};

// transformers takes these names for the same values (GPT2Config.attribute_map).
struct IntKey {
  std::string_view name;
  std::string_view alias;
  std::int64_t Gpt2Config::*member;
};
constexpr IntKey kIntKeys[] = {{"vocab_size", "", &Gpt2Config::vocab_size},
                               {"n_positions", "max_position_embeddings", &Gpt2Config::n_positions},
                               {"n_embd", "hidden_size", &Gpt2Config::n_embd},
                               {"n_layer", "num_hidden_layers", &Gpt2Config::n_layer},
                               {"n_head", "num_attention_heads", &Gpt2Config::n_head},
                               {"n_inner", "", &Gpt2Config::n_inner}};
constexpr std::string_view kPrunedHeads = "pruned_heads";

struct FloatKey {
  std::string_view name;
  float Gpt2Config::*member;
};
constexpr FloatKey kFloatKeys[] = {{"layer_norm_epsilon", &Gpt2Config::layer_norm_epsilon},
                                   {"initializer_range", &Gpt2Config::initializer_range},
                                   {"resid_pdrop", &Gpt2Config::resid_pdrop},
                                   {"embd_pdrop", &Gpt2Config::embd_pdrop},
                                   {"attn_pdrop", &Gpt2Config::attn_pdrop}};
struct BoolKey {
  std::string_view name;
  bool Gpt2Config::*member;
};
constexpr BoolKey kBoolKeys[] = {
    {"scale_attn_weights", &Gpt2Config::scale_attn_weights},
    {"scale_attn_by_inverse_layer_idx", &Gpt2Config::scale_attn_by_inverse_layer_idx},
    {"reorder_and_upcast_attn", &Gpt2Config::reorder_and_upcast_attn},
    {"tie_word_embeddings", &Gpt2Config::tie_word_embeddings}};

TokenId token_id(const HfConfig& file, std::string_view key, std::int64_t value) {
  if (value < std::numeric_limits<TokenId>::min() || value > std::numeric_limits<TokenId>::max())
    fail<FormatError>(file.source(), key, " is ", value, ", expected a token id of 32 bits");
  return static_cast<TokenId>(value);
}

/// A number that the file has, as a float32. One that would become 0 or infinity is refused as it stands in the file.
float to_float(const HfConfig& file, std::string_view key, double value) {
  if (std::fabs(value) > static_cast<double>(std::numeric_limits<float>::max()) ||
      (value != 0 && static_cast<float>(value) == 0))
    fail<ArgumentError>(file.source(), key, " is ", value, ", which does not fit a float32");
  return static_cast<float>(value);
}

void require_gpt2(const HfConfig& file) {
  file.refuse_null("model_type", "\"gpt2\"");
  if (const auto type = file.get_string("model_type")) {
    if (*type != "gpt2")
      fail<UnsupportedError>(file.source(), "model_type is \"", *type, "\", expected \"gpt2\"");
    return;
  }
  // Checkpoints of 2019 have no model_type; then the architecture must say it.
  for (const std::string& name : file.get_string_list("architectures").value_or(std::vector<std::string>{}))
    if (name.starts_with("GPT2")) return;
  fail<FormatError>(file.source(), "model_type is missing, expected \"gpt2\"");
}

void refuse_unsupported(const HfConfig& file) {
  for (const std::string_view key : {"add_cross_attention", "is_encoder_decoder"})
    if (file.get_bool(key).value_or(false))
      fail<UnsupportedError>(file.source(), key, " is true, which is not supported");
  read_quantization(file);  // refuses another library's
}

std::map<std::int64_t, std::vector<std::int64_t>> read_pruned_heads(const HfConfig& file) {
  std::map<std::int64_t, std::vector<std::int64_t>> all;
  const auto pruned = file.get_object(kPrunedHeads);
  if (!pruned) return all;
  for (const std::string& key : pruned->keys()) {
    std::int64_t layer = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), layer);
    if (error != std::errc() || key != concat(layer))
      fail<FormatError>(file.source(), kPrunedHeads, " has the key \"", key,
                        "\", expected the number of a layer");
    auto heads = pruned->get_int_list(key).value_or(std::vector<std::int64_t>());
    std::ranges::sort(heads);
    if (!heads.empty()) all.emplace(layer, std::move(heads));
  }
  return all;
}

}  // namespace

Gpt2Config Gpt2Config::from_hf(const HfConfig& file,
                               const std::function<void(std::string_view)>& on_warning) try {
  const DefaultFloatEnvironment environment;
  require_gpt2(file);
  refuse_unsupported(file);
  Gpt2Config c;
  if (!file.has("n_positions") && !file.is_null("n_ctx"))
    c.n_positions = *file.get_int("n_ctx");  // older files
  for (const IntKey& k : kIntKeys) {
    const auto by_name = file.get_int(k.name);
    const auto by_alias = k.alias.empty() ? std::nullopt : file.get_int(k.alias);
    if (by_name && by_alias && *by_name != *by_alias)
      fail<FormatError>(file.source(), k.name, " is ", *by_name, ", but ", k.alias, ", the same value, is ",
                        *by_alias);
    if (by_name || by_alias) {
      c.*k.member = by_name ? *by_name : *by_alias;
    } else if (k.member != &Gpt2Config::n_inner) {
      for (const std::string_view key : {k.name, k.alias})
        if (!key.empty()) file.refuse_null(key, "an integer");
    }
  }
  if (file.get_int("n_inner") == 0)
    fail<ArgumentError>(file.source(), "n_inner is 0, expected null or at least 1");
  for (const FloatKey& k : kFloatKeys) {
    file.refuse_null(k.name, "a number");
    if (const auto value = file.get_float(k.name)) c.*k.member = to_float(file, k.name, *value);
  }
  // Null is false to transformers, whatever the default.
  for (const BoolKey& k : kBoolKeys) {
    file.refuse_null(k.name, "true or false");
    if (const auto value = file.get_bool(k.name)) c.*k.member = *value;
  }
  file.refuse_null("activation_function", "a name");
  if (const auto name = file.get_string("activation_function")) {
    const auto known = ops::activation_from_name(*name);
    if (!known)
      fail<UnsupportedError>(file.source(), "activation_function is \"", *name, "\", expected ",
                             ops::activation_names());
    c.activation_function = *known;
  }
  for (const auto& [key, member] : {std::pair{"bos_token_id", &Gpt2Config::bos_token_id},
                                    std::pair{"pad_token_id", &Gpt2Config::pad_token_id}}) {
    if (!file.has(key)) continue;
    const auto value = file.get_int(key);
    c.*member = value ? std::optional(token_id(file, key, *value)) : std::nullopt;
  }
  if (file.has("eos_token_id")) {
    c.eos_token_id.clear();
    for (const std::int64_t id : file.get_int_list("eos_token_id").value_or(std::vector<std::int64_t>{}))
      c.eos_token_id.push_back(token_id(file, "eos_token_id", id));
  }
  c.pruned_heads = read_pruned_heads(file);
  for (const std::string_view key : kHarmless) file.has(key);  // marks it as read
  if (on_warning)
    for (const std::string& key : file.unread_keys())
      on_warning(concat("[", file.source(), "] key \"", key, "\" is not known to libgpt and has no effect"));
  try {
    c.validate();
  } catch (const ArgumentError& e) {
    fail<ArgumentError>(file.source(), e.what());
  }
  if (file.has("eos_token_id")) warn_of_unreachable_eos(file, c.eos_token_id, c.vocab_size, on_warning);
  return c;
} catch (...) {
  rethrow_with_memory_errors(file.source());
}

void Gpt2Config::to_hf(HfConfig& file) const try {
  const DefaultFloatEnvironment environment;
  file.set_string("model_type", "gpt2");
  for (const IntKey& k : kIntKeys) {
    if (k.member == &Gpt2Config::n_inner && n_inner == 0)
      file.set_null(k.name);
    else
      file.set_int(k.name, this->*k.member);
    if (!k.alias.empty() && file.has(k.alias)) file.set_int(k.alias, this->*k.member);
  }
  if (file.has("n_ctx")) file.set_int("n_ctx", n_positions);
  for (const FloatKey& k : kFloatKeys) {
    // Keeps 1e-05 as it was written instead of the digits of its float32 neighbour.
    const auto held = file.get_float(k.name);
    if (!held || static_cast<float>(*held) != this->*k.member) {
      double shortest = 0;
      const std::string digits = concat(this->*k.member);
      std::from_chars(digits.data(), digits.data() + digits.size(), shortest);
      file.set_float(k.name, shortest);
    }
  }
  for (const BoolKey& k : kBoolKeys) file.set_bool(k.name, this->*k.member);
  if (!pruned_heads.empty() || file.has(kPrunedHeads)) {
    HfConfig pruned;
    for (const auto& [layer, heads] : pruned_heads) pruned.set_int_list(concat(layer), heads);
    file.set_object(kPrunedHeads, pruned);
  }
  const auto held = file.get_string("activation_function");
  if (!held || ops::activation_from_name(*held) != activation_function)
    file.set_string("activation_function", ops::name_of(activation_function));
  if (bos_token_id)
    file.set_int("bos_token_id", *bos_token_id);
  else
    file.set_null("bos_token_id");
  if (pad_token_id)
    file.set_int("pad_token_id", *pad_token_id);
  else if (file.has("pad_token_id"))
    file.set_null("pad_token_id");
  if (eos_token_id.size() == 1) {
    file.set_int("eos_token_id", eos_token_id.front());
  } else if (eos_token_id.empty()) {
    file.set_null("eos_token_id");
  } else {
    file.set_int_list("eos_token_id", std::vector<std::int64_t>(eos_token_id.begin(), eos_token_id.end()));
  }
} catch (...) {
  rethrow_with_memory_errors(file.source());
}

std::vector<std::int64_t> Gpt2Config::heads_left(std::int64_t layer) const try {
  const auto pruned = pruned_heads.find(layer);
  std::vector<std::int64_t> left;
  for (std::int64_t head = 0; head < n_head; ++head)
    if (pruned == pruned_heads.end() || !std::ranges::binary_search(pruned->second, head))
      left.push_back(head);
  return left;
} catch (...) {
  rethrow_with_memory_errors("gpt2");
}

std::int64_t Gpt2Config::heads_of(std::int64_t layer) const noexcept {
  const auto pruned = pruned_heads.find(layer);
  return pruned == pruned_heads.end() ? n_head : n_head - std::ssize(pruned->second);
}

void Gpt2Config::validate() const {
  constexpr std::string_view where = "gpt2_config";
  constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();
  constexpr std::int64_t kMostLayers = 10000;  // each costs memory before any weight is seen
  for (const IntKey& k : kIntKeys) {
    const std::int64_t value = this->*k.member;
    const std::int64_t least = k.member == &Gpt2Config::n_inner ? 0 : 1;
    const std::int64_t most = k.member == &Gpt2Config::n_layer ? kMostLayers : kLargest;
    if (value < least || value > most)
      fail<ArgumentError>(where, k.name, " is ", value, ", expected ", least, " to ", most);
  }
  // Of a layer's matrices, c_attn [D, 3 D] and c_fc [D, I]; all others are no larger where these are within the limit.
  const std::int64_t most_columns =
      std::numeric_limits<std::int64_t>::max() / static_cast<std::int64_t>(sizeof(float)) / n_embd;
  if (const std::int64_t columns = std::max(3 * n_embd, inner_dim()); columns > most_columns)
    fail<ArgumentError>(where, "n_embd is ", n_embd, ", with which a matrix of n_embd x ", columns,
                        " float32 has more bytes than 64 bits count");
  if (n_embd % n_head != 0)
    fail<ArgumentError>(where, "n_embd ", n_embd, " is not a multiple of n_head ", n_head);
  for (const auto& [layer, heads] : pruned_heads) {
    if (layer < 0 || layer >= n_layer)
      fail<ArgumentError>(where, kPrunedHeads, " has layer ", layer, ", expected layers below ", n_layer);
    for (std::size_t i = 0; i < heads.size(); ++i)
      if (heads[i] < 0 || heads[i] >= n_head || (i > 0 && heads[i] <= heads[i - 1]))
        fail<ArgumentError>(where, kPrunedHeads, " has head ", heads[i], " of layer ", layer,
                            ", expected each of those below ", n_head, " once at most");
    if (std::ssize(heads) == n_head)
      fail<ArgumentError>(where, kPrunedHeads, " leaves layer ", layer, " no head, expected at least one");
  }
  if (!(layer_norm_epsilon > 0 && layer_norm_epsilon <= std::numeric_limits<float>::max()))
    fail<ArgumentError>(where, "layer_norm_epsilon is ", layer_norm_epsilon, ", expected a positive number");
  if (!(initializer_range >= 0 && initializer_range <= std::numeric_limits<float>::max()))
    fail<ArgumentError>(where, "initializer_range is ", initializer_range, ", expected 0 or more");
  for (const FloatKey& k : kFloatKeys)
    if (k.name.ends_with("_pdrop") && !(this->*k.member >= 0 && this->*k.member <= 1))
      fail<ArgumentError>(where, k.name, " is ", this->*k.member, ", expected 0 to 1");
}

}  // namespace gpt
