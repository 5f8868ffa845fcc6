// Adapters that become part of the network, and are taken out again.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "gpt/models/gpt2.h"
#include "gpt/ops/weight.h"

namespace gpt {

/// Parameters of a network before an adapter was merged into them, by name. A vector is the values of a Weight without inputs and
/// outputs.
using Originals = std::vector<std::pair<std::string, ops::Weight>>;

/// Takes a merged adapter out of the network again: its parameters have the bits they had.
void restore(Gpt2& network, Originals originals);

}  // namespace gpt
