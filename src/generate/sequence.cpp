#include "generate/sequence.h"

#include <algorithm>
#include <utility>

#include "generate/log_probs.h"
#include "generate/non_finite.h"
#include "generate/session_support.h"

namespace gpt::generate {

Sequence::Sequence(const Model& model, const Settings& settings, const Sampler& sampler,
                   const std::vector<TokenId>& prompt, std::size_t number) {
  check_prompt(prompt, model.config());
  const GenerateOptions& options = settings.options;
  max_new_tokens =
      generate::max_new_tokens(settings, static_cast<std::int64_t>(prompt.size()), room_of(model, settings));
  if (*options.do_sample) rng.emplace(options.seed, options.stream + number);
  tokens.reserve(room_for_tokens(prompt.size(), max_new_tokens));
  tokens = prompt;
  processor_state = sampler.initial_state();
  result.prompt_ids = prompt;
  if (model.has_tokenizer()) {
    decoder.emplace(decoder_behind(model.tokenizer(), prompt));
    stop_strings.emplace(*options.stop_strings);
    for (const TokenId id : tokens)
      stop_strings->push(text_or_nothing([&] { return model.tokenizer().bytes_of(id); }));
  }
}

Piece choose_next(Sequence& sequence, const Model& model, const Settings& settings, Sampler& sampler,
                  std::span<const float> logits, std::size_t prompt, std::span<const float> unconditional) {
  GenerateResult& result = sequence.result;
  const GenerateOptions& options = settings.options;
  require_finite_logits(logits, sequence.tokens, model.network());
  const DecodingStep step{
      .history = sequence.tokens,
      .prompt_length = result.prompt_ids.size(),
      .max_length = result.prompt_ids.size() + static_cast<std::size_t>(sequence.max_new_tokens),
      .sequence = prompt,
      .unconditional_logits = unconditional,
      .rng = sequence.rng ? &*sequence.rng : nullptr};
  const TokenId id = sampler.next(logits, step, sequence.processor_state);

  Piece piece;
  piece.id = id;
  if (options.logprobs) {
    const LogProbs log_probs(logits);
    piece.logprob = log_probs.of(id);
    piece.top_logprobs = log_probs.top(static_cast<std::size_t>(*options.logprobs));
    result.logprobs.push_back(*piece.logprob);
    result.top_logprobs.push_back(piece.top_logprobs);
  }
  if (!result.ids.empty()) ++result.timing.decode_tokens;
  result.ids.push_back(id);
  sequence.tokens.push_back(id);

  bool at_stop_string = false;
  if (sequence.decoder) {
    piece.text = text_or_nothing([&] { return sequence.decoder->push(id); });
    at_stop_string =
        sequence.stop_strings->push(text_or_nothing([&] { return model.tokenizer().bytes_of(id); }));
  }
  const auto& eos = *options.eos_token_id;
  std::optional<FinishReason> reason;
  if (std::find(eos.begin(), eos.end(), id) != eos.end()) {
    reason = FinishReason::kEos;
  } else if (at_stop_string) {
    reason = FinishReason::kStopString;
  } else if (std::cmp_equal(result.ids.size(), sequence.max_new_tokens)) {
    reason = FinishReason::kLength;
  }
  if (reason) piece.text += finish(sequence, *reason);
  result.text += piece.text;
  return piece;
}

std::string finish(Sequence& sequence, FinishReason reason) {
  sequence.result.finish_reason = reason;
  sequence.ended = true;
  return sequence.decoder ? sequence.decoder->flush() : std::string();
}

void count_pass(Sequence& sequence, std::int64_t tokens) {
  if (sequence.result.ids.empty()) sequence.result.timing.prefill_tokens += tokens;
}

void count_time(Sequence& sequence, double seconds) {
  GenerateTiming& timing = sequence.result.timing;
  (timing.decode_tokens > 0 ? timing.decode_s : timing.prefill_s) += seconds;
}

}  // namespace gpt::generate
