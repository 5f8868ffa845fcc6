// From GGUF files to networks.
#pragma once

#include <filesystem>

#include "gpt/io/gguf.h"
#include "gpt/models/model.h"

namespace gpt {

/// Whether Model::load takes the path for a GGUF file: anything but a directory that is called *.gguf or begins as one. Throws
/// IoError where a regular file cannot be read.
bool is_gguf(const std::filesystem::path& path);

/// As Model::load says.
Model load_gguf(const std::filesystem::path& path, const LoadOptions& options);
/// The same from a file that is open already, `options.map` saying how.
Model load_gguf(const GgufFile& file, const LoadOptions& options);

}  // namespace gpt
