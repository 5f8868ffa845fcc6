// A checkpoint as its user holds it: network, tokenizer and the files' settings together.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string_view>
#include <utility>

#include "gpt/core/dtype.h"
#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2.h"
#include "gpt/text/tokenizer.h"

namespace gpt {

struct LoadOptions {
  /// Map the weights into memory (nothing is read before it is used); false reads them at once, tensor by tensor. A mapped file
  /// must not be shortened while the model lives: that ends the process by SIGBUS (MappedFile). Where others may do so, read it;
  /// `pack` alone leaves position embeddings, biases and layer norms mapped.
  bool map = true;
  /// Lay the matrices out in panels, in memory of their own, as the kernels stream them (Gpt2::pack): costs about the time of
  /// reading them twice, and pays after some tens of tokens. Quantized matrices, which are in panels in the file, are copied out
  /// of it, too.
  bool pack = false;
  /// Convert the weights to f32, f16 or bf16 (rounding to nearest even); unset keeps the file's types without
  /// a copy. Quantized matrices stay as they are.
  std::optional<DType> dtype = {};
  /// Told of what the checkpoint contains and libgpt does not use: unknown config keys (among them settings of generate(), which
  /// transformers takes from config.json where there is no generation_config.json), tensors. For it, a tied checkpoint's own
  /// head is read once, to see whether it says something else. And of a tokenizer's settings, as load_tokenizer names them.
  std::function<void(std::string_view message)> on_warning = {};
  /// Checked before every tensor.
  std::stop_token stop = {};
};

struct SaveOptions {
  /// Write the weights as f32, f16 or bf16 (rounding to nearest even), and say so in config.json's torch_dtype; unset keeps
  /// the types they have in memory. The model stays as it is, and so do quantized matrices in the file.
  std::optional<DType> dtype = {};
  /// Checked before every tensor of a network; an adapter is written to its end.
  std::stop_token stop = {};
};

class Classifier;
struct HeadReader;
struct HeadWriter;

/// A loaded checkpoint. Const and shareable between threads while generating; copying shares the weights.
class Model {
 public:
  /// Loads a Hugging Face GPT-2 directory: config.json, model.safetensors or its shards, and, when present,
  /// generation_config.json and the tokenizer's files. Or a GGUF file of the architecture gpt2 (any name):
  /// Q8_0 and Q4_0 become int8 and int4 in groups of 32 without loss, other blocks `dtype`, float32 when unset. Its matrices
  /// lie in it as [out, in], where they are used when they are mapped as they are; results are the same.
  /// Throws IoError, FormatError, UnsupportedError, ShapeError, each naming the file and the key or tensor; MemoryError;
  /// CancelledError.
  static Model load(const std::filesystem::path& path, const LoadOptions& options = {});

  /// The same from pytorch_model.bin or its shards (Checkpoint::pickled). A separate function, since most files of that kind
  /// have a safer one beside them.
  static Model load_pytorch(const std::filesystem::path& directory, const LoadOptions& options = {});

  /// A model from parts.
  Model(Gpt2 network, HfConfig config, std::shared_ptr<const Tokenizer> tokenizer = nullptr,
        std::optional<HfConfig> generation_config = std::nullopt);

  /// Writes a directory that transformers (and load) read, creating it if needed; where an adapter is attached to the network,
  /// that alone, as PEFT reads it: merge it first to save the whole. Quantized matrices are written as they
  /// lie in memory, for load alone (transformers refuses their quant_method).
  /// All files are written before the first takes its name (AtomicFiles), so that a full disk leaves an old checkpoint in the
  /// directory as it was; a process killed while they take their names leaves some of either. A directory that a failed save
  /// had made goes again. Symbolic links are replaced, not written through.
  /// The directory is then this model's, and load gives what was saved. So what would say otherwise there is removed, last of
  /// all: the index and the shards of a sharded checkpoint; generation_config.json, when this model has none; and of a
  /// tokenizer's files (Tokenizer::save names them) those that this model's does not have, all when it has no tokenizer. Other
  /// files stay, and with an adapter attached all do but its own.
  /// Throws IoError; ShapeError for a network whose weights were never set; UnsupportedError for another SaveOptions::dtype;
  /// NumericError for weights beyond its range; CancelledError.
  void save(const std::filesystem::path& directory, const SaveOptions& options = {}) const;

  const Gpt2& network() const noexcept { return network_; }
  Gpt2& network() noexcept { return network_; }
  const Gpt2Config& config() const noexcept { return network_.config(); }

  bool has_tokenizer() const noexcept { return tokenizer_ != nullptr; }
  /// Throws UnsupportedError when the checkpoint came without a tokenizer.
  const Tokenizer& tokenizer() const;
  std::shared_ptr<const Tokenizer> shared_tokenizer() const noexcept { return tokenizer_; }
  /// From now on the model's, which save() writes; null for none, and save() removes one that it finds. Where its special tokens
  /// are others, align_special_tokens (gpt/models/special_tokens.h) has the model take them over.
  void set_tokenizer(std::shared_ptr<const Tokenizer> tokenizer) noexcept {
    tokenizer_ = std::move(tokenizer);
  }

  /// The checkpoint's generation_config.json, if it has one.
  const std::optional<HfConfig>& generation_config() const noexcept { return generation_config_; }
  /// From now on the model's; none: save() removes one that it finds. A Generator has read it when it was made.
  void set_generation_config(std::optional<HfConfig> generation_config) noexcept {
    generation_config_ = std::move(generation_config);
  }

 private:
  friend class Classifier;  // whose files are these and a head
  static Model load_files(const std::filesystem::path& directory, const LoadOptions& options, bool pickled,
                          const HeadReader* head = nullptr);
  static Model load_with_head(const std::filesystem::path& directory, const LoadOptions& options,
                              const HeadReader& head);
  void save_files(const std::filesystem::path& directory, const SaveOptions& options,
                  const HeadWriter* head = nullptr) const;
  void save_with_head(const std::filesystem::path& directory, const SaveOptions& options,
                      const HeadWriter& head) const {
    save_files(directory, options, &head);
  }

  Gpt2 network_;
  HfConfig config_;  // as read, so that save() keeps the keys libgpt does not know
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<HfConfig> generation_config_;
};

}  // namespace gpt
