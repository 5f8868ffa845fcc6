#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/float_environment.h"
#include "core/in_range.h"
#include "core/memory.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "gpt/io/gguf.h"
#include "gpt/models/gguf.h"
#include "gpt/ops/gguf_blocks.h"
#include "models/gguf_names.h"
#include "models/gguf_tokenizer.h"

namespace gpt {
namespace {

using ops::Activation;
using ops::Weight;
using ops::WeightLayout;

struct Kind {
  GgufWeights weights;
  std::string_view name;
  GgufType type;
  std::uint32_t file_type;  // llama.cpp's LLAMA_FTYPE
};
constexpr Kind kKinds[] = {{GgufWeights::kF32, "float32", GgufType::kF32, 0},
                           {GgufWeights::kF16, "float16", GgufType::kF16, 1},
                           {GgufWeights::kBF16, "bfloat16", GgufType::kBF16, 32},
                           {GgufWeights::kQ8_0, "q8_0", GgufType::kQ8_0, 7},
                           {GgufWeights::kQ4_0, "q4_0", GgufType::kQ4_0, 2}};
static_assert([] {
  for (std::size_t i = 0; i < std::size(kKinds); ++i)
    if (static_cast<std::size_t>(kKinds[i].weights) != i) return false;
  return true;
}());

const Kind& kind_of(GgufWeights weights) noexcept { return kKinds[static_cast<std::size_t>(weights)]; }

void refuse_what_runs_wrongly(const Gpt2Config& c, std::string_view target) {
  constexpr std::int64_t kMostLayers = 512;  // LLAMA_MAX_LAYERS
  if (c.activation_function != Activation::kGeluNew && c.activation_function != Activation::kGeluFast)
    fail<UnsupportedError>(target, "activation_function is \"", ops::name_of(c.activation_function),
                           "\", but llama.cpp runs every gpt2 with gelu_new");
  if (!c.scale_attn_weights)
    fail<UnsupportedError>(target, "scale_attn_weights is false, but llama.cpp scales every gpt2's");
  if (c.scale_attn_by_inverse_layer_idx)
    fail<UnsupportedError>(target, "scale_attn_by_inverse_layer_idx is true, which llama.cpp has not");
  if (!c.pruned_heads.empty())
    fail<UnsupportedError>(target,
                           "pruned_heads is not empty, but llama.cpp's gpt2 has as many heads in all layers");
  if (c.n_layer > kMostLayers)
    fail<UnsupportedError>(target, "n_layer is ", c.n_layer, ", more than llama.cpp's ", kMostLayers);
}

/// What the matrix is stored as when nothing is asked for.
GgufWeights kept(const std::string& name, const Weight& weight) {
  switch (weight.format()) {
    case ops::WeightFormat::f32: return GgufWeights::kF32;
    case ops::WeightFormat::f16: return GgufWeights::kF16;
    case ops::WeightFormat::bf16: return GgufWeights::kBF16;
    default:
      return ops::gguf_block_of(name, weight) == ops::GgufBlock::kQ8_0 ? GgufWeights::kQ8_0
                                                                       : GgufWeights::kQ4_0;
  }
}

std::vector<std::byte> bytes_of(ConstTensorView tensor) {
  return {tensor.raw(), tensor.raw() + tensor.nbytes()};
}

bool is_block(const Weight& weight, GgufWeights kind) {
  if (!weight.quantized() || weight.group_size != 32 || !weight.zero_points.empty() ||
      weight.scales.dtype() != DType::f16)
    return false;
  return (weight.format() == ops::WeightFormat::int8) == (kind == GgufWeights::kQ8_0);
}

std::vector<std::byte> matrix_bytes(const std::string& name, const Weight& weight, GgufWeights kind) {
  const DefaultFloatEnvironment environment;
  const bool quantized = kind == GgufWeights::kQ8_0 || kind == GgufWeights::kQ4_0;
  if (quantized && is_block(weight, kind)) return ops::to_gguf(name, weight);
  if (quantized)
    return ops::quantize_gguf(name,
                              kind == GgufWeights::kQ8_0 ? ops::GgufBlock::kQ8_0 : ops::GgufBlock::kQ4_0,
                              ops::dequantize(weight, WeightLayout::kOutIn));
  const Tensor plain = weight.quantized() ? ops::dequantize(weight, WeightLayout::kOutIn)
                                          : ops::unpack(weight, WeightLayout::kOutIn);
  return bytes_of(to_in_range(name, plain, *dtype_of_gguf(kind_of(kind).type)));
}

/// Collects the tensors of a network.
class TensorList {
 public:
  explicit TensorList(const GgufSaveOptions& options) : options_(options) {}

