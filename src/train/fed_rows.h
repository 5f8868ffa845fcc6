// The rows of a batch, for objectives that look at what each of them loses.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/token.h"
#include "gpt/models/gpt2.h"
#include "gpt/ops/loss.h"
#include "gpt/train/objectives.h"
#include "models/hidden_pass.h"

namespace gpt {

/// Sequences side by side; each is fed but for its last id.
struct FedRows {
  std::vector<Chunk> chunks;
  std::vector<TokenId> labels;            // of all rows
  std::vector<std::int64_t> begin = {0};  // first row of each sequence, and the end

  /// Throws ArgumentError, for the objective `where`, when it has not two ids or more and as many labels: a sample of data that are
  /// for another objective.
  void add(std::string_view where, std::span<const TokenId> ids, std::span<const TokenId> of) {
    if (ids.size() < 2 || of.size() != ids.size())
      fail<ArgumentError>(
          where, "a sequence has ", ids.size(), " ids and ", of.size(),
          " labels, expected 2 or more, and as many: is it of a data set for another objective?");
    chunks.push_back({ids.first(ids.size() - 1)});
    labels.insert(labels.end(), of.begin() + 1, of.end());
    begin.push_back(static_cast<std::int64_t>(labels.size()));
  }
  std::span<const double> of_sequence(std::span<const double> rows, std::size_t sequence) const {
    return rows.subspan(static_cast<std::size_t>(begin[sequence]),
                        static_cast<std::size_t>(begin[sequence + 1] - begin[sequence]));
  }
};

/// The final hidden states of all rows, on the tape of the options, if there is one.
inline TensorView run_rows(const Gpt2& network, const FedRows& rows, Arena& arena,
                           const ObjectiveOptions& options) {
  return network.forward(rows.chunks, arena, hidden_pass(options)).final_hidden;
}

}  // namespace gpt
