// The options of a generation, as the programs take them: transformers' names with dashes, and those of OpenAI's API and of
// llama.cpp for what transformers lacks.
#pragma once

#include <gpt/generate/generate_options.h>
#include <CLI/CLI.hpp>

namespace program {

/// Adds all options that fill `options`, but for those about the machine. Both must outlive the parsing.
void add_generation_options(CLI::App& app, gpt::GenerateOptions& options);

}  // namespace program
