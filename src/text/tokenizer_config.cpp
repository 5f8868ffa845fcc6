// What the files beside a vocabulary mean for a byte-level BPE.
#include <algorithm>
#include <functional>

#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "text/side_files.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";

struct NamedToken {
  std::string_view key;
  std::optional<std::string> ByteBpeModel::*member;
  bool is_end_of_text;  // GPT-2's default
};
constexpr NamedToken kByteBpeTokens[] = {{"bos_token", &ByteBpeModel::bos_token, true},
                                         {"eos_token", &ByteBpeModel::eos_token, true},
                                         {"unk_token", &ByteBpeModel::unk_token, true},
                                         {"pad_token", &ByteBpeModel::pad_token, false}};

bool is_gpt2_class(std::string_view name) { return name == "GPT2Tokenizer" || name == "GPT2TokenizerFast"; }

// The classes that read vocab.json and merges.txt as GPT-2's; Roberta's and others add tokens of their own.
bool reads_files_as_gpt2(std::string_view name) {
  return is_gpt2_class(name) || name == "PreTrainedTokenizerFast" || name == "TokenizersBackend";
}

bool has_end_of_text(const ByteBpeModel& model, const SideFiles& side_files) {
  const auto& added = side_files.added_tokens();
  return std::any_of(added.begin(), added.end(),
                     [](const AddedToken& t) { return t.content == kEndOfText; }) ||
         std::any_of(model.vocab.begin(), model.vocab.end(),
                     [](const auto& t) { return t.first == kEndOfText; });
}

// The tokens that the files want around the text, unless the template has them already.
void add_around_text(ByteBpeModel& model, const JsonObject& config, std::string_view source) {
  if (config.boolean("add_bos_token").value_or(false)) {
    if (!model.bos_token) fail<FormatError>(source, "add_bos_token is true, but there is no bos_token");
    auto& tokens = model.prefix_tokens;
    if (tokens.empty() || tokens.front() != *model.bos_token) tokens.insert(tokens.begin(), *model.bos_token);
  }
  if (config.boolean("add_eos_token").value_or(false)) {
    if (!model.eos_token) fail<FormatError>(source, "add_eos_token is true, but there is no eos_token");
    auto& tokens = model.suffix_tokens;
    if (tokens.empty() || tokens.back() != *model.eos_token) tokens.push_back(*model.eos_token);
  }
}

}  // namespace

void warn_of_cleaning(const JsonObject& config, std::string_view kind,
                      const std::function<void(std::string_view)>& on_warning) {
  constexpr std::string_view kKey = "clean_up_tokenization_spaces";
  if (!config.boolean(kKey).value_or(false)) return;
  config.require_not("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output");
  if (on_warning)
    on_warning(concat("[", config.source(), "] ", kKey, " is true, which has no effect on ", kind,
                      ", whose spaces are the text's own"));
}

void apply_side_files(ByteBpeModel& model, const std::filesystem::path& directory,
                      const std::function<void(std::string_view)>& on_warning) {
  SideFiles side_files(directory, std::move(model.added_tokens));
  const std::string source = directory.string();
  const JsonObject config = side_files.config();
  const std::string tokenizer_class = config.string("tokenizer_class").value_or("GPT2Tokenizer");
  const bool has_tokenizer_json = !model.files.empty();
  if (!has_tokenizer_json && !reads_files_as_gpt2(tokenizer_class))
    config.fail_unsupported("tokenizer_class");
  model.add_prefix_space = config.boolean("add_prefix_space").value_or(model.add_prefix_space);
  warn_of_cleaning(config, "a byte-level BPE", on_warning);
  // What GPT-2's class says where the files say nothing.
  const bool defaults = is_gpt2_class(tokenizer_class) && has_end_of_text(model, side_files);
  for (const NamedToken& named : kByteBpeTokens) {
    if (side_files.mentions(named.key)) {
      model.*named.member = side_files.named(named.key);
    } else if (defaults && named.is_end_of_text) {
      model.*named.member = kEndOfText;
      side_files.add({.content = std::string(kEndOfText)}, source, false);
    }
  }
  add_around_text(model, config, source);
  model.added_tokens = side_files.added_tokens();
  model.files.insert(model.files.end(), side_files.files().begin(), side_files.files().end());
}

}  // namespace gpt
