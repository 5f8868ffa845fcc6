// A model that one talks to: the conversation, and the replies to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>

#include <gpt/generate/generator.h>
#include <gpt/generate/scheduler.h>
#include <gpt/models/model.h>
#include <gpt/text/chat_template.h>

#include "conversation.h"

namespace program {

/// What became of a message.
struct Turn {
  /// False where the caller stopped before a token was there: the conversation is then as it was.
  bool was_answered = false;
  gpt::FinishReason finish_reason = gpt::FinishReason::kCancelled;
  std::int64_t prompt_tokens = 0;
  std::int64_t cached_tokens = 0;  // of these, whose keys and values were in the cache
  std::int64_t reply_tokens = 0;   // generated
  gpt::GenerateTiming timing = {};
};

struct TurnCallbacks {
  std::function<void(std::string_view text)> on_text;    // of the reply, as it is made
  std::function<void(std::size_t exchanges)> on_forget;  // so many of the oldest, which do not fit any more
};

/// Replies come from a gpt::Scheduler, whose prefix cache keeps keys and values of the conversation by pages of 16 tokens: a turn
/// computes what is new and, of what was there, less than a page. The model must outlive the session.
class ChatSession {
 public:
  /// Of `options`, on_token, stop and stream are the session's; max_new_tokens, when it is not set, is the checkpoint's or 256, or
  /// half of the context where that is less. Throws as Scheduler and Scheduler::submit where the model or the options are not fit for replies;
  /// UnsupportedError without a tokenizer.
  ChatSession(const gpt::Model& model, const gpt::ChatTemplate& form, gpt::GenerateOptions options,
              const gpt::Generator::WarningCallback& on_warning = {});

  const Conversation& conversation() const noexcept { return conversation_; }
  std::int64_t max_new_tokens() const noexcept { return *options_.max_new_tokens; }

  /// The reply to a message. Where the conversation, the message and max_new_tokens do not fit the context, the oldest exchanges
  /// are forgotten. What was said until `stop` is the reply. Throws ArgumentError when the message alone does not fit, and as
  /// Completion::get and Scheduler::step; the conversation is then as it was.
  Turn say(std::string message, const TurnCallbacks& callbacks, std::stop_token stop = {});
  /// Another reply to the last message, in place of the one it has. Throws as say, and ArgumentError when there is none.
  Turn regenerate(const TurnCallbacks& callbacks, std::stop_token stop = {});
  /// Takes the last message and the reply to it back. Throws ArgumentError when there is none.
  void undo();
  /// Forgets all but the system message.
  void reset() { conversation_.exchanges.clear(); }
  void set_system(std::optional<std::string> text) { conversation_.system = std::move(text); }

  /// See conversation_line and load_conversation. Throw as those and gpt::AtomicFile; the conversation is then as it was.
  void save(const std::string& path) const;
  void load(const std::string& path);

  gpt::SchedulerStatistics statistics() const { return scheduler_.statistics(); }

 private:
  Turn reply(Conversation before, std::string message, const TurnCallbacks& callbacks, std::stop_token stop);
  void require_exchange() const;
  gpt::Completion run(std::span<const gpt::TokenId> prompt, const gpt::GenerateOptions& options);

  const gpt::Model* model_;
  gpt::GenerateOptions options_;
  gpt::Scheduler scheduler_;
  Conversation conversation_;
  std::uint64_t replies_ = 0;  // asked for: each has a stream of random numbers of its own
};

}  // namespace program
