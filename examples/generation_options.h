// The options of a generation, as the programs take them: transformers' names with dashes, and those of OpenAI's API and of
// llama.cpp for what transformers lacks.
#pragma once

#include <string>

#include <gpt/generate/generate_options.h>

#include "command_line.h"

namespace program {

/// Adds all options that fill `options`, but for those about the machine. Both must outlive the parsing.
void add_generation_options(App& app, gpt::GenerateOptions& options);

/// Those that say how one reply of a conversation is chosen: without beams and other searches, several sequences, speculation,
/// guidance, log-probabilities, and what counts the prompt's tokens or lets them go. `max_new_tokens` says what holds without
/// the option.
void add_reply_options(App& app, gpt::GenerateOptions& options, const std::string& max_new_tokens);

}  // namespace program
