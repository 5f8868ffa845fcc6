#include "network_run.h"

#include <numeric>

#include "gpt/ops/softmax.h"

namespace gpt::golden {

std::int64_t shown_virtual_tokens(const Gpt2& network) {
  return network.predicts_first_token() ? network.virtual_tokens() : 0;
}

BatchRun run_batch(const Gpt2& network, std::span<const TokenId> ids, std::int64_t rows) {
  const std::size_t row_length = ids.size() / static_cast<std::size_t>(rows);
  std::vector<nn::KvCache> caches;
  std::vector<Chunk> batch;
  caches.reserve(static_cast<std::size_t>(rows));  // the chunks point into it
  for (std::size_t b = 0; b < static_cast<std::size_t>(rows); ++b) {
    caches.push_back(network.make_cache());
    batch.push_back({ids.subspan(b * row_length, row_length), &caches.back()});
  }
  BatchRun run;
  run.output = network.forward(
      batch, run.arena,
      {.logits = LogitsRows::kAll, .hidden_states = true, .virtual_rows = shown_virtual_tokens(network)});
  return run;
}

std::vector<double> log_probs(ConstTensorView logits, std::span<const TokenId> ids) {
  std::vector<double> out(ids.size());
  ops::token_log_probs(logits, ids, out);
  return out;
}

LossSum shifted_loss(ConstTensorView logits, std::span<const std::int64_t> labels, std::int64_t rows) {
  constexpr std::int64_t kIgnored = -100;
  const auto n = static_cast<std::size_t>(labels.size());
  const std::size_t row_length = n / static_cast<std::size_t>(rows);
  std::vector<TokenId> targets(n, 0);
  std::vector<bool> counts(n, false);
  for (std::size_t i = 0; i + 1 < n; ++i) {
    if ((i + 1) % row_length == 0 || labels[i + 1] == kIgnored) continue;
    targets[i] = static_cast<TokenId>(labels[i + 1]);
    counts[i] = true;
  }
  const std::vector<double> lp = log_probs(logits, targets);
  LossSum loss;
  for (std::size_t i = 0; i < n; ++i)
    if (counts[i]) {
      loss.sum -= lp[i];
      ++loss.count;
    }
  return loss;
}

LossSum window_loss(const Gpt2& network, std::span<const TokenId> window) {
  const std::size_t n = window.size() - 1;
  nn::KvCache cache = network.make_cache(static_cast<std::int64_t>(n));
  const Chunk chunk{window.first(n), &cache};
  Arena arena;
  const ForwardOutput out = network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kAll});
  const std::vector<double> lp = log_probs(out.logits, window.last(n));
  return {-std::accumulate(lp.begin(), lp.end(), 0.0), static_cast<std::int64_t>(n)};
}

}  // namespace gpt::golden
