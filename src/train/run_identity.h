// What two runs that shall be the same have in common.
#pragma once

#include <cstdint>

#include "gpt/io/hf_config.h"
#include "gpt/train/trainer.h"

namespace gpt {

inline constexpr std::int64_t kBatchSize = 8;  // per_device_train_batch_size where nothing is said

/// Everything that the bits of a run, and the files of its model, depend on, by name.
HfConfig run_of(const Dataset& data, const Dataset* evaluation, const TrainingArguments& arguments,
                const Objective& objective, const Model& model, std::int64_t steps);

}  // namespace gpt
