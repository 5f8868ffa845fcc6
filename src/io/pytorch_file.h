// pytorch_model.bin: the weights of Hugging Face checkpoints before safetensors.
#pragma once

#include <filesystem>

#include "gpt/io/safetensors.h"

namespace gpt {

/// The tensors of a state dict that torch.save wrote (PyTorch 1.6 or later), used where they lie in the file. Nothing of the
/// pickle in it is executed. Throws IoError as MappedFile; FormatError and UnsupportedError naming the file, and the member,
/// global or tensor, for what ZipArchive and read_state_dict refuse, files of older PyTorch, TorchScript archives, big-endian
/// ones, tensors that are not contiguous, and storages that are missing, too small or of an unknown type.
SafetensorsFile open_pytorch_file(const std::filesystem::path& path, MappedFile::Mode mode);

}  // namespace gpt
