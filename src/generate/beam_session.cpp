#include "generate/beam_session.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <utility>

#include "core/float_environment.h"
#include "generate/log_probs.h"
#include "generate/non_finite.h"
#include "generate/session_support.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/text/stream_decoder.h"

namespace gpt::generate {
namespace {

std::size_t common_prefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  const std::size_t most = std::min(a.size(), b.size());
  std::size_t same = 0;
  while (same < most && a[same] == b[same]) ++same;
  return same;
}

BeamSearch::Options search_options(const GenerateOptions& options, std::int64_t max_new_tokens) {
  BeamSearch::Options search;
  search.num_beams = static_cast<std::size_t>(*options.num_beams / options.num_beam_groups.value_or(1));
  search.length_penalty = options.length_penalty.value_or(search.length_penalty);
  search.early_stopping = options.early_stopping.value_or(search.early_stopping);
  search.max_new_tokens = static_cast<std::size_t>(max_new_tokens);
  search.eos_token_id = *options.eos_token_id;
  return search;
}

}  // namespace

BeamSession::BeamSession(const Model& model, Settings settings, std::vector<std::vector<TokenId>> prompts)
    : model_(&model),
      settings_(std::move(settings)),
      rng_(settings_.options.seed, settings_.options.stream),
      prompts_(std::move(prompts)) {
  const Gpt2Config& config = model.config();
  for (const std::vector<TokenId>& prompt : prompts_) {
    check_prompt(prompt, config);
    max_new_tokens_.push_back(
        max_new_tokens(settings_, static_cast<std::int64_t>(prompt.size()), room_of(model, settings_)));
  }
}

std::vector<GenerateResult> BeamSession::run() {
  const DefaultFloatEnvironment environment;
  const ThreadLimit limit(settings_.options.num_threads);
  std::vector<GenerateResult> results;
  for (std::size_t i = 0; i < prompts_.size(); ++i) search(i, results);
  return results;
}

void BeamSession::search(std::size_t index, std::vector<GenerateResult>& results) {
  Work work;
  work.index = index;
  work.prompt = prompts_[index];
  work.max_new_tokens = max_new_tokens_[index];
  const BeamSearch at_prompt(search_options(settings_.options, work.max_new_tokens), work.prompt);
  for (std::int64_t i = 0; i < settings_.options.num_beam_groups.value_or(1); ++i)
    work.groups.push_back({.search = at_prompt, .other = at_prompt, .caches = {}});
  FinishReason reason = FinishReason::kLength;
  auto start = std::chrono::steady_clock::now();
  bool computed = unless_stopped([&] { prefill(work); }) && choose(work, true);
  work.timing.prefill_s = seconds_since(start);
  start = std::chrono::steady_clock::now();
  const auto done = [](const Group& group) { return group.search.done(); };
  while (computed && !std::all_of(work.groups.begin(), work.groups.end(), done)) {
    computed = unless_stopped([&] { feed(work); }) && choose(work, false);
    if (computed) ++work.timing.decode_tokens;
  }
  work.timing.decode_s = seconds_since(start);
  if (!computed) reason = FinishReason::kCancelled;
  std::vector<BeamSearch::Hypothesis> hypotheses;
  for (Group& group : work.groups)
    for (BeamSearch::Hypothesis& hypothesis : group.search.finish(reason))
      hypotheses.push_back(std::move(hypothesis));
  if (hypotheses.empty() && reason != FinishReason::kCancelled)
    fail<NumericError>("generate",
                       "the logits processors leave no token to "
                       "any beam, expected at least one");
  std::stable_sort(hypotheses.begin(), hypotheses.end(),
                   [](const auto& a, const auto& b) { return a.score > b.score; });
  const auto wanted = static_cast<std::size_t>(settings_.options.num_return_sequences.value_or(1));
  if (settings_.options.grammar && hypotheses.size() < wanted && reason != FinishReason::kCancelled)
    fail<ArgumentError>("generate", "num_return_sequences is ", wanted, ", and the beams found ",
                        hypotheses.size(), " texts of grammar: expected no more than that");
  // Where a stop or the processors left fewer, the results behind them have no new tokens.
  hypotheses.resize(wanted, {{work.prompt.begin(), work.prompt.end()}, 0.0, reason});
  for (BeamSearch::Hypothesis& hypothesis : hypotheses)
    results.push_back(to_result(work, std::move(hypothesis)));
}

