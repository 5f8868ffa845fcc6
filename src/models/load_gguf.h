// From GGUF files to networks.
#pragma once

#include <filesystem>

#include "gpt/models/model.h"

namespace gpt {

/// Whether Model::load takes the path for a GGUF file: anything but a directory that is called *.gguf or begins as one. Throws
/// IoError where a regular file cannot be read.
bool is_gguf(const std::filesystem::path& path);

/// As Model::load says.
Model load_gguf(const std::filesystem::path& path, const LoadOptions& options);

}  // namespace gpt
