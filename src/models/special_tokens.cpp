#include "gpt/models/special_tokens.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

using TokenIds = std::vector<std::int64_t>;  // as a file has them: none, one or several

std::string text_of(const TokenIds& ids) {
  if (ids.empty()) return "null";
  if (ids.size() == 1) return concat(ids.front());
  std::string text;
  for (const std::int64_t id : ids) text += concat(text.empty() ? "[" : ", ", id);
  return text + "]";
}

std::optional<TokenId> first_of(const TokenIds& ids) {
  return ids.empty() ? std::nullopt : std::optional(static_cast<TokenId>(ids.front()));
}

void set_ids(HfConfig& file, std::string_view key, const TokenIds& ids) {
  if (ids.empty())
    file.set_null(key);
  else if (ids.size() == 1)
    file.set_int(key, ids.front());
  else
    file.set_int_list(key, ids);
}

class Alignment {
 public:
  explicit Alignment(const Model& model)
      : tokenizer_(model.tokenizer()),
        vocab_size_(model.config().vocab_size),
        generation_(model.generation_config()) {}

  /// What the ids of config.json become; those of generation_config.json do, too. `own`: the tokenizer's.
  TokenIds align(std::string_view key, std::optional<TokenId> own, const TokenIds& ids) {
    const TokenIds now = aligned(own, ids, false);
    tell("", key, own, ids, now);
    if (generation_ && generation_->has(key)) {
      const TokenIds before = generation_->get_int_list(key).value_or(TokenIds());
      const TokenIds after = aligned(own, before, key == "eos_token_id");
      tell("generation_config.json: ", key, own, before, after);
      if (after != before) set_ids(*generation_, key, after);
    }
    return now;
  }

  std::optional<HfConfig>& generation_config() noexcept { return generation_; }
  const std::vector<std::string>& changes() const noexcept { return changes_; }

 private:
  bool has(std::int64_t id) const noexcept { return id >= 0 && id < vocab_size_; }

  TokenIds aligned(std::optional<TokenId> own, const TokenIds& before, bool former_stay) const {
    if (own && std::ranges::find(before, *own) != before.end()) return before;
    if (own && !has(*own)) own.reset();
    TokenIds after;
    if (own) after.push_back(*own);
    for (const std::int64_t id : before)
      if ((!own || former_stay) && has(id) && tokenizer_.is_special(static_cast<TokenId>(id)))
        after.push_back(id);
    return after;
  }

  void tell(std::string_view file, std::string_view key, std::optional<TokenId> own, const TokenIds& before,
            const TokenIds& after) {
    if (after == before) return;
    changes_.push_back(concat(
        file, key, " changes from ", text_of(before), " to ", text_of(after), ": ",
        own && has(*own) ? concat("the tokenizer's is ", *own)
                         : "the tokenizer names none of the network's, and has no such special token"));
  }

  const Tokenizer& tokenizer_;
  std::int64_t vocab_size_;
  std::optional<HfConfig> generation_;
  std::vector<std::string> changes_;
};

TokenIds ids_of(std::optional<TokenId> id) { return id ? TokenIds{*id} : TokenIds(); }

}  // namespace

void align_special_tokens(Model& model, const std::function<void(std::string_view)>& on_warning) {
  with_memory_errors("model", [&] {
    const Gpt2Config& c = model.config();
    const Tokenizer& tokenizer = model.tokenizer();
    Alignment alignment(model);
    const TokenIds eos = alignment.align("eos_token_id", tokenizer.eos_token_id(),
                                         {c.eos_token_id.begin(), c.eos_token_id.end()});
    const TokenIds bos = alignment.align("bos_token_id", tokenizer.bos_token_id(), ids_of(c.bos_token_id));
    const TokenIds pad = alignment.align("pad_token_id", tokenizer.pad_token_id(), ids_of(c.pad_token_id));
    model.network().set_special_tokens(first_of(bos), {eos.begin(), eos.end()}, first_of(pad));
    model.set_generation_config(std::move(alignment.generation_config()));
    if (on_warning)
      for (const std::string& change : alignment.changes()) on_warning(change);
  });
}

}  // namespace gpt
