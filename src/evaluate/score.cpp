#include "gpt/evaluate/score.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "evaluate/batch_tokens.h"
#include "evaluate/ranked.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/models/language_model_loss.h"
#include "models/non_finite.h"

namespace gpt {
namespace {

using evaluate::kBatchTokens;

struct Windows {
  std::int64_t max_length, stride;
};

Windows windows_of(std::string_view where, const Gpt2& network, const ScoreOptions& options) {
  const std::int64_t n_positions = network.max_tokens();
  Windows w{options.max_length, options.stride};
  if (w.max_length == 0) w.max_length = n_positions;
  if (w.max_length < 2 || w.max_length > n_positions)
    fail<ArgumentError>(where, "max_length is ", w.max_length, ", expected 2 to n_positions = ", n_positions);
  if (w.stride == 0) w.stride = w.max_length / 2;
  if (w.stride < 1 || w.stride > w.max_length)
    fail<ArgumentError>(where, "stride is ", w.stride, ", expected 1 to max_length = ", w.max_length);
  return w;
}

void require_tokens(std::string_view where, std::span<const TokenId> ids, const Gpt2& network) {
  if (ids.size() < 2) fail<ArgumentError>(where, "the text has ", ids.size(), " tokens, expected 2 or more");
  for (std::size_t t = 0; t < ids.size(); ++t)
    if (ids[t] < 0 || ids[t] >= network.config().vocab_size)
      fail<ArgumentError>(where, "token id ", ids[t], " at index ", t, " is outside [0, ",
                          network.config().vocab_size, ")");
}

/// A sequence of 2 to n_positions + 1 tokens, of which those from `first_scored` on, at least 1, are scored.
struct Scored {
  std::vector<TokenId> ids;
  std::size_t first_scored;

  std::int64_t fed() const noexcept { return static_cast<std::int64_t>(ids.size()) - 1; }
};

/// Collects sequences, and scores them when there are enough of them.
class Scorer {
 public:
  /// `top` tokens are ranked beside each that is scored.
  Scorer(std::string_view where, const Gpt2& network, const std::stop_token& stop, std::int64_t top = 0)
      : where_(where), network_(network), stop_(stop), top_(static_cast<std::size_t>(top)) {}

  bool is_full_before(const Scored& next) const noexcept {
    return !batch_.empty() && fed_ + next.fed() > kBatchTokens;
  }
  void add(Scored sequence) {
    fed_ += sequence.fed();
    batch_.push_back(std::move(sequence));
  }

  /// Calls sink(sequence of the batch, index of a scored token in it, -log p, top tokens) in order, and empties the batch.
  template <class Sink>
  void run(Sink&& sink) {
    if (batch_.empty()) return;
    std::vector<std::vector<TokenId>> labels;
    std::vector<LabelledSequence> sequences;
    for (const Scored& s : batch_) {
      std::vector<TokenId>& of_sequence = labels.emplace_back(s.ids);
      std::fill_n(of_sequence.begin(), s.first_scored, kIgnoredLabel);
    }
    for (std::size_t i = 0; i < batch_.size(); ++i) sequences.push_back({batch_[i].ids, labels[i]});
    // The sum that the loss returns is not enough: what each row loses is kept on its way.
    std::vector<double> losses(static_cast<std::size_t>(fed_));
    const ops::CrossEntropy cross_entropy;
    std::vector<std::vector<RankedToken>> ranked(losses.size());
    const ops::RowLoss keep = [&](const ops::LossRow& row) {
      const auto index = static_cast<std::size_t>(row.index);
      const auto label = static_cast<double>(row.logits[static_cast<std::size_t>(row.label)]);
      if (top_ > 0) ranked[index] = evaluate::most_probable(row.logits, top_);
      losses[index] = cross_entropy(row);
      for (RankedToken& token : ranked[index])  // which have logits yet; log p = logit - log sum exp
        token.log_prob = token.id == row.label ? -losses[index] : token.log_prob - (label + losses[index]);
      return losses[index];
    };
    arena_.reset();
    language_model_loss(network_, sequences, arena_, {.stop = stop_, .loss = keep});
    std::size_t row = 0;
    for (std::size_t i = 0; i < batch_.size(); ++i)
      for (std::size_t t = 1; t < batch_[i].ids.size(); ++t, ++row) {
        if (t < batch_[i].first_scored) continue;
        require_finite(batch_[i].ids, t, losses[row]);
        sink(i, t, losses[row], std::move(ranked[row]));
      }
    batch_.clear();
    fed_ = 0;
  }

