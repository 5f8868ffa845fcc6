// A session whose model says what a test wants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "examples/chat_session.h"
#include "gpt/generate/logits_processor.h"
#include "gpt/io/hf_config.h"
#include "gpt/models/model.h"
#include "gpt/text/byte_bpe.h"
#include "support/random_model.h"
#include "text/small_bpe.h"

namespace gpt::test {

/// All bytes, "in", "ing", "th", and special tokens, the eos token or another in its place first.
inline std::shared_ptr<const ByteBpe> chat_tokenizer(bool has_eos = true, bool has_im_end = false) {
  ByteBpeModel model = small_bpe_model({{"i", "n"}, {"in", "g"}, {"t", "h"}});
  model.added_tokens.push_back({.content = "</s>"});
  if (has_eos) model.eos_token = "</s>";
  if (has_im_end) model.added_tokens.push_back({.content = "<|im_end|>"});
  return std::make_shared<const ByteBpe>(std::move(model));
}

inline Model chat_model(std::shared_ptr<const Tokenizer> tokenizer, std::int64_t n_positions = 512) {
  Gpt2Config config = tiny_config();
  config.vocab_size = 280;
  config.n_positions = n_positions;
  config.bos_token_id.reset();
  config.eos_token_id.clear();
  HfConfig file;
  config.to_hf(file);
  return Model(random_network(config, 1), std::move(file), std::move(tokenizer));
}

/// A session that replies by the ids that one puts into `script`.
class ScriptedChat {
 public:
  explicit ScriptedChat(std::shared_ptr<const Tokenizer> tokenizer, std::string_view form = "zephyr",
                        std::int64_t n_positions = 512, GenerateOptions options = {})
      : tokenizer_(tokenizer), model_(chat_model(std::move(tokenizer), n_positions)) {
    options.logits_processor = [this](std::span<double> scores, const DecodingStep& step) {
      const std::size_t place = step.history.size() - step.prompt_length;
      prompt.assign(step.history.begin(),
                    step.history.begin() + std::ssize(step.history) - static_cast<std::ptrdiff_t>(place));
      const auto id = static_cast<std::size_t>(place < script.size() ? script[place] : '.');
      for (std::size_t i = 0; i < scores.size(); ++i)
        if (i != id) scores[i] = -std::numeric_limits<double>::infinity();
    };
    session.emplace(model_, ChatTemplate::by_name(form), std::move(options));
  }
  ScriptedChat(const ScriptedChat&) = delete;
  ScriptedChat& operator=(const ScriptedChat&) = delete;

  std::vector<TokenId> encode(std::string_view text) const {
    return tokenizer_->encode(text, {.add_special_tokens = false});
  }

  /// What a reader sees of the reply to a message; `pieces` as they came.
  std::string say(const std::string& message, std::vector<TokenId> reply, std::stop_token stop = {}) {
    script = std::move(reply);
    pieces.clear();
    std::string text;
    turn = session->say(message,
                        {.on_text =
                             [&](std::string_view piece) {
                               text += piece;
                               pieces.emplace_back(piece);
                             },
                         .on_forget = [this](std::size_t exchanges) { forgotten += exchanges; }},
                        std::move(stop));
    return text;
  }
  std::string say(const std::string& message, std::string_view reply) { return say(message, encode(reply)); }

  const std::vector<program::Exchange>& exchanges() const { return session->conversation().exchanges; }

  /// All ids up to the end of the last reply.
  std::vector<TokenId> history() const {
    program::Conversation before = session->conversation();
    const program::Exchange last = before.exchanges.back();
    before.exchanges.pop_back();
    std::vector<TokenId> ids = before.prompt(last.message);
    ids.insert(ids.end(), last.reply_ids.begin(), last.reply_ids.end());
    return ids;
  }

  std::vector<TokenId> script, prompt;  // prompt: what the model got last
  std::vector<std::string> pieces;
  std::size_t forgotten = 0;
  program::Turn turn;
  std::optional<program::ChatSession> session;

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  Model model_;
};

}  // namespace gpt::test
