#include "gpt/models/model.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/directory.h"
#include "core/file_status.h"
#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "models/load_gguf.h"
#include "models/model_head.h"
#include "models/parameter_names.h"
#include "models/quantization_config.h"
#include "ops/pack.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

void warn(const LoadOptions& options, const std::string& message) {
  if (options.on_warning) options.on_warning(message);
}

/// The attention masks that older checkpoints carry: h.N.attn.bias and h.N.attn.masked_bias.
bool is_mask_buffer(std::string_view name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

Tensor load_parameter(const Checkpoint& file, const std::string& name, const Shape& expected,
                      const LoadOptions& options) {
  const TensorInfo& info = file.info(name);
  if (!info.dtype || !is_weight_dtype(*info.dtype))
    fail<FormatError>(file.source(), "tensor ", name, " is ", info.stored_dtype,
                      ", expected F32, F16 or BF16");
  if (info.shape != expected)
    fail<ShapeError>(file.source(), "tensor ", name, " has shape ", info.shape.to_string(), ", expected ",
                     expected.to_string());
  const Tensor tensor = file.tensor(name);
  return options.dtype ? tensor.to(*options.dtype) : tensor;
}

void throw_if_stopped(const Checkpoint& file, const LoadOptions& options) {
  if (options.stop.stop_requested()) fail<CancelledError>(file.source(), "loading was stopped");
}

/// Whether two tensors of equal type and shape hold the same bytes. Of tensors that are mapped, not copied (Checkpoint::tensor), no
/// more than two pieces stay in memory.
bool have_equal_bytes(const Checkpoint& file, const std::string& first, const std::string& second,
                      const LoadOptions& options) {
  constexpr std::size_t kPiece = std::size_t{4} << 20;
  const Tensor a = file.tensor(first), b = file.tensor(second);
  const auto *left = static_cast<const std::byte*>(a.view().raw()),
             *right = static_cast<const std::byte*>(b.view().raw());
  bool equal = true;
  for (std::size_t at = 0, size = file.info(first).nbytes; equal && at < size; at += kPiece) {
    throw_if_stopped(file, options);
    equal = std::memcmp(left + at, right + at, std::min(kPiece, size - at)) == 0;
    for (const std::string& name : {first, second}) file.drop_pages(name);
  }
  return equal;
}

/// transformers ignores a tied checkpoint's own head; so does libgpt, but not silently when it says something
/// else. The two matrices are the largest part of many a file, which is not read for a warning that nobody takes.
void compare_tied_head(const Checkpoint& file, const std::string& head, const LoadOptions& options) {
  if (!options.on_warning) return;
  const std::string wte = name_in(file, "wte.weight");
  const TensorInfo &a = file.info(head), &b = file.info(wte);
  const bool same =
      a.stored_dtype == b.stored_dtype && a.shape == b.shape && have_equal_bytes(file, head, wte, options);
  if (!same)
    warn(options, concat("[", file.source(), "] ", head, " differs from ", wte,
                         " and is not used, because config.json ties them "
                         "(tie_word_embeddings)"));
}

Gpt2 load_network(const Checkpoint& file, const Gpt2Config& config, QuantizedMatrices quantized,
                  const LoadOptions& options, std::string_view head) {
  // Before memory is spent on as many layers as config.json claims.
  name_in(file, concat("h.", config.n_layer - 1, ".ln_1.weight"));
  const auto is_unused_head = [&](std::string_view name) {
    if (name.starts_with(kBaseModelPrefix)) name.remove_prefix(kBaseModelPrefix.size());
    return config.tie_word_embeddings && name == "lm_head.weight";
  };
  for (const std::string& name : file.names())  // before the weights take memory beside it
    if (is_unused_head(name)) compare_tied_head(file, name, options);

  Gpt2 network(config);
  std::set<std::string, std::less<>> used;
  PagePool pool;
  const auto load = [&](const std::string& parameter, Tensor& tensor, const Shape& expected) {
    throw_if_stopped(file, options);
    const std::string name = name_in(file, parameter);
    tensor = load_parameter(file, name, expected, options);
    used.insert(name);
  };
  const auto load_matrix = [&](const std::string& parameter, ops::Weight& weight) {
    const auto format = quantized.find(parameter);
    if (format == quantized.end()) return load(parameter, weight.values, weight.file_shape());
    throw_if_stopped(file, options);
    const std::string name = name_in(file, parameter);
    load_quantized(file, name, format->second, weight);
    used.insert({name, scales_of(name), zero_points_of(name)});
    quantized.erase(format);
  };
  // Packed one after another, so that a matrix as it was in the file and its copy take memory together only once.
  const auto load_packed = [&](const std::string& parameter, ops::Weight& weight) {
    load_matrix(parameter, weight);
    if (!options.pack || !Gpt2::packs(parameter)) return;
    weight = ops::pack(weight, pool);
    const std::string name = name_in(file, parameter);
    for (const std::string& part : {name, scales_of(name), zero_points_of(name)})
      if (file.contains(part)) file.drop_pages(part);
  };
  network.visit(Overloaded{load, load_packed});
  if (!quantized.empty())
    fail<FormatError>(file.source(), "config.json says that ", quantized.begin()->first,
                      " is quantized, but the network has no such matrix");
  for (const std::string& name : file.names()) {
    if (used.contains(name) || is_mask_buffer(name) || is_unused_head(name) || name == head) continue;
    warn(options,
         concat("[", file.source(), "] tensor ", name, " is not part of the network and has no effect"));
  }
  return network;
}

void require_weight_dtype(const std::optional<DType>& asked) {
  if (asked && !is_weight_dtype(*asked))
    fail<UnsupportedError>("model", "weights cannot be ", name_of(*asked),
                           ", expected float32, float16 or bfloat16");
}

std::optional<HfConfig> load_if_present(const std::filesystem::path& path) {
  return is_there(path) ? std::optional(HfConfig::load(path)) : std::nullopt;
}

/// The element type of all parameters that are not quantized, or of the first when they differ.
DType weight_dtype(const Gpt2& network) {
  std::optional<DType> first;
  const auto see = [&first](const std::string&, const Tensor& tensor, const Shape&) {
    if (!first) first = tensor.dtype();
  };
  network.visit(Overloaded{see, [&](const std::string& name, const ops::Weight& weight) {
                             if (!weight.quantized()) see(name, weight.values, {});
                           }});
  return first.value_or(DType::f32);
}

}  // namespace