 private:
  void require_finite(const std::vector<TokenId>& ids, std::size_t t, double loss) const {
    if (std::isfinite(loss)) return;
    fail<NumericError>(where_, "the log-probability of token id ", ids[t], " after ", t, " tokens is ", -loss,
                       non_finite_clause(network_, stop_));
  }

  std::string_view where_;
  const Gpt2& network_;
  const std::stop_token& stop_;
  std::size_t top_;
  Arena arena_;
  std::vector<Scored> batch_;
  std::int64_t fed_ = 0;
};

/// Calls sink(-log p, the `top` most probable tokens) of every scored token, in order; returns the number of windows.
template <class Sink>
std::int64_t score_windows(std::string_view where, const Gpt2& network, std::span<const TokenId> ids,
                           const Windows& windows, const ScoreOptions& options, Sink&& sink,
                           std::int64_t top = 0) {
  const auto size = static_cast<std::int64_t>(ids.size());
  Scorer scorer(where, network, options.stop, top);
  std::int64_t count = 0, scored_to = 0;
  const auto run = [&] {
    scorer.run([&sink](std::size_t, std::size_t, double loss, std::vector<RankedToken>&& ranked) {
      sink(loss, std::move(ranked));
    });
    if (options.on_progress) options.on_progress({scored_to, size});
  };
  for (std::int64_t begin = 0; scored_to < size; begin += windows.stride) {
    const std::int64_t end = std::min(begin + windows.max_length, size);
    const auto window = ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    Scored next{{window.begin(), window.end()},
                static_cast<std::size_t>(std::max<std::int64_t>(1, scored_to - begin))};
    if (scorer.is_full_before(next)) run();
    ++count;
    scored_to = end;
    if (window.size() > 1) scorer.add(std::move(next));  // one token alone is not predicted
  }
  run();
  return count;
}

Perplexity perplexity_of(const Gpt2& network, std::span<const TokenId> ids, const ScoreOptions& options) {
  constexpr std::string_view where = "perplexity";
  const Windows windows = windows_of(where, network, options);
  require_tokens(where, ids, network);
  Perplexity result;
  result.tokens = static_cast<std::int64_t>(ids.size());
  result.windows = score_windows(where, network, ids, windows, options, [&result](double loss, auto&&) {
    result.nll += loss;
    ++result.scored;
  });
  return result;
}

std::vector<ScoredToken> scored_tokens(std::string_view where, const Gpt2& network,
                                       std::span<const TokenId> ids, std::int64_t top,
                                       const ScoreOptions& options) {
  if (top < 0 || top > network.config().vocab_size)
    fail<ArgumentError>(where, "top_n is ", top,
                        ", expected 0 to vocab_size = ", network.config().vocab_size);
  const Windows windows = windows_of(where, network, options);
  require_tokens(where, ids, network);
  if (windows.stride == windows.max_length && static_cast<std::int64_t>(ids.size()) > windows.max_length)
    fail<ArgumentError>(where, "stride is ", windows.stride,
                        ", expected less than max_length = ", windows.max_length,
                        " for a log-probability of every token");
  std::vector<ScoredToken> tokens;
  tokens.reserve(ids.size() - 1);
  score_windows(
      where, network, ids, windows, options,
      [&](double loss, std::vector<RankedToken>&& ranked) {
        tokens.push_back({{ids[tokens.size() + 1], -loss}, std::move(ranked)});
      },
      top);
  return tokens;
}

/// The tokens of a pair that fit.
Scored sequence_of(const ScoredContinuation& pair, std::int64_t n_positions) {
  const std::size_t room = static_cast<std::size_t>(n_positions) + 1 - pair.continuation.size();
  const auto context = pair.context.last(std::min(room, pair.context.size()));
  Scored sequence{{context.begin(), context.end()}, context.size()};
  sequence.ids.insert(sequence.ids.end(), pair.continuation.begin(), pair.continuation.end());
  return sequence;
}

std::vector<double> sums_of(const Gpt2& network, std::span<const ScoredContinuation> pairs,
                            const ScoreOptions& options) {
  constexpr std::string_view where = "continuation_log_probs";
  if (options.max_length != 0 || options.stride != 0)
    fail<ArgumentError>(where, "max_length is ", options.max_length, " and stride ", options.stride,
                        ", expected 0: a continuation is scored in one window");
  const std::int64_t n_positions = network.max_tokens();
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    if (pairs[i].context.empty())
      fail<ArgumentError>(where, "the context of pair ", i, " is empty, expected 1 token or more");
    const std::size_t size = pairs[i].continuation.size();
    if (size < 1 || size > static_cast<std::size_t>(n_positions))
      fail<ArgumentError>(where, "the continuation of pair ", i, " has ", size,
                          " tokens, expected 1 to n_positions = ", n_positions);
  }
  std::vector<double> sums(pairs.size());
  Scorer scorer(where, network, options.stop);
  std::size_t first = 0;  // pair of the batch
  const auto run = [&](std::size_t end) {
    scorer.run([&](std::size_t i, std::size_t, double loss, auto&&) { sums[first + i] -= loss; });
    first = end;
    if (options.on_progress)
      options.on_progress({static_cast<std::int64_t>(end), static_cast<std::int64_t>(pairs.size())});
  };
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    Scored next = sequence_of(pairs[i], n_positions);
    if (scorer.is_full_before(next)) run(i);
    scorer.add(std::move(next));
  }
  if (!pairs.empty()) run(pairs.size());
  return sums;
}

