// GPT-2 as llm.c's checkpoints (gpt2_124M.bin).
// Format: https://github.com/karpathy/llm.c, train_gpt2.py, write_model, and train_gpt2.c, gpt2_build_from_checkpoint.
#pragma once

#include <filesystem>
#include <memory>
#include <stop_token>

#include "gpt/models/model.h"

namespace gpt {

/// Reads a file of version 3 (float32) or 5 (bfloat16): 256 int32 numbers, of which 20240326, version, n_positions, vocab_size,
/// n_layer, n_head, n_embd and the padded vocabulary are set, then the parameters of all layers side by side, matrices as
/// [out, in]. Head and embedding are one matrix, n_inner is 4 n_embd, the rest GPT-2's. Its matrices are used where they are
/// mapped, as a GGUF file's (Model::load). The file has no tokenizer: `tokenizer` is the model's.
/// Throws IoError as MappedFile; FormatError naming the file for another magic number, numbers that no network has, and a file
/// that is not as long as they say; UnsupportedError for other versions; MemoryError; CancelledError.
Model load_llmc(const std::filesystem::path& path, const LoadOptions& options = {},
                std::shared_ptr<const Tokenizer> tokenizer = nullptr);

/// Writes such a file, atomically, as float32 or bfloat16; the vocabulary is padded with zeros to a multiple of 128. The
/// tokenizer is not written. Throws UnsupportedError naming what llm.c would compute otherwise (n_inner, activation, epsilon,
/// scales of the attention, an untied head), or another dtype; IoError as AtomicFile; ShapeError for a network whose weights
/// were never set; CancelledError, for `stop` is checked before every tensor.
void save_llmc(const Model& model, const std::filesystem::path& path, DType dtype = DType::f32,
               const std::stop_token& stop = {});

}  // namespace gpt