Model::Model(Gpt2 network, HfConfig config, std::shared_ptr<const Tokenizer> tokenizer,
             std::optional<HfConfig> generation_config)
    : network_(std::move(network)),
      config_(std::move(config)),
      tokenizer_(std::move(tokenizer)),
      generation_config_(std::move(generation_config)) {}

Model Model::load(const std::filesystem::path& path, const LoadOptions& options) {
  return with_memory_errors(path.native(), [&] {
    const DefaultFloatEnvironment environment;  // of conversions
    require_weight_dtype(options.dtype);
    if (is_gguf(path)) return load_gguf(path, options);
    require_directory(path,
                      "a Hugging Face checkpoint's or a GGUF file: gpt-convert makes one of other files");
    return load_files(path, options, false);
  });
}

Model Model::load_pytorch(const std::filesystem::path& directory, const LoadOptions& options) {
  return with_memory_errors(directory.native(), [&] {
    const DefaultFloatEnvironment environment;
    require_weight_dtype(options.dtype);
    return load_files(directory, options, true);
  });
}

Model Model::load_with_head(const std::filesystem::path& directory, const LoadOptions& options,
                            const HeadReader& head) {
  require_weight_dtype(options.dtype);
  return load_files(directory, options, false, &head);
}

Model Model::load_files(const std::filesystem::path& directory, const LoadOptions& options, bool pickled,
                        const HeadReader* head) {
  require_directory(directory, "a Hugging Face checkpoint's");
  HfConfig file = HfConfig::load(directory / "config.json");
  Gpt2Config config = Gpt2Config::from_hf(file, options.on_warning);
  if (head != nullptr) config.tie_word_embeddings = true;  // there is no other head
  const auto mode = options.map ? MappedFile::Mode::kMap : MappedFile::Mode::kRead;
  const Checkpoint weights = pickled ? Checkpoint::pickled(directory, mode) : Checkpoint(directory, mode);
  if (head != nullptr) head->read(file, weights);
  Gpt2 network = load_network(weights, config, read_quantization(file), options,
                              head != nullptr ? head->tensor : std::string_view());
  std::shared_ptr<const Tokenizer> tokenizer;
  if (gpt::has_tokenizer(directory)) {
    tokenizer = load_tokenizer(directory, options.on_warning);
    if (tokenizer->vocab_size() > config.vocab_size)
      warn(options, concat("[", directory.string(), "] the tokenizer has ", tokenizer->vocab_size(),
                           " tokens, the network only vocab_size = ", config.vocab_size));
  }
  return {std::move(network), std::move(file), std::move(tokenizer),
          load_if_present(directory / "generation_config.json")};
}

