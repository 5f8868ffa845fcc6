#include "gpt/evaluate/embed.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/float_environment.h"
#include "core/memory.h"
#include "evaluate/batch_tokens.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "models/non_finite.h"

namespace gpt {
namespace {

constexpr std::string_view kEmbed = "embed";

/// hidden: the `rows` states of one sequence, [rows, d].
void average(const float* hidden, std::int64_t rows, std::int64_t d, float* out) {
  for (std::int64_t c = 0; c < d; ++c) {
    double sum = 0;
    for (std::int64_t r = 0; r < rows; ++r) sum += static_cast<double>(hidden[r * d + c]);
    out[c] = static_cast<float>(sum / static_cast<double>(rows));
  }
}

void require_finite(std::span<const float> vector, std::size_t sequence, const Gpt2& network,
                    const std::stop_token& stop) {
  const auto bad = std::find_if(vector.begin(), vector.end(), [](float v) { return !std::isfinite(v); });
  if (bad == vector.end()) return;
  fail<NumericError>(kEmbed, "element ", bad - vector.begin(), " of the vector of sequence ", sequence,
                     " is ", *bad, non_finite_clause(network, stop));
}

Tensor embed_all(const Gpt2& network, std::span<const std::vector<TokenId>> sequences,
                 const EmbedOptions& options) {
  const std::int64_t d = network.config().n_embd, n_positions = network.max_tokens();
  if (sequences.empty()) fail<ArgumentError>(kEmbed, "there are no sequences");
  for (std::size_t i = 0; i < sequences.size(); ++i)
    if (sequences[i].empty() || sequences[i].size() > static_cast<std::size_t>(n_positions))
      fail<ArgumentError>(kEmbed, "sequence ", i, " has ", sequences[i].size(),
                          " tokens, expected 1 to n_positions = ", n_positions);
  const auto count = static_cast<std::int64_t>(sequences.size());
  Tensor result = Tensor::empty({count, d});
  Arena arena;
  std::vector<Chunk> batch;
  for (std::size_t i = 0; i < sequences.size();) {
    batch.clear();
    std::int64_t rows = 0;
    for (std::size_t j = i; j < sequences.size(); ++j) {
      const auto size = static_cast<std::int64_t>(sequences[j].size());
      if (!batch.empty() && rows + size > evaluate::kBatchTokens) break;
      batch.push_back({sequences[j]});
      rows += size;
    }
    arena.reset();
    const bool is_last = options.pooling == Pooling::kLast;
    const ForwardOutput out = network.forward(batch, arena,
                                              {.logits = LogitsRows::kNone,
                                               .final_hidden = !is_last,
                                               .last_hidden = is_last,
                                               .stop = options.stop});
    const float* hidden = (is_last ? out.last_hidden : out.final_hidden).data<float>();
    for (const Chunk& chunk : batch) {
      const std::int64_t size = is_last ? 1 : static_cast<std::int64_t>(chunk.ids.size());
      float* vector = result.data<float>() + static_cast<std::int64_t>(i) * d;
      if (is_last)
        std::copy_n(hidden, d, vector);
      else
        average(hidden, size, d, vector);
      require_finite({vector, static_cast<std::size_t>(d)}, i, network, options.stop);
      hidden += size * d;
      ++i;
    }
    if (options.on_progress) options.on_progress({static_cast<std::int64_t>(i), count});
  }
  return result;
}

}  // namespace

Tensor embed(const Gpt2& network, std::span<const std::vector<TokenId>> sequences,
             const EmbedOptions& options) {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kEmbed, [&] { return embed_all(network, sequences, options); });
}

}  // namespace gpt
