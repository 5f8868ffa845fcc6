// How a program that generates loads its model, and what it may use of the machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <gpt/generate/generate_options.h>
#include <gpt/models/model.h>

#include "command_line.h"

namespace program {

struct MachineRequest {
  gpt::LoadOptions load;
  std::optional<bool> pack;
  int threads = 0;
};

/// Adds --dtype, --kv-dtype, --threads, --pack and --no-mmap. `packs` says when the weights are laid out for speed without
/// --pack or --no-pack. All must outlive the parsing.
void add_machine_options(App& app, MachineRequest& request, gpt::GenerateOptions& options,
                         const std::string& packs);

}  // namespace program
