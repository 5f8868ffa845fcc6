// Which logits processors the options ask for.
#pragma once

#include <cstdint>

#include "gpt/generate/generate_options.h"
#include "gpt/generate/logits_processor.h"
#include "gpt/models/model.h"

namespace gpt::generate {

/// Of top_k.
inline constexpr std::int64_t kDefaultTopK = 50;

/// Throws ArgumentError naming the option whose value is outside its range. The processors know most of the ranges.
void check_ranges(const GenerateOptions& options);

/// Whether there is a negative prompt beside the prompt.
bool is_guided(const GenerateOptions& options);

/// The processors that change something, in the order of logits_processors.h. `options` are complete: with do_sample and
/// eos_token_id.
LogitsProcessors make_processors(const GenerateOptions& options, const Model& model);

}  // namespace gpt::generate
