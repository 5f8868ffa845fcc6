#include "models/load_gguf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "core/input_file.h"
#include "core/memory.h"
#include "core/quote.h"
#include "core/release_pages.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/io/gguf.h"
#include "gpt/ops/gguf_blocks.h"
#include "models/gguf_names.h"
#include "models/gguf_tokenizer.h"
#include "ops/pack.h"

namespace gpt {
namespace {

using ops::GgufBlock;
using ops::Weight;
using ops::WeightLayout;

// Keys that are read, and those that say nothing about the results.
constexpr std::string_view kKnownKeys[] = {"gpt2.context_length",
                                           "gpt2.embedding_length",
                                           "gpt2.block_count",
                                           "gpt2.feed_forward_length",
                                           "gpt2.attention.head_count",
                                           "gpt2.attention.head_count_kv",
                                           "gpt2.attention.layer_norm_epsilon",
                                           "gpt2.vocab_size",
                                           "tokenizer.ggml.model",
                                           "tokenizer.ggml.pre",
                                           "tokenizer.ggml.tokens",
                                           "tokenizer.ggml.token_type",
                                           "tokenizer.ggml.merges",
                                           "tokenizer.ggml.scores",
                                           "tokenizer.ggml.bos_token_id",
                                           "tokenizer.ggml.eos_token_id",
                                           "tokenizer.ggml.unknown_token_id",
                                           "tokenizer.ggml.padding_token_id",
                                           "tokenizer.ggml.add_bos_token",
                                           "tokenizer.ggml.add_eos_token"};
constexpr std::string_view kHarmlessPrefixes[] = {"general.", "quantize.", "split."};

constexpr std::string_view kEmbedding = "token_embd.weight", kHead = "output.weight";

std::int64_t require_count(const GgufFile& file, std::string_view key) {
  const auto value = file.get_unsigned(key);
  if (!value) fail<FormatError>(file.source(), key, " is missing");
  return static_cast<std::int64_t>(*value);  // get_unsigned gives less than 2^63
}

void require_gpt2(const GgufFile& file) {
  const auto architecture = file.get_string("general.architecture");
  if (!architecture) fail<FormatError>(file.source(), "general.architecture is missing");
  if (*architecture != "gpt2")
    fail<UnsupportedError>(file.source(), "general.architecture is ", quote(*architecture),
                           ", expected \"gpt2\"");
  if (file.get_unsigned("split.count").value_or(1) > 1)
    fail<UnsupportedError>(file.source(), "is one of several parts (split.count), expected a whole file");
}

/// The head is the embedding's own when there is none, or one of the same bytes: llama.cpp then reads them twice.
bool is_tied(const GgufFile& file) {
  if (!file.contains(kHead)) return true;
  if (file.info(kHead).type != file.info(kEmbedding).type ||
      file.info(kHead).shape != file.info(kEmbedding).shape)
    return false;
  const auto a = file.bytes(kHead), b = file.bytes(kEmbedding);
  return std::memcmp(a.data(), b.data(), a.size()) == 0;
}

Gpt2Config read_config(const GgufFile& file) {
  Gpt2Config c;
  c.n_positions = require_count(file, "gpt2.context_length");
  c.n_embd = require_count(file, "gpt2.embedding_length");
  c.n_layer = require_count(file, "gpt2.block_count");
  c.n_head = require_count(file, "gpt2.attention.head_count");
  c.n_inner = require_count(file, "gpt2.feed_forward_length");
  if (c.n_inner == 0) fail<FormatError>(file.source(), "gpt2.feed_forward_length is 0, expected 1 or more");
  if (c.n_embd <= std::numeric_limits<std::int32_t>::max() && c.n_inner == 4 * c.n_embd) c.n_inner = 0;
  const auto kv_heads = file.get_unsigned("gpt2.attention.head_count_kv");
  if (kv_heads && static_cast<std::int64_t>(*kv_heads) != c.n_head)
    fail<UnsupportedError>(file.source(), "gpt2.attention.head_count_kv is ", *kv_heads,
                           ", expected the head_count, ", c.n_head);
  constexpr std::string_view kEpsilon = "gpt2.attention.layer_norm_epsilon";
  const auto epsilon = file.get_float(kEpsilon);
  if (!epsilon) fail<FormatError>(file.source(), kEpsilon, " is missing");
  if (!(std::fabs(*epsilon) <= static_cast<double>(std::numeric_limits<float>::max())))
    fail<FormatError>(file.source(), kEpsilon, " is ", *epsilon, ", expected a positive number");
  c.layer_norm_epsilon = static_cast<float>(*epsilon);
  const Shape& embedding = file.info(kEmbedding).shape;
  c.vocab_size = embedding[0];
  c.tie_word_embeddings = is_tied(file);
  c.bos_token_id = gguf_token_id(file, "bos");
  c.pad_token_id = gguf_token_id(file, "padding");
  c.eos_token_id.clear();
  if (const auto eos = gguf_token_id(file, "eos")) c.eos_token_id.push_back(*eos);
  try {
    c.validate();
  } catch (const ArgumentError& e) {
    fail<FormatError>(file.source(), e.what());
  }
  return c;
}

std::optional<GgufBlock> block_of(GgufType type) {
  switch (type) {
    case GgufType::kQ8_0: return GgufBlock::kQ8_0;
    case GgufType::kQ4_0: return GgufBlock::kQ4_0;
    case GgufType::kQ4_1: return GgufBlock::kQ4_1;
    case GgufType::kQ5_0: return GgufBlock::kQ5_0;
    case GgufType::kQ5_1: return GgufBlock::kQ5_1;
    case GgufType::kQ4_K: return GgufBlock::kQ4_K;
    case GgufType::kQ5_K: return GgufBlock::kQ5_K;
    case GgufType::kQ6_K: return GgufBlock::kQ6_K;
    default: return std::nullopt;
  }
}

/// Loads tensor after tensor.
class GgufLoader {
 public:
  /// `read`: the memory that the file was read into, unless it is mapped or a caller's. Nothing stays in it, and it goes as
  /// fast as the network grows.
  GgufLoader(const GgufFile& file, const MappedFile* read, const LoadOptions& options)
      : file_(file), read_(read), options_(options) {}

