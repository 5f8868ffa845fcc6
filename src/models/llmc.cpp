#include "gpt/models/llmc.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "core/float_environment.h"
#include "core/memory.h"
#include "core/release_pages.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "ops/pack.h"

namespace gpt {
namespace {

using ops::Weight;
using ops::WeightLayout;

constexpr std::size_t kHeader = 256;  // int32 numbers
constexpr std::int32_t kMagic = 20240326, kVersionF32 = 3, kVersionBf16 = 5;
constexpr std::int64_t kVocabMultiple = 128;
enum Place { kMagicAt, kVersionAt, kPositionsAt, kVocabAt, kLayersAt, kHeadsAt, kFeaturesAt, kPaddedVocabAt };

std::int64_t padded_vocab(std::int64_t size) {
  return (size + kVocabMultiple - 1) / kVocabMultiple * kVocabMultiple;
}

/// Where a parameter of a layer lies: after all layers' parameters of the kinds before it.
struct Parameters {
  // In the file's order; {layer} parameters stand in it n_layer times, one after another.
  static constexpr std::array<std::string_view, 16> kNames = {
      "wte.weight",         "wpe.weight",       "ln_1.weight",        "ln_1.bias",
      "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias",
      "ln_2.weight",        "ln_2.bias",        "mlp.c_fc.weight",    "mlp.c_fc.bias",
      "mlp.c_proj.weight",  "mlp.c_proj.bias",  "ln_f.weight",        "ln_f.bias"};

  Parameters(const Gpt2Config& c, std::int64_t padded) : layers(c.n_layer) {
    const std::int64_t d = c.n_embd;
    sizes = {padded * d, c.n_positions * d, d,     d,         3 * d * d, 3 * d, d * d, d, d,
             d,          4 * d * d,         4 * d, 4 * d * d, d,         d,     d};
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      begins[i] = total;
      total += sizes[i] * repeats(i);
    }
  }

  std::int64_t repeats(std::size_t i) const { return i < 2 || i >= 14 ? 1 : layers; }

  /// The index of the first element of a parameter that Gpt2::visit names.
  std::int64_t begin(std::string_view parameter) const {
    std::int64_t layer = 0;
    if (parameter.starts_with("h.")) {
      const std::size_t dot = parameter.find('.', 2);
      for (const char digit : parameter.substr(2, dot - 2)) layer = 10 * layer + (digit - '0');
      parameter.remove_prefix(dot + 1);
    }
    const auto i =
        static_cast<std::size_t>(std::find(kNames.begin(), kNames.end(), parameter) - kNames.begin());
    return begins[i] + layer * sizes[i];
  }

  std::array<std::int64_t, 16> sizes{}, begins{};
  std::int64_t layers, total = 0;
};

struct Header {
  Gpt2Config config;
  std::int64_t padded;
  DType dtype;
};

Header read_header(const MappedFile& file, const std::string& source) {
  std::array<std::int32_t, kHeader> numbers{};
  if (file.bytes().size() < sizeof numbers)
    fail<FormatError>(source, "is no checkpoint of llm.c: it has ", file.bytes().size(), " bytes, expected ",
                      sizeof numbers, " or more");
  std::memcpy(numbers.data(), file.bytes().data(), sizeof numbers);
  if (numbers[kMagicAt] != kMagic)
    fail<FormatError>(source, "is no checkpoint of llm.c: it begins with ", numbers[kMagicAt], ", expected ",
                      kMagic);
  const std::int32_t version = numbers[kVersionAt];
  if (version != kVersionF32 && version != kVersionBf16)
    fail<UnsupportedError>(source, "is of version ", version, ", expected ", kVersionF32, " or ",
                           kVersionBf16);
  Header header{{}, numbers[kPaddedVocabAt], version == kVersionF32 ? DType::f32 : DType::bf16};
  Gpt2Config& c = header.config;
  c.n_positions = numbers[kPositionsAt];
  c.vocab_size = numbers[kVocabAt];
  c.n_layer = numbers[kLayersAt];
  c.n_head = numbers[kHeadsAt];
  c.n_embd = numbers[kFeaturesAt];
  if (c.vocab_size <= 50256) {  // GPT-2's end of text is none of these
    c.bos_token_id = std::nullopt;
    c.eos_token_id.clear();
  }
  try {
    c.validate();
    if (header.padded < c.vocab_size)
      fail<ArgumentError>("llmc", "the padded vocabulary is ", header.padded, ", expected at least ",
                          c.vocab_size);
    // With these, 16 n_layer n_embd^2, and what the rest can be, are far below 2^63.
    if (c.n_embd > 1 << 20)
      fail<ArgumentError>("llmc", "n_embd is ", c.n_embd, ", expected at most ", 1 << 20);
  } catch (const ArgumentError& e) {
    fail<FormatError>(source, e.what());
  }
  return header;
}

class LlmcLoader {
 public:
  LlmcLoader(const MappedFile& file, const Header& header, const LoadOptions& options)
      : file_(file), header_(header), options_(options), places_(header.config, header.padded) {
    const std::uint64_t expected =
        kHeader * 4 + static_cast<std::uint64_t>(places_.total) * size_of(header.dtype);
    if (file.bytes().size() != expected)
      fail<FormatError>(file.path().string(), "has ", file.bytes().size(), " bytes, expected ", expected);
  }

