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

TokenIds ids_of(std::optional<TokenId> id) { return id ? TokenIds{*id} : TokenIds(); }

bool contains(const TokenIds& ids, std::int64_t id) { return std::ranges::find(ids, id) != ids.end(); }

void set_ids(HfConfig& file, std::string_view key, const TokenIds& ids) {
  if (ids.empty())
    file.set_null(key);
  else if (ids.size() == 1)
    file.set_int(key, ids.front());
  else
    file.set_int_list(key, ids);
}

/// What a model's special tokens become, and what there is to say of it. The model stays as it is.
class Alignment {
 public:
  explicit Alignment(const Model& model)
      : tokenizer_(model.tokenizer()),
        vocab_size_(model.config().vocab_size),
        generation_(model.generation_config()) {
    const Gpt2Config& c = model.config();
    const TokenIds eos =
        align("eos_token_id", tokenizer_.eos_token_id(), {c.eos_token_id.begin(), c.eos_token_id.end()});
    eos_.assign(eos.begin(), eos.end());
    bos_ = first_of(align("bos_token_id", tokenizer_.bos_token_id(), ids_of(c.bos_token_id)));
    pad_ = first_of(align("pad_token_id", tokenizer_.pad_token_id(), ids_of(c.pad_token_id)));
  }

  const std::vector<std::string>& warnings() const noexcept { return warnings_; }

  void apply(Model& model) && noexcept {
    model.network().set_special_tokens(bos_, std::move(eos_), pad_);
    model.set_generation_config(std::move(generation_));
  }

 private:
  /// What the ids of config.json become; those of generation_config.json do, too. `own`: the tokenizer's.
  TokenIds align(std::string_view key, std::optional<TokenId> own, const TokenIds& before) {
    const bool ends = key == "eos_token_id";
    const TokenIds after = aligned(own, before, ends && own && contains(before, *own));
    tell(key, own, before, after);
    if (!generation_) return after;
    const bool missing = !generation_->has(key);
    if (missing && !(own && has(*own))) return after;
    const TokenIds former = generation_->get_int_list(key).value_or(TokenIds());
    const TokenIds now = missing ? after : aligned(own, former, ends);
    if (now == former) return after;
    tell(concat("generation_config.json: ", key), own, former, now);
    set_ids(*generation_, key, now);
    return after;
  }

  bool has(std::int64_t id) const noexcept { return id >= 0 && id < vocab_size_; }

  /// `others_stay`: beside the tokenizer's. Where it names none, the model's do, and all of them.
  TokenIds aligned(std::optional<TokenId> own, const TokenIds& before, bool others_stay) const {
    const bool named = own && (has(*own) || contains(before, *own));
    TokenIds after;
    for (const std::int64_t id : before) {
      const bool stays = (named && id == *own) || ((!named || others_stay) && has(id) &&
                                                   tokenizer_.is_special(static_cast<TokenId>(id)));
      if (stays && !contains(after, id)) after.push_back(id);
    }
    if (named && !contains(after, *own)) after.insert(after.begin(), *own);
    return after;
  }

  void tell(std::string_view key, std::optional<TokenId> own, const TokenIds& before, const TokenIds& after) {
    const bool beyond = own && !has(*own) && !contains(before, *own);
    if (after == before && !beyond) return;
    const std::string why =
        beyond ? concat("the tokenizer's is ", *own, ", outside the vocabulary [0, ", vocab_size_, ")")
        : own  ? concat("the tokenizer's is ", *own)
               : std::string("the tokenizer names none, and has no such special token");
    warnings_.push_back(
        after == before ? concat(key, " stays ", text_of(before), ": ", why)
                        : concat(key, " changes from ", text_of(before), " to ", text_of(after), ": ", why));
  }

  const Tokenizer& tokenizer_;
  std::int64_t vocab_size_;
  std::optional<HfConfig> generation_;
  std::optional<TokenId> bos_, pad_;
  std::vector<TokenId> eos_;
  std::vector<std::string> warnings_;
};

}  // namespace

void align_special_tokens(Model& model, const std::function<void(std::string_view)>& on_warning) {
  Alignment alignment = with_memory_errors("model", [&] { return Alignment(model); });
  if (on_warning)
    for (const std::string& warning : alignment.warnings()) on_warning(warning);
  std::move(alignment).apply(model);
}

}  // namespace gpt
