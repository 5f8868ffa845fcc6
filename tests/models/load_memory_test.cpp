// How much memory loading takes while it lasts.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/io/safetensors.h"
#include "gpt/models/gguf.h"
#include "gpt/models/llmc.h"
#include "gpt/models/model.h"
#include "support/isa.h"
#include "support/peak_memory.h"
#include "support/random_model.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::peak_memory_of;

TEST(ModelLoad, HoldsAMatrixTwiceOnlyWhileItIsPacked) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const test::TempDir directory;
  Gpt2Config config = test::tiny_config();
  config.n_embd = 512;
  config.n_layer = 6;
  Model(test::random_network(config, 1), HfConfig()).save(directory.path());
  const auto size = static_cast<std::int64_t>(std::filesystem::file_size(directory / "model.safetensors"));
  for (const bool map : {false, true}) {
    const std::int64_t peak =
        peak_memory_of([&] { Model::load(directory.path(), {.map = map, .pack = true}); });
    EXPECT_GT(peak, size) << map;
    EXPECT_LT(peak, size + size / 4) << map;  // the largest matrix is a twentieth
  }
}

// A mapped checkpoint is not read before it is used: not for a warning that nobody takes, and for one that somebody does only
// a little at a time.
TEST(ModelLoad, KeepsNothingOfATiedHeadInMemory) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const test::TempDir directory;
  Gpt2Config config = test::tiny_config();
  config.n_embd = 512;
  config.n_layer = 1;
  config.vocab_size = 30000;
  HfConfig file;
  config.to_hf(file);
  file.save(directory / "config.json");
  const Gpt2 network = test::random_network(config, 1);
  std::vector<NamedTensor> tensors;
  network.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    tensors.push_back({name, tensor.view()});
    if (name == "wte.weight") tensors.push_back({"lm_head.weight", tensor.view()});
  });
  save_safetensors(directory / "model.safetensors", tensors);
  const auto head = static_cast<std::int64_t>(sizeof(float)) * config.vocab_size * config.n_embd;
  EXPECT_LT(peak_memory_of([&] { Model::load(directory.path()); }), head / 8);
  const LoadOptions listening{.on_warning = [](std::string_view) {}};
  EXPECT_LT(peak_memory_of([&] { Model::load(directory.path(), listening); }), head / 2);
}

// A file that is read is in memory once, as file or as network.
TEST(ModelLoad, ReadsOtherFormatsWithoutHoldingThemTwice) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const test::TempDir directory;
  Gpt2Config config = test::tiny_config();
  config.n_embd = 512;
  config.n_layer = 6;
  config.n_inner = 0;
  config.activation_function = ops::Activation::kGeluNew;
  config.layer_norm_epsilon = 1e-5f;
  const Model model(test::random_network(config, 1), HfConfig());
  save_gguf(model, directory / "m.gguf");
  save_llmc(model, directory / "m.bin", DType::f32);
  for (const bool pack : {false, true})
    for (const char* name : {"m.gguf", "m.bin"}) {
      const std::filesystem::path path = directory / name;
      const auto size = static_cast<std::int64_t>(std::filesystem::file_size(path));
      const LoadOptions options{.map = false, .pack = pack};
      const std::int64_t peak = peak_memory_of([&] {
        const Model loaded =
            name == std::string("m.bin") ? load_llmc(path, options) : Model::load(path, options);
      });
      EXPECT_GT(peak, size) << name << pack;
      EXPECT_LT(peak, size + size / 4) << name << pack;
    }
}

}  // namespace
}  // namespace gpt
