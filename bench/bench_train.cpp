// A step of training: forward, backward and AdamW, on a GPT-2 124M with random weights, or on a LoRA adapter of it.
#include <memory>
#include <string>
#include <vector>

#include "bench/support/network.h"
#include "bench/support/random.h"
#include "bench/support/runner.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/models/initialize.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/peft/lora.h"
#include "gpt/train/adamw.h"
#include "gpt/train/parameters.h"

namespace gpt::bench {
namespace {

struct Training {
  Gpt2 network;
  std::shared_ptr<LoraAdapter> adapter;  // what learns, if there is one
  std::vector<std::vector<TokenId>> tokens;
  std::vector<LabelledSequence> batch;
  Parameters parameters;
  AdamW optimizer{parameters, {.weight_decay = 0.1}};
  Tape tape;
  Arena arena;

  DType dtype;

  /// A rank of 0: without an adapter.
  Training(std::int64_t sequences, std::int64_t length, DType weights, std::int64_t rank)
      : network(initialized()),
        adapter(rank > 0 ? std::make_shared<LoraAdapter>(network, LoraConfig{.r = rank}) : nullptr),
        parameters(learned(weights)),
        dtype(weights) {
    for (std::int64_t i = 0; i < sequences; ++i)
      tokens.push_back(
          random_tokens(length + 1, network.config().vocab_size, static_cast<std::uint64_t>(i + 1)));
    for (const auto& ids : tokens) batch.push_back({ids});
    parameters.watch(tape);
  }

  static Gpt2 initialized() {
    Gpt2 network(config());
    initialize(network, 1);
    return network;
  }

  Parameters learned(DType weights) {
    if (adapter == nullptr) return Parameters(network, {}, weights);
    network.attach(adapter);
    return Parameters(*adapter, weights);
  }

  void step() {
    parameters.zero_gradients();
    parameters.lend_gradients(tape);
    arena.reset();
    const auto labels = static_cast<double>(batch.size() * (tokens.front().size() - 1));
    language_model_loss(network, batch, arena, {.tape = &tape, .scale = 1 / labels, .activations = dtype});
    tape.backward();
    optimizer.step(1e-4, clip_factor(parameters.gradient_norm(), 1.0));
  }
};

Work train_step(const Name& name, std::int64_t rank) {
  const auto dtype = dtype_from_name(name.word());
  if (dtype != DType::f32 && dtype != DType::bf16)
    fail<ArgumentError>(name.text(), "training is in f32 or bf16");
  const std::int64_t sequences = name.number("B"), t = name.number("T");
  const auto training = std::make_shared<Training>(sequences, t, *dtype, rank);
  Work work;
  work.run = [training] { training->step(); };
  work.rate = "tok_per_s";
  work.amount = static_cast<double>(sequences * t);
  // A product has two gradients of its own size; beside an adapter, whose own products do not count, those of the weights
  // are not computed.
  const Gpt2Config& c = training->network.config();
  const double matrices = matrix_ops(c, sequences * t, sequences * t),
               attention = static_cast<double>(sequences) * attention_ops(c, 0, t, t);
  work.flops = (rank > 0 ? 2 : 3) * matrices + 3 * attention;
  return work;
}

Work full_step(const Name& name) { return train_step(name, 0); }
Work lora_step(const Name& name) { return train_step(name, name.number("r")); }

Program program() {
  Program p;
  p.about = R"(bench_train [OPTION]...

A step of training on a GPT-2 124M with random weights: forward, backward, AdamW; of all weights, or of a LoRA adapter at
c_attn. What the counters mean is said in
bench/README.md.

Example: bench_train --benchmark_filter='BM_TrainStep/f32/B:4/T:256/threads:2')";
  p.families = {{"BM_TrainStep", {"", "B", "T", "threads"}, full_step},
                {"BM_LoraStep", {"", "r", "B", "T", "threads"}, lora_step}};
  for (const int threads : thread_counts())
    p.names.push_back(concat("BM_LoraStep/f32/r:8/B:4/T:256/threads:", threads));
  for (const int threads : thread_counts())
    for (const auto* dtype : {"f32", "bf16"})
      for (const auto* shape : {"B:4/T:64", "B:1/T:512", "B:4/T:256"})
        p.names.push_back(concat("BM_TrainStep/", dtype, "/", shape, "/threads:", threads));
  return p;
}

}  // namespace
}  // namespace gpt::bench

int main(int argc, char** argv) { return gpt::bench::run(argc, argv, gpt::bench::program); }