void Model::save(const std::filesystem::path& directory, const SaveOptions& options) const {
  with_memory_errors(directory.native(), [&] { save_files(directory, options); });
}

void Model::save_files(const std::filesystem::path& directory, const SaveOptions& options,
                       const HeadWriter* head) const {
  if (network_.adapter() != nullptr) return network_.adapter()->save(directory, options.dtype);
  const DefaultFloatEnvironment environment;  // of conversions
  require_weight_dtype(options.dtype);
  std::vector<NamedTensor> tensors;
  std::vector<Tensor> unpacked;  // keeps the elements of matrices that lie otherwise in memory
  QuantizedMatrices quantized;
  // As transformers' GPT2LMHeadModel: everything but the head belongs to its transformer.
  const auto add = [&](const std::string& name, ConstTensorView tensor, std::optional<DType> dtype = {}) {
    tensors.push_back({name.starts_with("lm_head.") ? name : concat(kBaseModelPrefix, name), tensor, dtype});
  };
  const auto add_plain = [&](const std::string& name, const Tensor& tensor, const Shape& expected) {
    if (tensor.shape() != expected)
      fail<ShapeError>("model", "cannot save: ", name, " has shape ", tensor.shape().to_string(),
                       ", expected ", expected.to_string());
    add(name, tensor.view(), options.dtype);
  };
  network_.visit(Overloaded{add_plain, [&](const std::string& name, const ops::Weight& weight) {
                              if (weight.quantized()) {
                                weight.check(name);
                                quantized.emplace(name, weight.quantization());
                                add(name, weight.values.view());
                                add(scales_of(name), weight.scales.view());
                                if (!weight.zero_points.empty())
                                  add(zero_points_of(name), weight.zero_points.view());
                              } else if (weight.layout != weight.file_layout) {
                                unpacked.push_back(ops::unpack(weight, weight.file_layout));
                                add_plain(name, unpacked.back(), weight.file_shape());
                              } else {
                                add_plain(name, weight.values, weight.file_shape());
                              }
                            }});
  if (head != nullptr) tensors.push_back({std::string(head->tensor), head->values, options.dtype});
  HfConfig config = config_;
  network_.config().to_hf(config);
  write_quantization(quantized, config);
  if (head != nullptr) head->describe(config);
  const std::vector<std::string> architecture{"GPT2LMHeadModel"};
  if (!config.has("architectures")) config.set_string_list("architectures", architecture);
  const std::string_view dtype = name_of(options.dtype.value_or(weight_dtype(network_)));
  if (config.has("dtype")) config.set_string("dtype", dtype);
  if (config.has("torch_dtype") || !config.has("dtype")) config.set_string("torch_dtype", dtype);
  OutputDirectory output(directory);
  AtomicFiles files;
  // The first to be moved into place: model.safetensors goes before an index, which is then of no use.
  PendingFile& weights = files.add(directory / "model.safetensors");
  files.add(directory / "config.json").write(config.dump());
  if (generation_config_)
    files.add(directory / "generation_config.json").write(generation_config_->dump());
  else
    files.remove(directory / "generation_config.json");  // of the checkpoint that was there
  // Without a tokenizer: none, and not one that was there.
  add_tokenizer_files(tokenizer_ ? tokenizer_->files() : std::vector<TokenizerFile>(), directory, files);
  for (const std::filesystem::path& stale : sharded_files(directory)) files.remove(stale);
  write_safetensors(weights, tensors, {{"format", "pt"}}, options.stop);
  files.commit();
  output.keep();
}

const Tokenizer& Model::tokenizer() const {
  if (!tokenizer_) fail<UnsupportedError>("model", "the checkpoint has no tokenizer: use token ids");
  return *tokenizer_;
}

}  // namespace gpt
