// Weights that are not numbers.
#pragma once

#include <optional>
#include <stop_token>
#include <string>

#include "gpt/models/gpt2.h"

namespace gpt {

struct NonFiniteParameter {
  std::string name;     // of a quantized matrix, that of its scales
  std::string element;  // "[3, 5] is nan", as the checkpoint lays it out
};

/// The first parameter, in the order of Gpt2::visit, and then of its adapter, that is not finite, if there is one. Throws CancelledError
/// when `stop` was requested before one of them.
std::optional<NonFiniteParameter> find_non_finite(const Gpt2& network, const std::stop_token& stop = {});

/// The same of one tensor.
std::optional<NonFiniteParameter> find_non_finite(const std::string& name, const Tensor& tensor);

}  // namespace gpt
