// Writes a GPT-2 checkpoint with random weights, initialized as Hugging Face does: for measuring load time,
// memory and speed without a download.
//   random_checkpoint OUTPUT_DIR [--config config.json] [--dtype float32|float16|bfloat16] [--seed N]
// The default configuration is GPT-2's smallest, 124M parameters.
#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <string>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/core/rng.h"
#include "gpt/models/model.h"

namespace {

float standard_deviation(const gpt::Gpt2Config& config, const std::string& name) {
  const double scale =
      name.ends_with("c_proj.weight") ? std::sqrt(2.0 * static_cast<double>(config.n_layer)) : 1.0;
  return static_cast<float>(static_cast<double>(config.initializer_range) / scale);
}

void initialize(gpt::Gpt2& network, std::uint64_t seed, gpt::DType dtype) {
  std::uint64_t stream = 0;
  network.visit([&](const std::string& name, gpt::Tensor& tensor, const gpt::Shape& shape) {
    tensor = gpt::Tensor::zeros(shape);
    float* values = tensor.data<float>();
    if (shape.rank() == 2) {
      const gpt::CounterRng rng(seed, stream++);
      const float deviation = standard_deviation(network.config(), name);
      gpt::parallel_for(tensor.numel(), 4096, [&](std::int64_t begin, std::int64_t end) noexcept {
        for (std::int64_t i = begin; i < end; ++i)
          values[i] = deviation * static_cast<float>(rng.normal(static_cast<std::uint64_t>(i)));
      });
    } else if (name.ends_with("weight")) {  // a layer norm's scale
      for (float& v : tensor.span<float>()) v = 1.0f;
    }
    tensor = tensor.to(dtype);
  });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Write a GPT-2 checkpoint with random weights"};
  std::string output, config_file, dtype_name = "float32";
  std::uint64_t seed = 1;
  app.add_option("output", output, "directory to write")->required();
  app.add_option("--config", config_file, "config.json to follow (default: GPT-2 124M)");
  app.add_option("--dtype", dtype_name, "float32, float16 or bfloat16");
  app.add_option("--seed", seed, "seed of the weights");
  CLI11_PARSE(app, argc, argv);
  try {
    const gpt::HfConfig file =
        config_file.empty() ? gpt::HfConfig("config.json") : gpt::HfConfig::load(config_file);
    const gpt::Gpt2Config config = config_file.empty() ? gpt::Gpt2Config{} : gpt::Gpt2Config::from_hf(file);
    const auto dtype = gpt::dtype_from_name(dtype_name);
    if (!dtype || !gpt::is_weight_dtype(*dtype))
      gpt::fail<gpt::ArgumentError>("--dtype", "unknown type ", dtype_name);
    gpt::Gpt2 network(config);
    initialize(network, seed, *dtype);
    gpt::Model(std::move(network), file).save(output);
  } catch (const std::exception& e) {
    std::cerr << "error: " << e.what() << '\n';
    return 1;
  }
}
