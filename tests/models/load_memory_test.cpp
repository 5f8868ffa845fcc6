// How much memory loading takes while it lasts.
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>

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
