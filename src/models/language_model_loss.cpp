#include "gpt/models/language_model_loss.h"

#include <vector>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "models/hidden_pass.h"

namespace gpt {
namespace {

constexpr std::string_view kWhere = "language_model_loss";

TokenId label_of(const LabelledSequence& s, std::size_t t) noexcept {
  return s.labels.empty() ? s.ids[t] : s.labels[t];
}

LossRows rows_of(const Gpt2& network, std::span<const LabelledSequence> batch, Arena& arena,
                 const LossOptions& options) {
  std::vector<Chunk> chunks;
  LossRows rows{.head = &network.head(), .loss = options.loss, .begin = {0}};
  const std::size_t first = options.first_tokens && network.predicts_first_token() ? 0 : 1;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const LabelledSequence& s = batch[i];
    if (s.ids.size() < 2)
      fail<ArgumentError>(kWhere, "sequence ", i, " has ", s.ids.size(), " tokens, expected 2 or more");
    if (!s.labels.empty() && s.labels.size() != s.ids.size())
      fail<ArgumentError>(kWhere, "sequence ", i, " has ", s.labels.size(), " labels for ", s.ids.size(),
                          " tokens");
    chunks.push_back({s.ids.first(s.ids.size() - 1)});
    for (std::size_t t = first; t < s.ids.size(); ++t) rows.labels.push_back(label_of(s, t));
    rows.begin.push_back(std::ssize(rows.labels));
  }
  rows.hidden = network.forward(chunks, arena, hidden_pass(options, first == 0 ? 1 : 0)).final_hidden;
  return rows;
}

}  // namespace

std::int64_t count_labels(const LabelledSequence& sequence, bool first_token) noexcept {
  std::int64_t count = 0;
  for (std::size_t t = first_token ? 0 : 1; t < sequence.ids.size(); ++t)
    count += label_of(sequence, t) != kIgnoredLabel;
  return count;
}

LossSum language_model_loss(const Gpt2& network, std::span<const LabelledSequence> batch, Arena& arena,
                            const LossOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kWhere, [&] {
    return sum_of_losses(rows_of(network, batch, arena, options), options.tape, options.scale, arena,
                         options.stop, options.per_sequence);
  });
}

LossRows language_model_rows(const Gpt2& network, std::span<const LabelledSequence> batch, Arena& arena,
                             const LossOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kWhere, [&] { return rows_of(network, batch, arena, options); });
}

}  // namespace gpt
