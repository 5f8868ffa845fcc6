// Law 4: once it has run, a decode step allocates nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <new>
#include <string>
#include <typeinfo>

#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/scheduler.h"
#include "gpt/io/gguf.h"
#include "gpt/io/hf_config.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/gguf.h"
#include "gpt/models/model.h"
#include "support/random_model.h"
#include "support/temp_dir.h"
#include "support/torch_file.h"

namespace {

constexpr int kUnlimited = -1, kExhausted = -2;
std::atomic<int> g_allocations{0};
std::atomic<int> g_left{kUnlimited};  // allocations until memory runs out

/// The allocation that meets the limit fails; after it only small ones succeed, such as the message of an error.
bool runs_out(std::size_t size) {
  constexpr std::size_t kSmall = 1024;
  if (g_left == kUnlimited) return false;
  if (g_left == kExhausted) return size > kSmall;
  if (g_left-- > 0) return false;
  g_left = kExhausted;
  return true;
}

}  // namespace

// Every C++ allocation of this program, the library's included.
void* operator new(std::size_t size) {
  ++g_allocations;
  void* p = runs_out(size) ? nullptr : std::malloc(size == 0 ? 1 : size);
  return p != nullptr ? p : throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace gpt {
namespace {

TEST(DecodeStep, AllocatesNothing) {
  const Gpt2 network = test::random_network(test::tiny_config(), 1);
  nn::KvCache first = network.make_cache(), second = network.make_cache();
  Arena arena;
  const auto step = [&](TokenId id) {
    arena.reset();
    const Chunk batch[] = {{std::span(&id, 1), &first}, {std::span(&id, 1), &second}};
    return network.forward(batch, arena).logits.data<float>()[0];
  };
  step(1);
  step(2);
  const int before = g_allocations;
  const std::size_t capacity = arena.capacity();  // its blocks do not come from operator new
  for (TokenId id = 3; id < 20; ++id) step(id);
  EXPECT_EQ(g_allocations - before, 0);
  EXPECT_EQ(arena.capacity(), capacity);
}

std::string outcome(int allocations, const std::function<void()>& call) {
  std::string what = "done";
  g_left = allocations;
  try {
    call();
    g_left = kUnlimited;
  } catch (const MemoryError&) {
    g_left = kUnlimited;
    what = "MemoryError";
  } catch (const std::exception& e) {
    g_left = kUnlimited;
    what = concat(typeid(e).name(), ": ", e.what());
  }
  return what;
}

TEST(HfConfig, MayRunOutOfMemoryAnywhereInACopy) {
  const HfConfig config = HfConfig::parse(
      R"({"a_list": [1, "a text too long for the string itself", {"of": ["a text too long for the string itself"]}],
          "a_key_too_long_for_the_string_itself": {"another_key_too_long_for_itself": "a text too long for itself"}})",
      "config.json");
  int failures = 0;
  for (bool copied = false; !copied; ++failures) {
    g_left = failures;
    try {
      const HfConfig copy = config;
      copied = true;
    } catch (const std::bad_alloc&) {
    }
    g_left = kUnlimited;
    ASSERT_LT(failures, 100);
  }
  EXPECT_GT(failures, 8);
}

// Lets memory run out in about `tries` places of a call. The last of them may be beyond its end: the first run is not like
// the others.
void expect_memory_errors(int tries, const std::function<void()>& call) {
  const int before = g_allocations;
  call();
  const int all = g_allocations - before;
  int failures = 0;
  for (int n = 0; n < all; n += 1 + all / tries) {
    const std::string what = outcome(n, call);
    EXPECT_TRUE(what == "done" || what == "MemoryError")
        << what << " after " << n << " of " << all << " allocations";
    failures += what == "MemoryError" ? 1 : 0;
  }
  EXPECT_GT(failures, std::min(all, tries) / 3);
}

const std::filesystem::path kDemo = GPT_SOURCE_DIR "/examples/models/demo";

// Law 3: whichever allocation fails, it is a gpt::Error, and nothing on the way out needs memory.
TEST(EntryPoints, TurnMissingMemoryIntoAMemoryError) {
  const Model model = Model::load(kDemo);
  const Generator generator(model);
  expect_memory_errors(60, [&] { model.tokenizer().encode("Shall I compare thee"); });
  expect_memory_errors(60, [&] { generator.generate("ROMEO:", {.max_new_tokens = 3}); });
  expect_memory_errors(200, [] { Model::load(kDemo); });
  expect_memory_errors(150, [&] {
    Scheduler scheduler(model, {.max_batch = 2, .kv_cache_bytes = 16 << 20});
    RequestId requests[3];
    for (RequestId& id : requests) id = scheduler.submit("ROMEO:", {.max_new_tokens = 3});
    scheduler.run();
    for (const RequestId id : requests) scheduler.take(id)->get();
  });
  const test::TempDir dir;
  const std::filesystem::path copy = dir.path() / "copy";
  expect_memory_errors(50, [&] { model.save(copy); });
}

// Where a step finds no memory, the requests stay, and the same step may be taken again.
TEST(Scheduler, GoesOnWhenThereIsMemoryAgain) {
  const Model model = Model::load(kDemo);
  const GenerateOptions options{.max_new_tokens = 4};
  const GenerateResult expected = Generator(model).generate("ROMEO: what", options);
  int failures = 0;
  bool all = false;
  for (int n = 0; !all; ++n) {
    Scheduler scheduler(model, {.max_batch = 2, .kv_cache_bytes = 16 << 20});
    const RequestId first = scheduler.submit("ROMEO: what", options), second = scheduler.submit("A", options);
    const std::string what = outcome(n, [&] { scheduler.step(); });
    ASSERT_TRUE(what == "done" || what == "MemoryError") << what << " after " << n << " allocations";
    all = what == "done";
    scheduler.run();
    for (const RequestId id : {first, second}) {
      Completion done = *scheduler.take(id);
      if (!done.error) {
        if (id == first) {
          EXPECT_EQ(done.result.ids, expected.ids) << n;
        }
        continue;
      }
      ++failures;  // in the choice of its token
      EXPECT_THROW(done.get(), MemoryError);
      all = false;
    }
    EXPECT_EQ(scheduler.statistics().pages, scheduler.statistics().prefix_pages) << n;
    ASSERT_LT(n, 2000);
  }
  EXPECT_GT(failures, 0);
}

TEST(FileReaders, TurnMissingMemoryIntoAMemoryError) {
  const test::TempDir dir;
  const std::filesystem::path gguf = dir / "m.gguf", safe = kDemo / "model.safetensors";
  save_gguf(Model::load(kDemo), gguf);
  expect_memory_errors(100, [&] {
    const GgufFile file(gguf);
    static_cast<void>(file.keys());
    static_cast<void>(file.get_string("general.architecture"));
    static_cast<void>(file.get_strings("tokenizer.ggml.tokens"));
    static_cast<void>(file.get_ints("tokenizer.ggml.token_type"));
    static_cast<void>(file.tensor(file.names().front()));
  });
  for (const auto mode : {MappedFile::Mode::kMap, MappedFile::Mode::kRead}) {
    expect_memory_errors(100, [&] {
      const SafetensorsFile file(safe, mode);
      static_cast<void>(file.tensor(file.names().front()));
    });
    expect_memory_errors(100, [&] { static_cast<void>(Checkpoint(kDemo, mode).files()); });
  }
  const std::string tensor = test::pickle::tensor(test::pickle::storage("FloatStorage", "0", 6), 0, {6}, {1});
  test::write_file(
      dir / "pytorch_model.bin",
      test::ZipBytes{.members = {{"m/data.pkl", test::pickle::dict(test::pickle::text("w") + tensor)},
                                 {"m/data/0", std::string(24, '\0')}}}
          .bytes());
  expect_memory_errors(100, [&] { Checkpoint::pickled(dir.path()); });
}

}  // namespace
}  // namespace gpt