  void operator()(const std::string& parameter, Tensor& tensor, const Shape& expected) {
    const std::string name = begin(parameter, expected);
    const GgufTensorInfo& info = file_.info(name);
    if (!dtype_of_gguf(info.type))
      fail<FormatError>(file_.source(), "tensor ", name, " is ", name_of(info.type),
                        ", expected F32, F16 or BF16");
    tensor = converted(file_.tensor(name));
    finish(name, tensor);
  }

  void operator()(const std::string& parameter, Weight& weight) {
    const std::string name = begin(parameter, {weight.out, weight.in});
    const auto block = block_of(file_.info(name).type);
    const bool copied = block || options_.dtype || !options_.map || options_.pack;
    if (block)
      load_blocks(name, *block, weight);
    else
      set_plain(weight, converted(file_.tensor(name)));
    if (options_.pack && Gpt2::packs(parameter)) weight = ops::pack(weight, pool_);
    if (copied) file_.drop_pages(name);
    finish(name, weight.values);
  }

  /// Of a tied head, the file's own is not used.
  void release(std::string_view name) const {
    if (read_ == nullptr || !file_.contains(name)) return;
    const std::span<const std::byte> bytes = file_.bytes(name);
    release_pages(
        read_->bytes().subspan(static_cast<std::size_t>(bytes.data() - read_->bytes().data()), bytes.size()));
  }

  void warn_of_the_rest(bool tied) const {
    for (const std::string& name : file_.names())
      if (!used_.contains(name) && !(tied && name == kHead))
        warn(concat("tensor ", name, " is not part of the network and has no effect"));
    for (const std::string& key : file_.keys()) {
      const bool known =
          std::find(std::begin(kKnownKeys), std::end(kKnownKeys), key) != std::end(kKnownKeys) ||
          std::any_of(std::begin(kHarmlessPrefixes), std::end(kHarmlessPrefixes),
                      [&](std::string_view prefix) { return key.starts_with(prefix); });
      if (!known) warn(concat("key ", quote(key), " is not known to libgpt and has no effect"));
    }
  }

