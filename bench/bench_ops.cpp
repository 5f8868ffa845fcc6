// The ops at GPT-2 124M's shapes.
#include <algorithm>
#include <memory>
#include <utility>

#include "bench/support/network.h"
#include "bench/support/random.h"
#include "bench/support/runner.h"
#include "bench/support/weights.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/nn/kv_cache.h"
#include "gpt/ops/activation.h"
#include "gpt/ops/attention.h"
#include "gpt/ops/isa.h"
#include "gpt/ops/layer_norm.h"
#include "gpt/ops/linear.h"
#include "gpt/ops/softmax.h"
#include "gpt/ops/weight.h"

namespace gpt::bench {
namespace {

// So much is gone through before something is read again: far more than the caches hold.
constexpr double kColdBytes = 256 << 20;

using Weights = std::vector<ops::Weight>;

std::int64_t cold_copies(double bytes) {
  return smoke() ? 2 : std::max<std::int64_t>(1, static_cast<std::int64_t>(kColdBytes / bytes) + 1);
}

void require_isa(const Name& name) {
  if (const std::string& isa = name.value("isa"); isa != ops::instruction_set())
    fail<ArgumentError>(name.text(), "this process uses ", ops::instruction_set(),
                        ": set GPT_FORCE_ISA=", isa);
}

// Copies of a matrix, so that its elements come from memory as they do in a network.
std::shared_ptr<Weights> cold_weights(const std::string& format, std::int64_t k, std::int64_t n) {
  return keep<Weights>(concat("weights ", format, " ", k, " ", n), [&] {
    Weights copies{random_weight(Format(format), k, n, ops::WeightLayout::kInOut)};
    const std::int64_t count = cold_copies(static_cast<double>(copies.front().nbytes()));
    while (static_cast<std::int64_t>(copies.size()) < count) copies.push_back(clone(copies.front()));
    return copies;
  });
}

Work matmul(const Name& name) {
  require_isa(name);
  const std::int64_t m = name.number("M"), n = name.number("N"), k = name.number("K");
  struct State {
    std::shared_ptr<Weights> weights;
    Tensor x, y;
    Arena arena;
    std::size_t next = 0;
  };
  const auto s = std::make_shared<State>();
  s->weights = cold_weights(name.word(), k, n);
  s->x = random_tensor({m, k});
  s->y = Tensor::zeros({m, n});
  Work work;
  work.run = [s] {
    const ops::Weight& w = (*s->weights)[s->next];
    s->next = (s->next + 1) % s->weights->size();
    s->arena.reset();
    ops::linear(s->x, w, {}, s->y, s->arena);
  };
  work.flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  Format(name.word()).count_products(work, m, work.flops);
  work.read_bytes = static_cast<double>(s->weights->front().nbytes());
  work.memory = s->weights->front().values.view().raw();
  work.rate = "gflops";
  work.amount = work.flops * 1e-9;
  return work;
}

// Ops on rows of float32, small enough to lie in a cache as they do in a network.
template <class F>
Work row_op(const Name& name, F&& f) {
  require_isa(name);
  const std::int64_t rows = name.number("R"), columns = name.number("C");
  const auto x = std::make_shared<Tensor>(random_tensor({rows, columns}));
  const auto y = std::make_shared<Tensor>(Tensor::zeros({rows, columns}));
  Work work;
  work.run = [x, y, f] { f(*x, *y); };
  work.cache_bytes = 2.0 * static_cast<double>(x->nbytes());
  work.rate = "gb_per_s";
  work.amount = work.cache_bytes * 1e-9;
  return work;
}

Work layer_norm(const Name& name) {
  const Tensor gamma = random_tensor({name.number("C")}), beta = gamma.clone();
  return row_op(name,
                [gamma, beta](const Tensor& x, Tensor& y) { ops::layer_norm(x, gamma, beta, 1e-5f, y); });
}

Work softmax(const Name& name) {
  return row_op(name, [](const Tensor& x, Tensor& y) { ops::softmax(x, y); });
}

Work activation(const Name& name) {
  const auto f = ops::activation_from_name(name.word());
  if (!f) fail<ArgumentError>(name.text(), "unknown activation ", name.word());
  return row_op(name, [f = *f](const Tensor& x, Tensor& y) { ops::activation(f, x, y); });
}

// One layer's attention of T new tokens to those before them and `past` cached ones. The cache comes from memory.
Work attention(const Name& name) {
  require_isa(name);
  const std::int64_t t = name.number("T"), past = name.number("past", 0);
  const std::int64_t heads = name.number("H"), head_dim = name.number("D");
  const DType dtype = cache_dtype(name.word());
  struct State {
    ops::AttentionShape shape;
    std::vector<nn::KvCache> caches;
    Tensor qkv, y;
    std::size_t next = 0;
  };
  const auto s = std::make_shared<State>();
  s->shape = {heads, head_dim, 0.125f};
  const Gpt2Config one_layer = [&] {
    Gpt2Config c;
    c.n_layer = 1;
    c.n_embd = heads * head_dim;
    c.n_head = heads;
    return c;
  }();
  const double read = kv_bytes(one_layer, past, dtype);
  for (std::int64_t i = past == 0 ? 1 : cold_copies(read); i > 0; --i) {
    s->caches.emplace_back(nn::KvShape{1, heads, head_dim}, past + t, dtype);
    if (past == 0) continue;
    const Tensor before = random_tensor({past, 3 * heads * head_dim});
    Tensor ignored = Tensor::zeros({past, heads * head_dim});
    const ops::AttentionSpan span{0, past, 0, s->caches.back().layer(0)};
    ops::attention(before, {&span, 1}, s->shape, ignored);
  }
  s->qkv = random_tensor({t, 3 * heads * head_dim});
  s->y = Tensor::zeros({t, heads * head_dim});
  Work work;
  work.run = [s, t, past] {
    nn::KvCache& cache = s->caches[s->next];
    s->next = (s->next + 1) % s->caches.size();
    const ops::AttentionSpan span{0, t, past, cache.layer(0)};
    ops::attention(s->qkv, {&span, 1}, s->shape, s->y);
  };
  work.flops = 2.0 * static_cast<double>(heads * head_dim * t) * static_cast<double>(t + 2 * past);
  work.read_bytes = read;
  work.memory = s->caches.front().pages()[0].get();
  work.rate = "gflops";
  work.amount = work.flops * 1e-9;
  return work;
}

Program program() {
  Program p;
  p.about = R"(bench_ops [OPTION]...

The ops at the shapes of GPT-2 124M. Weights and caches come from memory, not from the processor's caches. The instruction
set is that of GPT_FORCE_ISA, by default the best. What the counters mean is said in bench/README.md.

Example: bench_ops --benchmark_filter='BM_Matmul/f32/M:512/N:2304/K:768/isa:avx2/threads:2')";
  const std::vector<std::string> shape = {"", "M", "N", "K", "isa", "threads"},
                                 rows = {"", "R", "C", "isa", "threads"};
  p.families = {
      {"BM_Matmul", shape, matmul},
      {"BM_LayerNorm", rows, layer_norm},
      {"BM_Softmax", rows, softmax},
      {"BM_Activation", rows, activation},
      {"BM_Attention", {"", "T", "past", "H", "D", "isa", "threads"}, attention},
  };
  for (const int threads : thread_counts()) {
    const std::string end = concat("/isa:", ops::instruction_set(), "/threads:", threads);
    const auto add_matmuls = [&](const std::string& format, std::initializer_list<int> rows_of_x) {
      for (const auto& [n, k] : {std::pair{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}, {50257, 768}})
        for (const int m : rows_of_x)
          p.names.push_back(concat("BM_Matmul/", format, "/M:", m, "/N:", n, "/K:", k, end));
    };
    for (const std::string& format : formats()) add_matmuls(format, {1, 8, 512});
    for (const auto* format : {"f32-inout", "f32-outin"}) add_matmuls(format, {1, 512});
    for (const int r : {1, 512}) {
      p.names.push_back(concat("BM_LayerNorm/f32/R:", r, "/C:768", end));
      p.names.push_back(concat("BM_Activation/gelu_new/R:", r, "/C:3072", end));
    }
    p.names.push_back(concat("BM_Softmax/f32/R:1/C:50257", end));
    for (const auto& [t, past] : {std::pair{512, 0}, {1, 512}, {1, 896}})
      for (const auto* cache : {"f32", "f16", "bf16", "int8"})
        p.names.push_back(concat("BM_Attention/", cache, "/T:", t, "/past:", past, "/H:12/D:64", end));
  }
  return p;
}

}  // namespace
}  // namespace gpt::bench

int main(int argc, char** argv) { return gpt::bench::run(argc, argv, gpt::bench::program); }