void BeamSession::prefill(Work& work) {
  const auto length = static_cast<std::int64_t>(work.prompt.size());
  work.prompt_cache = model_->network().make_cache(
      length + work.max_new_tokens - 1, settings_.options.kv_cache_dtype, settings_.options.adapter.get());
  for (std::int64_t fed = 0; fed < length;) {
    const std::int64_t count = std::min(length - fed, kTokensPerPass);
    const Chunk chunk{
        .ids = work.prompt.subspan(static_cast<std::size_t>(fed), static_cast<std::size_t>(count)),
        .cache = &work.prompt_cache,
        .adapter = settings_.options.adapter.get()};
    fed += count;
    arena_.reset();
    logits_ = model_->network()
                  .forward(std::span(&chunk, 1), arena_,
                           {.logits = fed == length ? LogitsRows::kLast : LogitsRows::kNone,
                            .stop = settings_.options.stop})
                  .logits;
    work.timing.prefill_tokens = fed;
  }
}

void BeamSession::feed(Work& work) {
  std::vector<Chunk> batch;
  for (Group& group : work.groups) {
    if (group.search.done()) continue;
    hand_on(work, group);
    const auto beams = group.search.beams();
    for (std::size_t b = 0; b < beams.size(); ++b)
      batch.push_back({.ids = std::span(beams[b].tokens).last(1),
                       .cache = &group.caches[b],
                       .adapter = settings_.options.adapter.get()});
  }
  arena_.reset();
  logits_ = model_->network()
                .forward(batch, arena_, {.logits = LogitsRows::kLast, .stop = settings_.options.stop})
                .logits;
}

bool BeamSession::choose(Work& work, bool first) {
  const std::stop_token& stop = settings_.options.stop;
  const auto vocab_size = static_cast<std::size_t>(model_->config().vocab_size);
  const auto rows = logits_.span<float>();
  std::size_t row = 0;
  work.chosen.clear();
  for (Group& group : work.groups) {
    if (group.search.done()) {  // as transformers, which pads a group that has ended
      const std::vector<TokenId>& eos = *settings_.options.eos_token_id;
      if (!eos.empty()) work.chosen.insert(work.chosen.end(), group.search.options().num_beams, eos.front());
      continue;
    }
    const auto beams = group.search.beams();
    sums_.resize(beams.size() * vocab_size);
    for (std::size_t b = 0; b < beams.size(); ++b) {
      if (stop.stop_requested()) return false;  // of many beams, a step takes seconds
      const auto sums = std::span(sums_).subspan(b * vocab_size, vocab_size);
      continue_beam(work, beams[b], rows.subspan(first ? 0 : row++ * vocab_size, vocab_size), sums);
    }
    const std::size_t count = group.search.candidates_per_step();
    if (*settings_.options.do_sample) {
      const std::uint64_t position = beams[0].tokens.size();
      if (!draw_candidates(sums_, beams.size(), count, rng_, position * count, stop, weights_, candidates_))
        return false;
    } else {
      best_candidates(sums_, beams.size(), count, candidates_);
    }
    group.other = group.search;
    group.other.advance(candidates_);
    for (const BeamSearch::Beam& beam : group.other.beams()) work.chosen.push_back(beam.tokens.back());
  }
  for (Group& group : work.groups)
    if (!group.search.done()) std::swap(group.search, group.other);
  return true;
}

void BeamSession::continue_beam(const Work& work, const BeamSearch::Beam& beam, std::span<const float> logits,
                                std::span<double> sums) {
  require_finite_logits(logits, beam.tokens, model_->network());
  const LogProbs log_probs(logits);
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] = log_probs.of(static_cast<TokenId>(i));
  const DecodingStep step{.history = beam.tokens,
                          .prompt_length = work.prompt.size(),
                          .max_length = work.prompt.size() + static_cast<std::size_t>(work.max_new_tokens),
                          .sequence = work.index,
                          .chosen_by_groups = work.chosen,
                          .rng = *settings_.options.do_sample ? &rng_ : nullptr};
  for (const auto& processor : settings_.processors) processor->process(sums, step, scratch_);
  for (double& sum : sums) sum += beam.sum;
  if (std::any_of(sums.begin(), sums.end(),
                  [](double sum) { return !(sum < std::numeric_limits<double>::infinity()); }))
    fail<NumericError>("generate", "the logits processors left a score that is not a number at position ",
                       beam.tokens.size());
}

