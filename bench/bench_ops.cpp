// The ops at GPT-2 124M's shapes. Names say shape, weight type, instruction set and threads; times are
// wall-clock.
#include <benchmark/benchmark.h>

#include <string>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/core/rng.h"
#include "gpt/ops/isa.h"
#include "gpt/ops/layer_norm.h"
#include "gpt/ops/linear.h"

namespace {

using gpt::DType;
using gpt::Shape;
using gpt::Tensor;

Tensor random_tensor(const Shape& shape, DType dtype = DType::f32) {
  Tensor t = Tensor::empty(shape);
  const gpt::CounterRng rng(1);
  std::uint64_t i = 0;
  for (float& v : t.span<float>()) v = static_cast<float>(rng.uniform(i++)) - 0.5f;
  return t.to(dtype);
}

std::string suffix(int threads) {
  return gpt::concat("/isa:", gpt::ops::instruction_set(), "/threads:", threads);
}

void matmul(benchmark::State& state, Shape mnk, DType dtype, gpt::ops::WeightLayout layout, int threads) {
  const std::int64_t m = mnk[0], n = mnk[1], k = mnk[2];
  const Tensor x = random_tensor({m, k});
  gpt::ops::Weight weight{.in = k, .out = n, .layout = layout};
  weight.values = random_tensor(weight.file_shape(), dtype);
  weight = gpt::ops::pack(weight);
  gpt::Arena arena;
  Tensor y = Tensor::empty({m, n});
  const gpt::ThreadLimit limit(threads);
  for (auto _ : state) {
    arena.reset();
    gpt::ops::linear(x, weight, {}, y, arena);
  }
  const double flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  state.counters["gflops"] = benchmark::Counter(flops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void layer_norm(benchmark::State& state, std::int64_t rows, std::int64_t columns, int threads) {
  const Tensor x = random_tensor({rows, columns}), gamma = random_tensor({columns}),
               beta = random_tensor({columns});
  Tensor y = Tensor::empty(x.shape());
  const gpt::ThreadLimit limit(threads);
  for (auto _ : state) gpt::ops::layer_norm(x, gamma, beta, 1e-5f, y);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(2 * x.nbytes()));
}

void register_all(int threads) {
  struct Weight {
    std::int64_t n, k;
    gpt::ops::WeightLayout layout;
  };
  using enum gpt::ops::WeightLayout;
  for (const Weight& w : {Weight{2304, 768, kInOut},
                          {768, 768, kInOut},
                          {3072, 768, kInOut},
                          {768, 3072, kInOut},
                          {50257, 768, kOutIn}})
    for (const std::int64_t m : {1, 8, 512})
      for (const auto& [dtype, name] :
           {std::pair{DType::f32, "f32"}, {DType::bf16, "bf16"}, {DType::f16, "f16"}})
        benchmark::RegisterBenchmark(
            gpt::concat("BM_Matmul/", name, "/M:", m, "/N:", w.n, "/K:", w.k, suffix(threads)).c_str(),
            matmul, Shape{m, w.n, w.k}, dtype, w.layout, threads)
            ->UseRealTime();
  for (const std::int64_t rows : {1, 512})
    benchmark::RegisterBenchmark(gpt::concat("BM_LayerNorm/f32/R:", rows, "/C:768", suffix(threads)).c_str(),
                                 layer_norm, rows, std::int64_t{768}, threads)
        ->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  register_all(1);
  if (gpt::num_threads() > 1) register_all(gpt::num_threads());
  benchmark::RunSpecifiedBenchmarks();
}