/// A call, since the compiler may take arithmetic out of an environment's scope.
[[gnu::noinline]] double quotient(double sum, std::int64_t count) noexcept {
  return sum / static_cast<double>(count);
}

}  // namespace

double Perplexity::mean_nll() const noexcept {
  const DefaultFloatEnvironment environment;
  return quotient(nll, scored);
}

double Perplexity::value() const noexcept {
  const DefaultFloatEnvironment environment;
  return math::exp(quotient(nll, scored));
}

Perplexity perplexity(const Gpt2& network, std::span<const TokenId> ids, const ScoreOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors("perplexity", [&] { return perplexity_of(network, ids, options); });
}

std::vector<double> token_log_probs(const Gpt2& network, std::span<const TokenId> ids,
                                    const ScoreOptions& options) {
  const DefaultFloatEnvironment environment;
  constexpr std::string_view where = "token_log_probs";
  return with_memory_errors(where, [&] {
    std::vector<double> log_probs;
    for (const ScoredToken& scored : scored_tokens(where, network, ids, 0, options))
      log_probs.push_back(scored.token.log_prob);
    return log_probs;
  });
}

std::vector<ScoredToken> score_tokens(const Gpt2& network, std::span<const TokenId> ids, std::int64_t top_n,
                                      const ScoreOptions& options) {
  const DefaultFloatEnvironment environment;
  constexpr std::string_view where = "score_tokens";
  return with_memory_errors(where, [&] { return scored_tokens(where, network, ids, top_n, options); });
}

std::vector<double> continuation_log_probs(const Gpt2& network, std::span<const ScoredContinuation> pairs,
                                           const ScoreOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors("continuation_log_probs", [&] { return sums_of(network, pairs, options); });
}

}  // namespace gpt
