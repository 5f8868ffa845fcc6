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

/// The same for the end of a message about a result that is no number: "; parameter wte.weight: element [0, 7] is nan", or nothing.
std::string non_finite_clause(const Gpt2& network, const std::stop_token& stop = {});

/// The first tensor of an adapter, in the order of its visit().
std::optional<NonFiniteParameter> find_non_finite(const nn::Adapter& adapter);

/// The same of one tensor.
std::optional<NonFiniteParameter> find_non_finite(const std::string& name, const Tensor& tensor);

}  // namespace gpt