  void operator()(const std::string& parameter, Tensor& tensor, const Shape& expected) {
    const Tensor stored = at(parameter, expected);
    tensor = converted(stored);
    finish(stored, tensor);
  }

  void operator()(const std::string& parameter, Weight& weight) {
    Weight loaded = weight;
    loaded.layout = WeightLayout::kOutIn;
    const Tensor stored = at(parameter, {weight.out, weight.in});
    loaded.values = converted(stored);
    if (options_.pack && Gpt2::packs(parameter)) {
      loaded = ops::pack(loaded, pool_);
    } else if (!options_.map || options_.dtype) {
      loaded.values = ops::unpack(loaded, loaded.file_layout);
      loaded.layout = loaded.file_layout;
    }
    finish(stored, loaded.values);
    weight = std::move(loaded);
  }

 private:
  /// Of a file that was read, no tensor stays in its memory, which goes as fast as the network grows.
  void finish(const Tensor& stored, Tensor& loaded) const {
    if (options_.map) return;
    const std::byte* const begin = stored.view().raw();
    if (std::as_const(loaded).view().raw() == begin) loaded = loaded.clone();
    release_pages(
        file_.bytes().subspan(static_cast<std::size_t>(begin - file_.bytes().data()), stored.nbytes()));
  }

  Tensor at(const std::string& parameter, const Shape& shape) const {
    if (options_.stop.stop_requested()) fail<CancelledError>(file_.path().string(), "loading was stopped");
    const auto place = static_cast<std::size_t>(places_.begin(parameter)) * size_of(header_.dtype);
    return Tensor::borrow(file_.owner(), file_.bytes().data() + kHeader * 4 + place, shape, header_.dtype);
  }
  Tensor converted(const Tensor& tensor) const {
    return options_.dtype ? tensor.to(*options_.dtype) : tensor;
  }

