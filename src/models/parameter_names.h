// How the parameters of a network are called in a checkpoint.
#pragma once

#include <string>
#include <string_view>

#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"

namespace gpt {

/// Of the base model's tensors in a checkpoint with a head.
inline constexpr std::string_view kBaseModelPrefix = "transformer.";

/// The name a parameter has in the file: with the prefix or without. Throws FormatError where it has both or none.
inline std::string name_in(const Checkpoint& file, const std::string& parameter) {
  const std::string prefixed = concat(kBaseModelPrefix, parameter);
  const bool plain = file.contains(parameter);
  if (plain && file.contains(prefixed))
    fail<FormatError>(file.source(), "holds both ", parameter, " and ", prefixed);
  if (!plain && !file.contains(prefixed))
    fail<FormatError>(file.source(), "tensor ", parameter, " is missing");
  return plain ? parameter : prefixed;
}

}  // namespace gpt