 private:
  std::string begin(const std::string& parameter, const Shape& expected) {
    if (options_.stop.stop_requested()) fail<CancelledError>(file_.source(), "loading was stopped");
    std::string name = gguf_name_of(parameter);
    if (!file_.contains(name)) fail<FormatError>(file_.source(), "tensor ", name, " is missing");
    const Shape& shape = file_.info(name).shape;
    if (shape != expected)
      fail<ShapeError>(file_.source(), "tensor ", name, " has shape ", shape.to_string(), ", expected ",
                       expected.to_string());
    used_.insert(name);
    return name;
  }

  void finish(const std::string& name, Tensor& tensor) const {
    if (read_ == nullptr) return;
    if (std::as_const(tensor).view().raw() == file_.bytes(name).data()) tensor = tensor.clone();
    release(name);
  }

  Tensor converted(const Tensor& tensor) const {
    return options_.dtype ? tensor.to(*options_.dtype) : tensor;
  }

  /// Rows of inputs, as GGUF has them: used where they are mapped, else laid out as in other checkpoints.
  void set_plain(Weight& weight, Tensor rows) const {
    Weight loaded = weight;
    loaded.layout = WeightLayout::kOutIn;
    loaded.values = std::move(rows);
    if ((!options_.map || options_.dtype) && !options_.pack) {
      loaded.values = ops::unpack(loaded, loaded.file_layout);
      loaded.layout = loaded.file_layout;
    }
    weight = std::move(loaded);
  }

  void load_blocks(const std::string& name, GgufBlock block, Weight& weight) const {
    const std::string what = concat(file_.source(), ": tensor ", name);
    if (block == GgufBlock::kQ8_0 || block == GgufBlock::kQ4_0) {
      Weight loaded = ops::from_gguf(what, block, file_.bytes(name), weight.in, weight.out);
      loaded.file_layout = weight.file_layout;
      weight = std::move(loaded);
    } else {
      set_plain(weight, ops::dequantize_gguf(what, block, file_.bytes(name), weight.in, weight.out,
                                             options_.dtype.value_or(DType::f32)));
    }
  }

  void warn(const std::string& message) const {
    if (options_.on_warning) options_.on_warning(concat("[", file_.source(), "] ", message));
  }

  const GgufFile& file_;
  const MappedFile* read_;
  const LoadOptions& options_;
  PagePool pool_;
  std::set<std::string, std::less<>> used_;
};

Model load(const GgufFile& file, const MappedFile* read, const LoadOptions& options) {
  require_gpt2(file);
  const Gpt2Config config = read_config(file);
  // Before memory is spent on as many layers as the metadata claim.
  static_cast<void>(file.info(gguf_name_of(concat("h.", config.n_layer - 1, ".ln_1.weight"))));
  std::shared_ptr<const Tokenizer> tokenizer = read_gguf_tokenizer(file, options.on_warning);
  if (tokenizer && tokenizer->vocab_size() > config.vocab_size && options.on_warning)
    options.on_warning(concat("[", file.source(), "] the tokenizer has ", tokenizer->vocab_size(),
                              " tokens, the network only ", config.vocab_size));
  Gpt2 network(config);
  GgufLoader loader(file, read, options);
  if (config.tie_word_embeddings) loader.release(kHead);
  network.visit(loader);
  loader.warn_of_the_rest(config.tie_word_embeddings);
  HfConfig hf;
  config.to_hf(hf);
  return {std::move(network), std::move(hf), std::move(tokenizer)};
}

}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return false;
  if (path.extension() == ".gguf") return true;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  const InputFile file(path);
  std::array<char, 4> start{};
  if (file.size() < start.size()) return false;
  file.read(0, std::as_writable_bytes(std::span(start)));
  return std::string_view(start.data(), start.size()) == "GGUF";
}

Model load_gguf(const std::filesystem::path& path, const LoadOptions& options) {
  if (options.map) return load(GgufFile(path), nullptr, options);
  const MappedFile read(path, MappedFile::Mode::kRead);
  return load(GgufFile(read.owner(), read.bytes(), path.string()), &read, options);
}

Model load_gguf(const GgufFile& file, const LoadOptions& options) { return load(file, nullptr, options); }

}  // namespace gpt
