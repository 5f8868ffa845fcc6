#include "bench/support/network.h"

#include "bench/support/random.h"
#include "bench/support/runner.h"
#include "bench/support/weights.h"
#include "gpt/core/error.h"

namespace gpt::bench {
namespace {

// Fills a network; a visitor of all its parameters.
struct Fill {
  const Format& format;
  std::uint64_t seed = 1;

  void operator()(const std::string& name, ops::Weight& weight) {
    // Positions are only ever looked up; they stay as files have them.
    if (Gpt2::packs(name)) {
      weight = random_weight(format, weight.in, weight.out, weight.file_layout, seed++);
    } else {
      weight.values = random_tensor(weight.file_shape(), vector_dtype(), 0.01f);
    }
  }
  void operator()(const std::string& name, Tensor& tensor, const Shape& shape) {
    const float center = name.ends_with("weight") ? 1.0f : 0.0f;  // of a layer norm; the others are biases
    Tensor values = Tensor::empty(shape);
    fill(values.span<float>(), 0.02f, center, seed++);
    tensor = values.to(vector_dtype());
  }
  DType vector_dtype() const { return format.dtype.value_or(DType::f32); }
};

}  // namespace

Gpt2Config config() {
  Gpt2Config c;
  if (!smoke()) return c;
  c.vocab_size = 211;
  c.n_embd = 64;
  c.n_layer = 2;
  c.n_head = 2;
  c.bos_token_id = 210;
  c.eos_token_id = {210};
  return c;
}

std::shared_ptr<const Gpt2> random_network(const std::string& format) {
  return keep<Gpt2>("network " + format, [&] {
    const Format parsed(format);
    Gpt2 network(config());
    network.visit(Fill{parsed});
    return network;
  });
}

double matrix_ops(const Gpt2Config& c, std::int64_t rows, std::int64_t logits_rows) {
  const auto d = static_cast<double>(c.n_embd), n = static_cast<double>(rows),
             shown = static_cast<double>(logits_rows);
  const double c_attn = 3 * d * d, rest = d * d + 2 * d * static_cast<double>(c.inner_dim());
  const double head = d * static_cast<double>(c.vocab_size);
  return 2 * (static_cast<double>(c.n_layer - 1) * n * (c_attn + rest) + n * c_attn + shown * (rest + head));
}

double attention_ops(const Gpt2Config& c, std::int64_t past, std::int64_t tokens, std::int64_t logits_rows) {
  // Scores and weighted values: 2 * 2 D for each of the about past + tokens / 2 keys that a token sees.
  const auto layer = [&](std::int64_t before, std::int64_t queries) {
    return 2 * static_cast<double>(c.n_embd * queries) * static_cast<double>(queries + 2 * before);
  };
  return static_cast<double>(c.n_layer - 1) * layer(past, tokens) +
         layer(past + tokens - logits_rows, logits_rows);
}

double weight_bytes(const Gpt2& network) {
  struct Count {
    double& bytes;
    void operator()(const std::string& name, const ops::Weight& weight) const {
      if (Gpt2::packs(name)) bytes += static_cast<double>(weight.nbytes());
    }
    void operator()(const std::string&, const Tensor& tensor, const Shape&) const {
      bytes += static_cast<double>(tensor.nbytes());
    }
  };
  double bytes = 0;
  network.visit(Count{bytes});
  return bytes;
}

DType cache_dtype(const std::string& text) {
  if (text == "int8") return DType::i8;
  const auto dtype = dtype_from_name(text);
  if (!dtype || !is_weight_dtype(*dtype)) fail<ArgumentError>(text, "unknown type of cache");
  return *dtype;
}

double kv_bytes(const Gpt2Config& c, std::int64_t tokens, DType dtype) {
  const auto elements = static_cast<double>(c.n_embd) * static_cast<double>(size_of(dtype));
  const double scales = dtype == DType::i8 ? static_cast<double>(c.n_head) * sizeof(float) : 0;
  return 2 * static_cast<double>(c.n_layer * tokens) * (elements + scales);
}

const void* largest_matrix(const Gpt2& network) {
  const ops::Weight* largest = nullptr;
  network.visit_matrices([&](const std::string&, const ops::Weight& weight) {
    if (largest == nullptr || weight.nbytes() > largest->nbytes()) largest = &weight;
  });
  return largest->values.view().raw();
}

}  // namespace gpt::bench
