// What the methods' merge functions share.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "gpt/peft/merge.h"

namespace gpt::peft {

/// What a merge makes of the parameters that it names. A matrix comes as float32 [in, out], a vector as float32.
struct MergePlan {
  std::map<std::string, std::function<void(Tensor& values)>> matrices = {};
  std::map<std::string, std::function<void(Tensor& values)>> vectors = {};
};

/// Carries it out. Throws ArgumentError where the network is not of that shape, UnsupportedError naming a quantized matrix; the
/// network then is as it was.
Originals merge(Gpt2& network, std::string_view where, const nn::AdaptedShape& shape, const MergePlan& plan);

}  // namespace gpt::peft
