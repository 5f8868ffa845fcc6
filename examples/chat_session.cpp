#include "chat_session.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include <gpt/core/atomic_file.h>
#include <gpt/core/error.h>

#include "reply_filter.h"

namespace program {
namespace {

using gpt::GenerateOptions;
using gpt::TokenId;

/// What the checkpoint's generation_config.json says, where it has one.
GenerateOptions defaults_of(const gpt::Model& model) {
  return model.generation_config() ? GenerateOptions::from_config(*model.generation_config())
                                   : GenerateOptions();
}

/// A reply also ends by what ends it in its form.
GenerateOptions reply_options(const gpt::Model& model, const gpt::ChatTemplate& form, GenerateOptions options,
                              const gpt::Generator::WarningCallback& on_warning) {
  const GenerateOptions defaults = defaults_of(model);
  const std::int64_t vocab_size = model.config().vocab_size;
  if (!options.stop_strings)
    options.stop_strings = defaults.stop_strings.value_or(std::vector<std::string>());
  options.stop_strings->emplace_back(form.stop_string());
  if (!options.eos_token_id) {
    auto& eos = options.eos_token_id.emplace(defaults.eos_token_id.value_or(model.config().eos_token_id));
    if (const auto id = model.tokenizer().eos_token_id()) eos.push_back(*id);
    std::erase_if(eos, [=](TokenId id) { return id < 0 || id >= vocab_size; });
    std::sort(eos.begin(), eos.end());
    eos.erase(std::unique(eos.begin(), eos.end()), eos.end());
  }
  if (defaults.max_length && !defaults.max_new_tokens && !options.max_new_tokens && on_warning)
    on_warning("generation_config.json: max_length counts the conversation, too, and does not bound a reply");
  constexpr std::int64_t kMostByDefault = 256;
  if (!options.max_new_tokens)
    options.max_new_tokens = defaults.max_new_tokens.value_or(
        std::min(kMostByDefault, std::max<std::int64_t>(1, model.network().max_tokens() / 2)));
  if (*options.max_new_tokens > model.config().n_positions)
    gpt::fail<gpt::ArgumentError>("chat", "max_new_tokens is ", *options.max_new_tokens,
                                  ", expected at most n_positions = ", model.config().n_positions);
  return options;
}

gpt::SchedulerOptions for_one_conversation(const GenerateOptions& options) {
  return {.max_batch = 1, .max_queue = 1, .kv_cache_dtype = options.kv_cache_dtype};
}

}  // namespace

ChatSession::ChatSession(const gpt::Model& model, const gpt::ChatTemplate& form, GenerateOptions options,
                         const gpt::Generator::WarningCallback& on_warning)
    : model_(&model),
      options_(reply_options(model, form, std::move(options), on_warning)),
      scheduler_(model, for_one_conversation(options_), on_warning),
      conversation_(form, model.shared_tokenizer()) {
  // What does not go with the model is said before the first message: a request that ends before anything is computed.
  GenerateOptions probe = options_;
  std::stop_source stopped;
  stopped.request_stop();
  probe.stop = stopped.get_token();
  const TokenId any = 0;
  gpt::Completion none = run(std::span(&any, 1), probe);
  none.get();
}

gpt::Completion ChatSession::run(std::span<const TokenId> prompt, const GenerateOptions& options) {
  const gpt::RequestId id = scheduler_.submit(prompt, options);
  try {
    while (scheduler_.step(options.stop)) {
    }
  } catch (...) {  // no memory for the step: the request must not wait for the next message
    scheduler_.cancel(id);
    scheduler_.step();
    scheduler_.take(id);
    throw;
  }
  return *scheduler_.take(id);
}

Turn ChatSession::reply(Conversation before, std::string message, const TurnCallbacks& callbacks,
                        std::stop_token stop) {
  const std::int64_t n_positions = model_->config().n_positions, room = model_->network().max_tokens();
  const auto fits = [&](std::span<const TokenId> prompt) {  // the last token is not fed
    return std::ssize(prompt) <= room + 1 - max_new_tokens();
  };
  std::vector<TokenId> prompt = before.prompt(message);
  std::size_t forgotten = 0;
  if (!fits(prompt)) {
    // Of the numbers of exchanges to forget, from 1 on, the first that is enough.
    std::size_t few = 1, many = before.exchanges.size();
    while (few < many) {
      const std::size_t middle = few + (many - few) / 2;
      if (fits(before.prompt(message, middle)))
        many = middle;
      else
        few = middle + 1;
    }
    prompt = before.prompt(message, many);
    if (!fits(prompt))
      gpt::fail<gpt::ArgumentError>("chat", "the message takes ", prompt.size(), " tokens in its form, and ",
                                    max_new_tokens(),
                                    " more (--max-new-tokens) do not fit n_positions = ", n_positions);
    before.exchanges.erase(before.exchanges.begin(),
                           before.exchanges.begin() + static_cast<std::ptrdiff_t>(many));
    forgotten = many;
  }
  const auto& stop_strings = *options_.stop_strings;
  std::size_t longest = 0;
  for (const std::string& text : stop_strings) longest = std::max(longest, text.size());
  ReplyFilter filter(stop_strings, last_bytes(model_->tokenizer(), prompt, longest),
                     before.form().reply_begin());
  const auto show = [&callbacks](const std::string& text) {
    if (!text.empty() && callbacks.on_text) callbacks.on_text(text);
  };
  GenerateOptions options = options_;
  options.stop = std::move(stop);
  options.stream = replies_++;
  const std::vector<TokenId>& ends = *options_.eos_token_id;
  options.on_token = [&](const gpt::Piece& piece) {
    // The end of a reply is not a part of it, though it may have a text of its own.
    if (std::find(ends.begin(), ends.end(), piece.id) == ends.end()) show(filter.push(piece.text));
  };
  const std::int64_t cached = statistics().prefix_hit_tokens;
  gpt::Completion completion = run(prompt, options);
  const gpt::GenerateResult& result = completion.get();
  if (result.finish_reason != gpt::FinishReason::kStopString) show(filter.finish());
  Turn turn{.was_answered = !result.ids.empty(),
            .finish_reason = result.finish_reason,
            .prompt_tokens = std::ssize(prompt),
            .cached_tokens = statistics().prefix_hit_tokens - cached,
            .reply_tokens = std::ssize(result.ids),
            .timing = result.timing};
  if (!turn.was_answered) return turn;
  before.exchanges.push_back(before.exchange(std::move(message), prompt, result, stop_strings));
  conversation_ = std::move(before);
  if (forgotten > 0 && callbacks.on_forget) callbacks.on_forget(forgotten);
  return turn;
}

Turn ChatSession::say(std::string message, const TurnCallbacks& callbacks, std::stop_token stop) {
  return reply(conversation_, std::move(message), callbacks, std::move(stop));
}

void ChatSession::require_exchange() const {
  if (conversation_.exchanges.empty())
    gpt::fail<gpt::ArgumentError>("chat", "nothing was said yet: there is no message to take back");
}

Turn ChatSession::regenerate(const TurnCallbacks& callbacks, std::stop_token stop) {
  require_exchange();
  Conversation before = conversation_;
  std::string message = std::move(before.exchanges.back().message);
  before.exchanges.pop_back();
  return reply(std::move(before), std::move(message), callbacks, std::move(stop));
}

void ChatSession::undo() {
  require_exchange();
  conversation_.exchanges.pop_back();
}

void ChatSession::save(const std::string& path) const {
  gpt::write_file_atomically(path, conversation_line(conversation_, replies_));
}

void ChatSession::load(const std::string& path) {
  LoadedConversation loaded = load_conversation(path, conversation_, model_->config().vocab_size);
  conversation_ = std::move(loaded.conversation);
  replies_ = loaded.replies;
}

}  // namespace program
