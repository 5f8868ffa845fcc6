// Writes a GPT-2 checkpoint with random weights, initialized as Hugging Face does: for measuring load time, memory and speed
// without a download.
#include <charconv>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <string>
#include <string_view>
#include <system_error>

#include "core/normal.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/core/rng.h"
#include "gpt/models/model.h"

namespace {

constexpr std::string_view kUsage =
    "random_checkpoint OUTPUT_DIR [--config config.json] [--dtype float32|float16|bfloat16] [--seed N]";
constexpr std::string_view kHelp = R"(
Writes a GPT-2 checkpoint with random weights and without a tokenizer: of GPT-2's smallest network, 124M parameters, unless
--config has another; in float32 unless --dtype says otherwise; the same for the same seed (1).
)";

std::uint64_t parse_seed(std::string_view text) {
  std::uint64_t seed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size())
    gpt::fail<gpt::ArgumentError>("--seed", text, " is no number below 2^64");
  return seed;
}

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
          values[i] = deviation * static_cast<float>(gpt::normal_here(rng, static_cast<std::uint64_t>(i)));
      });
    } else if (name.ends_with("weight")) {  // a layer norm's scale
      for (float& v : tensor.span<float>()) v = 1.0f;
    }
    tensor = tensor.to(dtype);
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::string output, config_file, dtype_name = "float32";
  std::uint64_t seed = 1;
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string_view argument = argv[i];
      if (argument == "--help") {
        std::cout << "usage: " << kUsage << '\n' << kHelp;
        return 0;
      }
      if (argument == "--config" && i + 1 < argc)
        config_file = argv[++i];
      else if (argument == "--dtype" && i + 1 < argc)
        dtype_name = argv[++i];
      else if (argument == "--seed" && i + 1 < argc)
        seed = parse_seed(argv[++i]);
      else if (output.empty() && !argument.starts_with("--"))
        output = argument;
      else
        gpt::fail<gpt::ArgumentError>(argument, "is no argument, or has no value: ", kUsage);
    }
    if (output.empty()) gpt::fail<gpt::ArgumentError>("OUTPUT_DIR", "is missing: ", kUsage);
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
