#include "generate/session.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/float_environment.h"
#include "generate/log_probs.h"
#include "generate/non_finite.h"
#include "generate/processor_list.h"
#include "generate/session_support.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"

namespace gpt::generate {
namespace {

// Guesses per forward pass: a bound on the memory for their logits.
constexpr std::int64_t kGuessesPerPass = 64;

Sampler make_sampler(Settings& settings) { return Sampler(std::move(settings.processors)); }

// Throws ArgumentError when the negative prompt and the new tokens do not fit the context.
void check_negative_prompt(std::size_t length, std::int64_t max_new_tokens, std::int64_t n_positions) {
  if (static_cast<std::int64_t>(length) + max_new_tokens > n_positions + 1)
    fail<ArgumentError>("generate", "negative_prompt_ids holds ", length, " tokens, which with ",
                        max_new_tokens, " new ones do not fit the context: n_positions = ", n_positions);
}

}  // namespace

Session::Session(const Model& model, Settings settings, std::vector<std::vector<TokenId>> prompts)
    : model_(&model), settings_(std::move(settings)), sampler_(make_sampler(settings_)) {
  const Gpt2Config& config = model.config();
  const auto per_prompt = static_cast<std::size_t>(settings_.options.num_return_sequences.value_or(1));
  for (std::size_t prompt = 0; prompt < prompts.size(); ++prompt) {
    check_prompt(prompts[prompt], config);
    for (std::size_t r = 0; r < per_prompt; ++r) add_sequence(prompts[prompt], prompt, r);
  }
}

void Session::add_sequence(const std::vector<TokenId>& prompt, std::size_t prompt_index, std::size_t number) {
  const GenerateOptions& options = settings_.options;
  const std::int64_t n_positions = model_->config().n_positions;
  const std::size_t index = sequences_.size();
  Sequence& sequence = sequences_.emplace_back();
  sequence.prompt = prompt_index;
  sequence.leader = index - number;
  if (*options.do_sample) sequence.rng.emplace(options.seed, options.stream + number);
  sequence.max_new_tokens = max_new_tokens(settings_, static_cast<std::int64_t>(prompt.size()), n_positions);
  sequence.tokens.reserve(prompt.size() + static_cast<std::size_t>(sequence.max_new_tokens));
  sequence.tokens = prompt;
  sequence.processor_state = sampler_.initial_state();
  if (is_guided(options)) {
    sequence.unconditional = Unconditional();
    std::vector<TokenId>& tokens = sequence.unconditional->tokens;
    tokens = options.negative_prompt_ids.value_or(std::vector<TokenId>{prompt.back()});
    check_negative_prompt(tokens.size(), sequence.max_new_tokens, n_positions);
    tokens.reserve(tokens.size() + static_cast<std::size_t>(sequence.max_new_tokens));
  }
  sequence.drafter = make_drafter(options, static_cast<std::size_t>(model_->config().vocab_size),
                                  prompt.size() + static_cast<std::size_t>(sequence.max_new_tokens));
  sequence.result.prompt_ids = prompt;
  if (model_->has_tokenizer()) {
    sequence.decoder.emplace(decoder_behind(model_->tokenizer(), prompt));
    sequence.stop_strings.emplace(*options.stop_strings);
    for (const TokenId id : sequence.tokens)
      sequence.stop_strings->push(text_or_nothing([&] { return model_->tokenizer().bytes_of(id); }));
  }
  running_.push_back(index);
}

std::span<const Piece> Session::step() {
  pieces_.clear();
  const DefaultFloatEnvironment environment;
  const ThreadLimit limit(settings_.options.num_threads);
  while (pieces_.empty() && !running_.empty()) {
    if (settings_.options.stop.stop_requested()) {
      cancel_all();
      break;
    }
    try {
      if (unless_stopped([this] { plan(); }))  // guesses may need a network, too
        run();
      else
        cancel_all();
    } catch (...) {
      running_.clear();  // a step that failed half way cannot be taken again
      throw;
    }
  }
  if (settings_.options.on_token) {
    try {
      for (const Piece& piece : pieces_) settings_.options.on_token(piece);
    } catch (...) {
      running_.clear();  // what the callback throws ends the generation
      throw;
    }
  }
  return pieces_;
}

// Sequences in their order, as many as the pass has room for. Early ones are past their prompts when later
// ones begin.
void Session::plan() {
  feeds_.clear();
  batch_.clear();
  std::int64_t room = kTokensPerPass;
  // Guesses need the logits of every token that is fed: not beside a prompt.
  const auto decodes = [this](std::size_t index) {
    return std::cmp_equal(sequences_[index].fed + 1, sequences_[index].tokens.size());
  };
  const bool guesses =
      has_drafts(settings_.options) && std::all_of(running_.begin(), running_.end(), decodes);
  std::int64_t guess_room = kGuessesPerPass;
  for (const std::size_t index : running_) {
    if (room == 0) break;
    if (guesses && plan_guesses(index, guess_room)) continue;
    if (sequences_[index].fed == 0 && sequences_[index].leader != index) continue;  // waits for its leader
    if (sequences_[index].unconditional) plan_feed(index, true, room);
    plan_feed(index, false, room);
  }
}

void Session::plan_feed(std::size_t index, bool unconditional, std::int64_t& room) {
  Sequence& sequence = sequences_[index];
  const std::vector<TokenId>& tokens = unconditional ? sequence.unconditional->tokens : sequence.tokens;
  nn::KvCache& cache = unconditional ? sequence.unconditional->cache : sequence.cache;
  const std::int64_t fed = unconditional ? sequence.unconditional->fed : sequence.fed;
  const auto length = static_cast<std::int64_t>(tokens.size());
  const std::int64_t count = std::min(length - fed, room);
  if (count == 0) return;
  if (fed == 0)
    cache =
        model_->network().make_cache(length + sequence.max_new_tokens - 1, settings_.options.kv_cache_dtype);
  room -= count;
  feeds_.push_back({.sequence = index,
                    .count = count,
                    .completes = fed + count == length,
                    .unconditional = unconditional});
  batch_.push_back(
      {.ids = std::span(tokens).subspan(static_cast<std::size_t>(fed), static_cast<std::size_t>(count)),
       .cache = &cache});
}

bool Session::plan_guesses(std::size_t index, std::int64_t& room) {
  Sequence& sequence = sequences_[index];
  const std::int64_t most =
      std::min(room, sequence.max_new_tokens - static_cast<std::int64_t>(sequence.result.ids.size()) - 1);
  if (most <= 0) return false;
  sequence.proposal.assign(1, sequence.tokens.back());
  sequence.drafter->propose(sequence.tokens, static_cast<std::size_t>(most),
                            sequence.rng ? &*sequence.rng : nullptr, sequence.proposal);
  const std::size_t guesses = sequence.proposal.size() - 1;
  if (guesses == 0) return false;
  room -= static_cast<std::int64_t>(guesses);
  feeds_.push_back({.sequence = index,
                    .count = static_cast<std::int64_t>(guesses) + 1,
                    .guesses = guesses,
                    .completes = true});
  batch_.push_back({.ids = sequence.proposal, .cache = &sequence.cache});
  return true;
}

void Session::run() {
  const auto start = std::chrono::steady_clock::now();
  const bool any_completes =
      std::any_of(feeds_.begin(), feeds_.end(), [](const Feed& feed) { return feed.completes; });
  const bool any_guesses =
      std::any_of(feeds_.begin(), feeds_.end(), [](const Feed& feed) { return feed.guesses > 0; });
  arena_.reset();
  ForwardOutput output;
  const bool computed = unless_stopped([&] {
    output = model_->network().forward(batch_, arena_,
                                       {.logits = any_guesses     ? LogitsRows::kAll
                                                  : any_completes ? LogitsRows::kLast
                                                                  : LogitsRows::kNone,
                                        .stop = settings_.options.stop});
  });
  if (!computed) return cancel_all();
  const auto vocab_size = static_cast<std::size_t>(model_->config().vocab_size);
  std::size_t row = 0;
  for (const Feed& feed : feeds_) {
    Sequence& sequence = sequences_[feed.sequence];
    const std::size_t first_row = row, rows = feed.guesses + 1;  // beside guesses, others feed one token
    row += rows;
    const auto logits = [&] {
      return ConstTensorView(output.logits).span<float>().subspan(first_row * vocab_size, rows * vocab_size);
    };
    if (feed.guesses > 0) {
      choose_guessed(feed, logits());
      continue;
    }
    if (feed.unconditional) {
      sequence.unconditional->fed += feed.count;
      if (feed.completes) take_unconditional(sequence, logits());
      continue;
    }
    sequence.fed += feed.count;
    if (sequence.result.ids.empty()) sequence.result.timing.prefill_tokens += feed.count;
    if (!feed.completes) continue;
    const bool forks = sequence.result.ids.empty() && sequence.leader == feed.sequence;
    if (forks) fork(feed.sequence);
    choose(feed.sequence, logits());
    for (std::size_t i = feed.sequence + 1; forks && follows(i, feed.sequence); ++i) choose(i, logits());
  }
  const double elapsed = seconds_since(start);
  for (std::size_t i = 0; i < feeds_.size(); ++i) {
    if (i > 0 && feeds_[i].sequence == feeds_[i - 1].sequence)
      continue;  // counted with its unconditional one
    GenerateTiming& timing = sequences_[feeds_[i].sequence].result.timing;
    (timing.decode_tokens > 0 ? timing.decode_s : timing.prefill_s) += elapsed;
    const std::size_t leader = feeds_[i].sequence;
    const bool forked = sequences_[leader].leader == leader && sequences_[leader].result.ids.size() == 1;
    for (std::size_t j = leader + 1; forked && follows(j, leader); ++j) sequences_[j].result.timing = timing;
  }
  std::erase_if(running_, [this](std::size_t index) { return sequences_[index].ended; });
}

void Session::choose_guessed(const Feed& feed, std::span<const float> logits) {
  Sequence& sequence = sequences_[feed.sequence];
  const auto vocab_size = static_cast<std::size_t>(model_->config().vocab_size);
  for (std::size_t i = 0;; ++i) {
    ++sequence.fed;
    choose(feed.sequence, logits.subspan(i * vocab_size, vocab_size));
    if (sequence.ended) return;
    if (i == feed.guesses || sequence.tokens.back() != sequence.proposal[i + 1]) break;
  }
  sequence.cache.truncate(sequence.fed);
}

nn::KvCache Session::copy_of(const nn::KvCache& cache) const {
  nn::KvCache copy = model_->network().make_cache(cache.capacity(), cache.dtype());
  copy.copy_from(cache, 0);
  return copy;
}

bool Session::follows(std::size_t index, std::size_t leader) const noexcept {
  return index < sequences_.size() && sequences_[index].leader == leader;
}

void Session::fork(std::size_t leader) {
  const Sequence& from = sequences_[leader];
  for (std::size_t i = leader + 1; follows(i, leader); ++i) {
    Sequence& sequence = sequences_[i];
    sequence.fed = from.fed;
    sequence.cache = copy_of(from.cache);
    if (!from.unconditional) continue;
    sequence.unconditional->fed = from.unconditional->fed;
    sequence.unconditional->cache = copy_of(from.unconditional->cache);
    sequence.unconditional->logits = from.unconditional->logits;
  }
}

void Session::take_unconditional(Sequence& sequence, std::span<const float> logits) {
  require_finite_logits(logits, sequence.unconditional->tokens, model_->network());
  sequence.unconditional->logits.assign(logits.begin(), logits.end());
}

void Session::choose(std::size_t index, std::span<const float> logits) {
  Sequence& sequence = sequences_[index];
  GenerateResult& result = sequence.result;
  const GenerateOptions& options = settings_.options;
  require_finite_logits(logits, sequence.tokens, model_->network());
  DecodingStep step{
      .history = sequence.tokens,
      .prompt_length = result.prompt_ids.size(),
      .max_length = result.prompt_ids.size() + static_cast<std::size_t>(sequence.max_new_tokens),
      .sequence = sequence.prompt,
      .rng = sequence.rng ? &*sequence.rng : nullptr};
  if (sequence.unconditional) step.unconditional_logits = sequence.unconditional->logits;
  const TokenId id = sampler_.next(logits, step, sequence.processor_state);

  Piece& piece = pieces_.emplace_back();
  piece.id = id;
  piece.sequence = index;
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
  if (sequence.unconditional) sequence.unconditional->tokens.push_back(id);

  bool at_stop_string = false;
  if (sequence.decoder) {
    piece.text = text_or_nothing([&] { return sequence.decoder->push(id); });
    at_stop_string =
        sequence.stop_strings->push(text_or_nothing([&] { return model_->tokenizer().bytes_of(id); }));
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
}

std::string Session::finish(Sequence& sequence, FinishReason reason) {
  sequence.result.finish_reason = reason;
  sequence.ended = true;
  sequence.cache = {};
  sequence.drafter.reset();
  sequence.unconditional.reset();
  return sequence.decoder ? sequence.decoder->flush() : std::string();
}

void Session::cancel_all() {
  for (const std::size_t index : running_) {
    Sequence& sequence = sequences_[index];
    if (sequence.ended) continue;
    sequence.result.text += finish(sequence, FinishReason::kCancelled);
  }
  running_.clear();
}

std::vector<GenerateResult> Session::take_results() {
  std::vector<GenerateResult> results;
  results.reserve(sequences_.size());
  for (Sequence& sequence : sequences_) results.push_back(std::move(sequence.result));
  return results;
}

}  // namespace gpt::generate
