// Adapters that become part of the network, and are taken out again.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "gpt/models/gpt2.h"
#include "gpt/nn/adapter.h"
#include "gpt/ops/weight.h"

namespace gpt {

/// Parameters of a network before an adapter was merged into them, by name. A vector is the values of a Weight without inputs and
/// outputs.
using Originals = std::vector<std::pair<std::string, ops::Weight>>;

/// Makes an adapter of any method that can be part of the network such a part, by its merge function: LoRA and DoRA, AdaLoRA, IA3,
/// BitFit, and stacks of these, part by part with their weights. The network then computes the same without it, to float32
/// rounding. Returns what restore() takes. Throws UnsupportedError for another method and for a quantized matrix, ArgumentError
/// for another network, NumericError naming a parameter of the adapter that is not finite; the network then is as it was.
Originals merge_adapter(const nn::Adapter& adapter, Gpt2& network);

/// Takes a merged adapter out of the network again: its parameters have the bits they had.
void restore(Gpt2& network, Originals originals);

}  // namespace gpt