  void operator()(const std::string& name, const Tensor& tensor, const Shape& expected) {
    if (tensor.shape() != expected)
      fail<ShapeError>("model", "cannot save: ", name, " has shape ", tensor.shape().to_string(),
                       ", expected ", expected.to_string());
    add(gguf_name_of(name), GgufType::kF32, expected, [&tensor] { return bytes_of(tensor.to(DType::f32)); });
  }

  void operator()(const std::string& name, const Weight& weight) {
    weight.check(name);
    add_matrix(gguf_name_of(name), name, weight);
  }

  void add_matrix(const std::string& gguf_name, const std::string& name, const Weight& weight) {
    const GgufWeights kind = name == "wpe.weight" ? GgufWeights::kF32
                             : options_.weights   ? *options_.weights
                                                  : kept(name, weight);
    kinds_.push_back(kind);
    const Shape shape{weight.out, weight.in};
    static_cast<void>(
        gguf_tensor_size(name, kind_of(kind).type, shape));  // refuses before anything is written
    add(gguf_name, kind_of(kind).type, shape,
        [name, &weight, kind] { return matrix_bytes(name, weight, kind); });
  }

  const std::vector<GgufTensor>& tensors() const noexcept { return tensors_; }
  /// What most of its kind say: the first matrix', which is the token embedding's.
  GgufWeights kind() const noexcept { return kinds_.front(); }

 private:
  template <class Make>
  void add(std::string name, GgufType type, const Shape& shape, Make make) {
    tensors_.push_back({std::move(name), type, shape, [make, &options = options_] {
                          if (options.stop.stop_requested())
                            fail<CancelledError>("gguf", "saving was stopped");
                          return make();
                        }});
  }

  const GgufSaveOptions& options_;
  std::vector<GgufTensor> tensors_;
  std::vector<GgufWeights> kinds_;
};

void save(const Model& model, const std::filesystem::path& path, const GgufSaveOptions& options) {
  const Gpt2Config& c = model.config();
  const std::string target = path.string();
  refuse_what_runs_wrongly(c, target);
  TensorList list(options);
  model.network().visit(list);
  if (c.tie_word_embeddings && options.write_tied_head)
    list.add_matrix(gguf_name_of("lm_head.weight"), "wte.weight", model.network().head());

  GgufMetadata metadata;
  const auto set = [&metadata](std::string_view key, std::int64_t value) {  // validate() bounds them all
    metadata.set_uint32(concat("gpt2.", key), static_cast<std::uint32_t>(value));
  };
  metadata.set_string("general.architecture", "gpt2");
  metadata.set_uint32("general.file_type", kind_of(list.kind()).file_type);
  metadata.set_uint32("general.quantization_version", 2);
  set("context_length", c.n_positions);
  set("embedding_length", c.n_embd);
  set("block_count", c.n_layer);
  set("feed_forward_length", c.inner_dim());
  set("attention.head_count", c.n_head);
  metadata.set_float32("gpt2.attention.layer_norm_epsilon", c.layer_norm_epsilon);
  if (!model.has_tokenizer()) set("vocab_size", c.vocab_size);
  write_gguf_tokenizer(model, target, metadata);
  AtomicFile file(path);
  write_gguf(file, metadata, list.tensors());
  file.commit();
}

}  // namespace

std::string_view name_of(GgufWeights weights) noexcept { return kind_of(weights).name; }

std::optional<GgufWeights> gguf_weights_from_name(std::string_view name) noexcept {
  for (const Kind& kind : kKinds)
    if (kind.name == name) return kind.weights;
  return std::nullopt;
}

void save_gguf(const Model& model, const std::filesystem::path& path, const GgufSaveOptions& options) {
  with_memory_errors(path.native(), [&] { save(model, path, options); });
}

}  // namespace gpt