  const MappedFile& file_;
  const Header& header_;
  const LoadOptions& options_;
  Parameters places_;
  PagePool pool_;
};

void refuse_what_computes_otherwise(const Gpt2Config& c, std::string_view target) {
  const auto refuse = [&](std::string_view key, const auto& value, std::string_view expected) {
    fail<UnsupportedError>(target, key, " is ", value, ", but llm.c computes with ", expected);
  };
  if (c.inner_dim() != 4 * c.n_embd) refuse("n_inner", c.inner_dim(), "4 n_embd");
  if (c.activation_function != ops::Activation::kGeluNew &&
      c.activation_function != ops::Activation::kGeluFast)
    refuse("activation_function", ops::name_of(c.activation_function), "gelu_new");
  if (c.layer_norm_epsilon != 1e-5f) refuse("layer_norm_epsilon", c.layer_norm_epsilon, "1e-5");
  if (!c.scale_attn_weights) refuse("scale_attn_weights", false, "true");
  if (c.scale_attn_by_inverse_layer_idx) refuse("scale_attn_by_inverse_layer_idx", true, "false");
  if (!c.pruned_heads.empty()) refuse("pruned_heads", "not empty", "n_head in all layers");
  if (!c.tie_word_embeddings) refuse("tie_word_embeddings", false, "true");
}

/// The bytes of the parameters, in the order of the file.
void write_parameters(const Gpt2& network, DType dtype, std::int64_t padded, const std::stop_token& stop,
                      PendingFile& file) {
  const Gpt2Config& c = network.config();
  struct Source {
    const Tensor* vector;
    const Weight* matrix;
  };
  std::vector<std::pair<std::int64_t, Source>> sources;  // by place in the file
  const Parameters places(c, padded);
  struct Visitor {
    const Parameters& places;
    std::vector<std::pair<std::int64_t, Source>>& sources;
    void operator()(const std::string& name, const Tensor& tensor, const Shape& expected) const {
      if (tensor.shape() != expected)
        fail<ShapeError>("model", "cannot save: ", name, " has shape ", tensor.shape().to_string(),
                         ", expected ", expected.to_string());
      sources.push_back({places.begin(name), {&tensor, nullptr}});
    }
    void operator()(const std::string& name, const Weight& weight) const {
      weight.check(name);
      sources.push_back({places.begin(name), {nullptr, &weight}});
    }
  };
  network.visit(Visitor{places, sources});
  std::sort(sources.begin(), sources.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto write = [&](const Tensor& tensor) { file.write({tensor.view().raw(), tensor.nbytes()}); };
  for (const auto& [place, source] : sources) {
    if (stop.stop_requested()) fail<CancelledError>(file.path().string(), "writing was cancelled");
    if (source.vector != nullptr) {
      write(source.vector->to(dtype));
      continue;
    }
    const Tensor plain = source.matrix->quantized() ? ops::dequantize(*source.matrix, WeightLayout::kOutIn)
                                                    : ops::unpack(*source.matrix, WeightLayout::kOutIn);
    write(std::as_const(plain).to(dtype));
    if (place == 0) write(Tensor::zeros({padded - c.vocab_size, c.n_embd}, dtype));
  }
}

}  // namespace

Model load_llmc(const std::filesystem::path& path, const LoadOptions& options,
                std::shared_ptr<const Tokenizer> tokenizer) {
  return with_memory_errors(path.native(), [&]() -> Model {
    const DefaultFloatEnvironment environment;  // of conversions
    if (options.dtype && !is_weight_dtype(*options.dtype))
      fail<UnsupportedError>("model", "weights cannot be ", name_of(*options.dtype),
                             ", expected float32, float16 or bfloat16");
    const MappedFile file(path, options.map ? MappedFile::Mode::kMap : MappedFile::Mode::kRead);
    const Header header = read_header(file, path.string());
    LlmcLoader loader(file, header,
                      options);  // before memory is spent on as many layers as the header claims
    Gpt2 network(header.config);
    network.visit(loader);
    HfConfig hf;
    header.config.to_hf(hf);
    return {std::move(network), std::move(hf), std::move(tokenizer)};
  });
}

void save_llmc(const Model& model, const std::filesystem::path& path, DType dtype,
               const std::stop_token& stop) {
  with_memory_errors(path.native(), [&] {
    const DefaultFloatEnvironment environment;
    const Gpt2Config& c = model.config();
    if (dtype != DType::f32 && dtype != DType::bf16)
      fail<UnsupportedError>(path.string(), "cannot be ", name_of(dtype), ", expected float32 or bfloat16");
    refuse_what_computes_otherwise(c, path.string());
    const std::int64_t padded = padded_vocab(c.vocab_size);
    std::array<std::int32_t, kHeader> header{};
    const auto set = [&header](Place place, std::int64_t value) {
      header[place] = static_cast<std::int32_t>(value);  // validate() bounds them
    };
    set(kMagicAt, kMagic);
    set(kVersionAt, dtype == DType::f32 ? kVersionF32 : kVersionBf16);
    set(kPositionsAt, c.n_positions);
    set(kVocabAt, c.vocab_size);
    set(kLayersAt, c.n_layer);
    set(kHeadsAt, c.n_head);
    set(kFeaturesAt, c.n_embd);
    set(kPaddedVocabAt, padded);
    AtomicFile file(path);
    file.write(std::as_bytes(std::span(header)));
    write_parameters(model.network(), dtype, padded, stop, file);
    file.commit();
  });
}

}  // namespace gpt