void BeamSession::hand_on(Work& work, Group& group) {
  const auto unless_stop = [&stop = settings_.options.stop] {
    if (stop.stop_requested()) fail<CancelledError>("generate", "the search was cancelled");
  };
  const auto beams = group.search.beams(), before = group.other.beams();
  std::vector<nn::KvCache> caches(beams.size());
  if (group.caches.empty()) {  // behind the prompt: one set of rows for all
    for (nn::KvCache& cache : caches) {
      unless_stop();
      cache = model_->network().make_cache(work.prompt_cache.capacity(), work.prompt_cache.dtype(),
                                           settings_.options.adapter.get());
      cache.copy_from(work.prompt_cache, 0);
    }
    group.caches = std::move(caches);
    return;
  }
  std::vector<std::optional<std::size_t>> heir(before.size());  // the beam that takes the cache itself
  for (std::size_t b = 0; b < beams.size(); ++b)
    if (auto& first = heir[beams[b].parent]; !first) {
      first = b;
      caches[b] = std::move(group.caches[beams[b].parent]);
    }
  std::size_t spare = 0;  // a beam whose cache nobody took
  for (std::size_t b = 0; b < beams.size(); ++b) {
    unless_stop();
    const std::size_t parent = beams[b].parent;
    if (heir[parent] == b) continue;
    std::size_t same = 0;
    while (spare < before.size() && heir[spare]) ++spare;
    if (spare < before.size()) {
      same = common_prefix(before[spare].tokens, before[parent].tokens);
      caches[b] = std::move(group.caches[spare++]);
    } else {
      caches[b] = model_->network().make_cache(work.prompt_cache.capacity(), work.prompt_cache.dtype(),
                                               settings_.options.adapter.get());
    }
    caches[b].copy_from(caches[*heir[parent]], static_cast<std::int64_t>(same));
  }
  group.caches = std::move(caches);
}

GenerateResult BeamSession::to_result(const Work& work, BeamSearch::Hypothesis hypothesis) {
  GenerateResult result;
  result.prompt_ids.assign(work.prompt.begin(), work.prompt.end());
  result.ids.assign(hypothesis.tokens.begin() + static_cast<std::ptrdiff_t>(work.prompt.size()),
                    hypothesis.tokens.end());
  result.finish_reason = hypothesis.reason;
  result.timing = work.timing;
  if (result.ids.empty()) return result;
  result.score = hypothesis.score;
  if (model_->has_tokenizer()) {
    StreamDecoder decoder = decoder_behind(model_->tokenizer(), result.prompt_ids);
    for (const TokenId id : result.ids) result.text += text_or_nothing([&] { return decoder.push(id); });
    result.text += decoder.flush();
  }
  if (settings_.options.logprobs) add_log_probs(result);
  return result;
}

// Fed again, token by token what it was before: the bits are the same, and no beam has to carry them along.
void BeamSession::add_log_probs(GenerateResult& result) {
  std::vector<TokenId> tokens = result.prompt_ids;
  tokens.insert(tokens.end(), result.ids.begin(), result.ids.end() - 1);
  const auto vocab_size = static_cast<std::size_t>(model_->config().vocab_size);
  constexpr std::size_t kRowsPerPass = 32;  // logits of all of them are held at once
  const std::size_t prompt = result.prompt_ids.size();
  nn::KvCache cache =
      model_->network().make_cache(static_cast<std::int64_t>(tokens.size()), settings_.options.kv_cache_dtype,
                                   settings_.options.adapter.get());
  for (std::size_t fed = 0; fed < tokens.size();) {
    const bool in_prompt = fed + 1 < prompt;
    const std::size_t end = in_prompt ? std::min(prompt - 1, fed + static_cast<std::size_t>(kTokensPerPass))
                                      : std::min(tokens.size(), fed + kRowsPerPass);
    const Chunk chunk{.ids = std::span(tokens).subspan(fed, end - fed),
                      .cache = &cache,
                      .adapter = settings_.options.adapter.get()};
    arena_.reset();
    const ForwardOutput output = model_->network().forward(
        std::span(&chunk, 1), arena_, {.logits = in_prompt ? LogitsRows::kNone : LogitsRows::kAll});
    for (std::size_t row = 0; !in_prompt && row < end - fed; ++row) {
      const LogProbs log_probs(
          ConstTensorView(output.logits).span<float>().subspan(row * vocab_size, vocab_size));
      result.logprobs.push_back(log_probs.of(result.ids[result.logprobs.size()]));
      result.top_logprobs.push_back(log_probs.top(static_cast<std::size_t>(*settings_.options.logprobs)));
    }
    fed = end;
  }
}

}  // namespace gpt::generate
