// Judges adapters beside what every trained thing is judged by: README 2.6.
#pragma once

#include <filesystem>
#include <vector>

#include "expected.h"

namespace gpt::golden {

/// Rules for merged.<param>: the matrices of the checkpoint with the LoRA adapter in them. The arguments must outlive them.
std::vector<Rule> merged_tensor_rules(const std::filesystem::path& checkpoint,
                                      const std::filesystem::path& adapter, const ExpectedTensors& expected);

}  // namespace gpt::golden
