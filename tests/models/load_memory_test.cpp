// How much memory loading takes while it lasts.
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "gpt/core/parallel.h"
#include "gpt/models/gguf.h"
#include "gpt/models/llmc.h"
#include "gpt/models/model.h"
#include "support/isa.h"
#include "support/random_model.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

// The most memory that this process has had in use, in bytes.
std::int64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  std::int64_t kib = -1;
  for (std::string word; status >> word;)
    if (word == "VmHWM:") status >> kib;
  return kib * 1024;
}

// What `work` takes beyond what was in use before, at its peak. It runs in a child process, in one thread.
template <class Work>
std::int64_t peak_memory_of(Work work) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    set_num_threads(1);
    // As in a program that has released large pieces before: malloc takes such from its heap then, and keeps them.
    ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
    ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
    std::ofstream("/proc/self/clear_refs") << "5";  // resets the peak
    const std::int64_t before = peak_memory();
    work();
    const std::int64_t bytes = peak_memory() - before;
    ::_exit(::write(ends[1], &bytes, sizeof bytes) == sizeof bytes ? 0 : 1);
  }
  std::int64_t bytes = -1;
  EXPECT_EQ(::read(ends[0], &bytes, sizeof bytes), ssize_t{sizeof bytes});
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (const int end : ends) ::close(end);
  return bytes;
}

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
