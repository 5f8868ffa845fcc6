// The pass that every loss is made of.
#pragma once

#include <cstdint>

#include "gpt/models/gpt2.h"

namespace gpt {

/// For the final hidden states of all rows, as the options of a loss say: LossOptions, ClassificationLossOptions or ObjectiveOptions.
template <class Options>
ForwardOptions hidden_pass(const Options& options, std::int64_t virtual_rows = 0) {
  return {.logits = LogitsRows::kNone,
          .final_hidden = true,
          .virtual_rows = virtual_rows,
          .stop = options.stop,
          .dropout = options.dropout,
          .tape = options.tape,
          .gradient_checkpointing = options.gradient_checkpointing,
          .activations = options.activations,
          .embedding_offset = options.embedding_offset};
}

}  // namespace gpt
