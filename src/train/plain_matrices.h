// What a network must be before its own weights are learned.
#pragma once

#include <functional>
#include <string_view>

#include "gpt/models/gpt2.h"

namespace gpt {

/// Brings matrices in the layout of GGUF to that of Hugging Face's files. Throws UnsupportedError, beginning with `where`, naming a matrix that
/// is packed or quantized, unless it is none that is learned (unset: all are).
void make_plain(Gpt2& network, std::string_view where,
                const std::function<bool(std::string_view name)>& learns = {});

}  // namespace gpt
