// How the caller's options and the checkpoint's become what a generation runs with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "generate/generation_config.h"
#include "gpt/generate/generate_options.h"
#include "gpt/generate/logits_processor.h"
#include "gpt/models/model.h"

namespace gpt::generate {

/// Everything decided: caller, then checkpoint, then the defaults.
struct Settings {
  GenerateOptions options;  // with a value in do_sample, eos_token_id and stop_strings
  LogitsProcessors processors;
  // Whose the limit of the length is, for messages: " of FILE", " by default", or "" for the caller's.
  std::string length_source;
  // What the caller asks for: a checkpoint's file may ask for more than there is room for, but not the caller.
  std::optional<std::int64_t> asked_min_new_tokens = {};
};

/// Whether the options, complete, ask for a beam search.
bool has_beams(const GenerateOptions& options);

/// Whether they ask for a contrastive search, and among how many tokens.
bool is_contrastive(const GenerateOptions& options);
std::int64_t contrastive_top_k(const GenerateOptions& options);

/// Each option by itself, and those that say the same: what holds for a checkpoint's, too. Throws as GenerateOptions::validate.
void check_values(const GenerateOptions& options);

/// Throws as Generator::check.
Settings resolve(const GenerateOptions& options, const CheckpointDefaults& defaults, const Model& model);

/// Where a sequence's tokens go: n_positions, of which the virtual tokens of its adapter take the first.
struct Room {
  std::int64_t tokens = 0;
  std::int64_t virtual_tokens = 0;

  std::string text() const;  // "n_positions = 32", "n_positions = 32, less 8 virtual tokens"
};
Room room_of(const Model& model, const Settings& settings) noexcept;

/// "1 token", "2 tokens".
std::string counted(std::int64_t count, std::string_view noun);

/// How many tokens may follow a prompt, at least 1. Throws ArgumentError when the context cannot hold the
/// prompt and them, and does not slide, and when the caller's min_new_tokens are more than them.
std::int64_t max_new_tokens(const Settings& settings, std::int64_t prompt_length, const Room& room);

/// How many of a sequence's first tokens a sliding window keeps. Throws ArgumentError when that is all it holds.
std::int64_t kept_tokens(const Settings& settings, std::int64_t prompt_length, const Room& room);

}  // namespace gpt::generate
