// Text from a file, made fit for an error message.
#pragma once

#include <string>
#include <string_view>

namespace gpt {

/// The text in double quotes, cut after about 100 bytes, with control characters as \xNN.
std::string quote(std::string_view text);

}  // namespace gpt
