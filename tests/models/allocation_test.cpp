// Law 4: once it has run, a decode step allocates nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "core/input_file.h"
#include "gpt/core/arena.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/rng.h"
#include "gpt/generate/filters.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/sampler.h"
#include "gpt/generate/scheduler.h"
#include "gpt/io/gguf.h"
#include "gpt/io/hf_config.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/classifier.h"
#include "gpt/models/gguf.h"
#include "gpt/models/gpt2.h"
#include "gpt/models/gpt2_config.h"
#include "gpt/models/model.h"
#include "gpt/models/prune.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/tokenizer.h"
#include "gpt/text/utf8.h"
#include "gpt/train/classification_dataset.h"
#include "support/isa.h"
#include "support/random_model.h"
#include "support/temp_dir.h"
#include "support/torch_file.h"

namespace {

constexpr int kUnlimited = -1, kExhausted = -2;
std::atomic<int> g_allocations{0};
std::atomic<int> g_left{kUnlimited};  // allocations until memory runs out

// Of the aligned pieces of these sizes, such as the pages of a KvPool, so many succeed, and then so many do not.
std::atomic<std::size_t> g_smallest{0}, g_largest{0};
std::atomic<int> g_pieces_left{0}, g_pieces_refused{0};

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
// They are malloc and free: where gcc inlines one of them and not the other, it takes the pair for a mistake.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++g_allocations;
  void* p = runs_out(size) ? nullptr : std::malloc(size == 0 ? 1 : size);
  return p != nullptr ? p : throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

// The library's larger pieces.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  if (size >= g_smallest && size <= g_largest && g_pieces_left-- <= 0 && g_pieces_refused-- > 0)
    return nullptr;
  void* p = nullptr;
  return ::posix_memalign(&p, alignment, size) == 0 ? p : nullptr;
}

namespace gpt {
namespace {

void expect_steps_without_allocations(const Gpt2& network) {
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

TEST(DecodeStep, AllocatesNothing) {
  const Gpt2 network = test::random_network(test::tiny_config(), 1);
  expect_steps_without_allocations(network);
  const HeadId head{0, 1};
  expect_steps_without_allocations(without_heads(network, {&head, 1}));
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

// What a call is given, and has to be made anew for each: there is memory for that, and it does not count.
template <class Make>
auto made_by_the_caller(const Make& make) {
  const int left = g_left.exchange(kUnlimited), before = g_allocations;
  auto made = make();
  g_allocations = before;
  g_left = left;
  return made;
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
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
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
  const std::vector<LabelledRow> rows{{"a", {"bad"}}, {"b", {"good"}}, {"c", {"bad"}}};
  const ClassificationDataset data(Classifier(model, {"bad", "good"}), rows);
  expect_memory_errors(20, [&] {
    data.at(0);
    data.rows();
    const auto folds = stratified_folds(data.classes(), 2, 1);
    data.subset(folds.front());
  });
}

TEST(EntryPoints, OfTheNetworkTurnMissingMemoryIntoAMemoryError) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  Gpt2Config config = test::tiny_config();
  config.pruned_heads = {{0, {1}}};
  expect_memory_errors(100, [&] { Gpt2 network(config); });
  Gpt2 network = test::random_network(test::tiny_config(), 1);
  const std::vector<TokenId> ids{1, 2, 3};
  const Chunk chunk{ids};
  for (const ForwardOptions& options :
       {ForwardOptions{.hidden_states = true}, ForwardOptions{.attentions = true}}) {
    expect_memory_errors(100, [&] {
      Arena arena;
      network.forward({&chunk, 1}, arena, options);
    });
  }
  const std::vector<std::int64_t> input_ids{1, 2, 3, 4}, mask{1, 1, 1, 0};
  expect_memory_errors(100, [&] {
    logits_of_padded(network, ConstTensorView(input_ids.data(), Shape{1, 4}),
                     ConstTensorView(mask.data(), Shape{1, 4}));
  });
  expect_memory_errors(100, [&] { network.pack(); });
  expect_memory_errors(100, [&] { network.fingerprint(); });

  const std::vector<float> logits(100, 1.0f);
  expect_memory_errors(100, [&] {
    LogitsProcessors processors = made_by_the_caller([] {
      LogitsProcessors list;
      list.push_back(std::make_unique<Mirostat>(5.0, 0.1));
      list.push_back(std::make_unique<TopP>(0.9));
      return list;
    });
    Sampler sampler(std::move(processors), CounterRng(1));
    std::vector<double> state = sampler.initial_state();
    sampler.next(logits, DecodingStep{.history = ids}, state);
  });
  const GenerateOptions options{.sequence_bias = std::vector<BiasedSequence>{{ids, 1.0}},
                                .bad_words_ids = std::vector<std::vector<TokenId>>{ids}};
  expect_memory_errors(100, [&] { options.validate(); });
}

TEST(EntryPoints, OfTheConfigurationTurnMissingMemoryIntoAMemoryError) {
  const test::TempDir dir;
  const std::filesystem::path path = kDemo / "config.json", copy = dir / "config.json";
  const std::string text = read_text_file(path), key = "a_key_too_long_for_the_string_itself";
  const HfConfig read = HfConfig::load(path);
  expect_memory_errors(50, [&] { HfConfig::parse(text, "config.json"); });
  expect_memory_errors(50, [&] { HfConfig::load(path); });
  expect_memory_errors(50, [&] { read.save(copy); });
  expect_memory_errors(100, [&] {
    HfConfig config;
    config.set_string(key, key);
    config.set_string_list("a", {&key, 1});
    config.set_object("b", read);
    config.set_int("a_number_of_a_key_too_long_for_the_string_itself", 1);
    static_cast<void>(config.keys());
    static_cast<void>(config.get_string(key));
    static_cast<void>(config.get_string_list("a"));
    static_cast<void>(config.get_object("b"));
    static_cast<void>(config.get_json("b"));
    static_cast<void>(config.has("another_key_too_long_for_the_string_itself"));
    static_cast<void>(config.unread_keys());
    static_cast<void>(config.dump());
  });
  expect_memory_errors(100, [&] {
    const HfConfig unread = made_by_the_caller([&] { return HfConfig::parse(text, "config.json"); });
    Gpt2Config::from_hf(unread);
  });
  const Gpt2Config config = test::tiny_config();
  expect_memory_errors(100, [&] {
    HfConfig file;
    config.to_hf(file);
  });
}

TEST(EntryPoints, OfFilesTurnMissingMemoryIntoAMemoryError) {
  const test::TempDir dir;
  const std::filesystem::path first = dir / "a_name_too_long_for_the_string_itself",
                              second = dir / "another_name_too_long_for_the_string_itself",
                              missing = dir / "nothing_of_a_name_too_long_for_the_string_itself";
  for (const std::filesystem::path& path : {first, second}) write_file_atomically(path, "old");
  const auto next_descriptor = [&] { return InputFile(first).descriptor(); };
  const int descriptor = next_descriptor();
  expect_memory_errors(50, [&] { MappedFile file(first); });
  expect_memory_errors(50, [&] { MappedFile file(first, MappedFile::Mode::kRead); });
  expect_memory_errors(50, [&] { read_text_file(first); });
  expect_memory_errors(50, [&] { write_file_atomically(first, "old"); });
  expect_memory_errors(50, [&] {
    AtomicFile file(first);
    file.write("old");
    static_cast<void>(file.commit_and_map());
  });
  expect_memory_errors(100, [&] {
    AtomicFiles files;
    files.add(first).write("old");
    files.add(second).write("old");
    files.remove(missing);
    files.commit();
  });
  int left = 0;  // of what was written beside them, nothing
  for (const auto& entry : std::filesystem::directory_iterator(dir.path())) {
    EXPECT_EQ(test::read_file(entry.path()), "old");
    ++left;
  }
  EXPECT_EQ(left, 2);
  EXPECT_EQ(next_descriptor(), descriptor);
}

TEST(EntryPoints, OfTextTurnMissingMemoryIntoAMemoryError) {
  const std::string text = "text that is too long for the string itself",
                    vocab = R"({"a": 0, "b": 1, "ab": 2})", merges = "#version: 0.2\na b\n";
  expect_memory_errors(50, [&] { parse_vocab_and_merges(vocab, merges); });
  ByteBpeModel model = parse_vocab_and_merges(vocab, merges);
  model.added_tokens.push_back({.content = "<an added token of some length>"});
  expect_memory_errors(50, [&] { ByteBpe tokenizer(made_by_the_caller([&] { return model; })); });
  const ByteBpe tokenizer(model);
  expect_memory_errors(50, [&] { tokenizer.model(); });
  expect_memory_errors(100, [&] { tokenizer.files(); });
  expect_memory_errors(50, [&] { replace_invalid_utf8(text); });
  expect_memory_errors(50, [] { has_tokenizer(kDemo); });
  expect_memory_errors(50, [] { load_tokenizer(kDemo); });
}

// Where a step finds no memory, the requests stay, and the same step may be taken again.
TEST(Scheduler, GoesOnWhenThereIsMemoryAgain) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Model model = Model::load(kDemo);
  const GenerateOptions options{.max_new_tokens = 4};
  const GenerateResult expected = Generator(model).generate("ROMEO: what", options);
  int failures = 0, all = 1;
  for (int n = 0; n < all; ++n) {
    Scheduler scheduler(model, {.max_batch = 2, .kv_cache_bytes = 16 << 20});
    const RequestId first = scheduler.submit("ROMEO: what", options), second = scheduler.submit("A", options);
    const int before = g_allocations;
    const std::string what = outcome(n, [&] { scheduler.step(); });
    all = std::max(all, g_allocations - before);
    ASSERT_TRUE(what == "done" || what == "MemoryError") << what << " after " << n << " allocations";
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
    }
    EXPECT_EQ(scheduler.statistics().pages, scheduler.statistics().prefix_pages) << n;
  }
  EXPECT_GT(failures, 0);
}

// A small network with room for requests of eight pages.
class ShortOfPages : public ::testing::Test {
 protected:
  static Model make_model() {
    Gpt2Config config = test::tiny_config();
    config.n_positions = 128;
    config.eos_token_id.clear();
    return Model(test::random_network(config, 1), HfConfig());
  }
  /// After `left` pages more, `refused` cannot be had.
  static void refuse(int left, int refused, std::size_t smallest = kPage, std::size_t largest = kPage) {
    g_pieces_left = left;
    g_pieces_refused = refused;
    g_smallest = smallest;
    g_largest = largest;
  }
  static void refuse_nothing() { g_largest = 0; }
  ~ShortOfPages() override { refuse_nothing(); }

  /// Takes `count` steps, each of which may find no memory; says whether any did.
  static bool fails_in(Scheduler& scheduler, int count) {
    bool failed = false;
    for (int i = 0; i < count; ++i) {
      try {
        scheduler.step();
      } catch (const MemoryError&) {
        failed = true;
      }
    }
    return failed;
  }
  /// With memory for everything from now on, the requests end, and have the tokens they have alone.
  void expect_all(Scheduler& scheduler, const std::vector<RequestId>& ids) {
    refuse_nothing();
    int steps = 0;
    while (scheduler.step()) ASSERT_LT(++steps, 1000) << "it goes on for ever";
    for (const RequestId id : ids) {
      const GenerateResult got = scheduler.take(id)->get();
      const auto count = static_cast<std::int64_t>(got.ids.size());
      EXPECT_EQ(got.ids, Generator(model_).generate(got.prompt_ids, {.max_new_tokens = count}).ids);
    }
    EXPECT_EQ(scheduler.statistics().pages, scheduler.statistics().prefix_pages);
  }

  // 16 tokens of 2 layers and heads, keys and values of 16 floats.
  static constexpr std::size_t kPage = std::size_t{16} * 2 * 2 * 2 * 16 * 4;
  static constexpr int kForGood = 1 << 20;
  const Model model_ = make_model();
};

TEST_F(ShortOfPages, GivesUpIdlePrefixesBeforeItReportsThatThereIsNoMemory) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 12 * kPage});
  scheduler.submit(test::tokens(64, 1), {.max_new_tokens = 1});
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().prefix_pages, 4);
  const RequestId id = scheduler.submit(test::tokens(40, 2), {.max_new_tokens = 60});
  refuse(0, 3);
  EXPECT_FALSE(fails_in(scheduler, 1));
  EXPECT_EQ(scheduler.statistics().prefix_pages, 1 + 2) << "as many as were refused";
  expect_all(scheduler, {id});
}

TEST_F(ShortOfPages, GivesUpIdlePrefixesForWhatAStepComputes) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 12 * kPage});
  const RequestId first = scheduler.submit(test::tokens(33, 1), {.max_new_tokens = 1});
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().prefix_pages, 2);
  const RequestId second = scheduler.submit(test::tokens(120, 2), {.max_new_tokens = 1});
  refuse(0, 1, kPage + 1, ~std::size_t{0});
  EXPECT_FALSE(fails_in(scheduler, 1));
  EXPECT_LE(g_pieces_refused, 0) << "nothing was refused";
  EXPECT_EQ(scheduler.statistics().prefix_pages, 7) << "those of the second";
  expect_all(scheduler, {first, second});
}

TEST_F(ShortOfPages, ReportsThatThereIsNoMemoryForWhatAStepComputes) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 12 * kPage});
  const RequestId id = scheduler.submit(test::tokens(33, 1), {.max_new_tokens = 5});
  refuse(0, kForGood, kPage + 1, ~std::size_t{0});
  EXPECT_TRUE(fails_in(scheduler, 1));
  EXPECT_TRUE(fails_in(scheduler, 1));
  EXPECT_EQ(scheduler.statistics().computed_tokens, 0);
  expect_all(scheduler, {id});
}

TEST_F(ShortOfPages, LetsTheLastWaitForTheFirst) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 12 * kPage, .prefix_cache = false});
  std::vector<RequestId> ids;
  for (const std::size_t first : {1u, 2u, 3u})
    ids.push_back(scheduler.submit(test::tokens(10, first), {.max_new_tokens = 30}));
  scheduler.step();
  EXPECT_EQ(scheduler.statistics().running, 3);
  refuse(0, 1);  // when the first two need their second pages, the third has gone
  EXPECT_FALSE(fails_in(scheduler, 10));
  EXPECT_EQ(scheduler.statistics().preemptions, 1);
  expect_all(scheduler, ids);
}

TEST_F(ShortOfPages, KeepsNoneForARequestThatFailedToBegin) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 8 * kPage});
  std::vector<RequestId> ids = {scheduler.submit(test::tokens(16, 1), {.max_new_tokens = 100})};
  scheduler.step();
  ids.push_back(scheduler.submit(test::tokens(70, 2), {.max_new_tokens = 50}));
  refuse(4, 1);  // the last that it begins with
  fails_in(scheduler, 1);
  // One that comes before it, and both before the first: which needs the pages now.
  ids.push_back(scheduler.submit(test::tokens(100, 3), {.max_new_tokens = 20}, {.priority = 1}));
  expect_all(scheduler, ids);
}

// The memory is there for one request alone, and then pages are refused from the nth on.
TEST_F(ShortOfPages, GoesOnWhereverTheyEnd) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  for (const bool prefix_cache : {false, true}) {
    int n = 0;
    for (bool failed = true; failed; ++n) {
      Scheduler scheduler(model_, {.kv_cache_bytes = 8 * kPage, .prefix_cache = prefix_cache});
      std::vector<RequestId> ids = {scheduler.submit(test::tokens(16, 1), {.max_new_tokens = 100})};
      refuse(n, kForGood);
      failed = fails_in(scheduler, 3);
      ids.push_back(scheduler.submit(test::tokens(70, 2), {.max_new_tokens = 50}));
      failed = fails_in(scheduler, 120) || failed;
      ASSERT_NO_FATAL_FAILURE(expect_all(scheduler, ids)) << n;
      ASSERT_LT(n, 100);
    }
    EXPECT_GT(n, 7);
  }
}

TEST_F(ShortOfPages, AllocatesNothingForARequestThatWaitsForThem) {
  const auto allocations = [this](bool one_waits) {
    Scheduler scheduler(model_, {.kv_cache_bytes = 8 * kPage});
    scheduler.submit(test::tokens(33, 1), {.max_new_tokens = 60});
    scheduler.step();
    if (one_waits) scheduler.submit(test::tokens(100, 2), {.max_new_tokens = 5});
    scheduler.step();
    const int before = g_allocations;
    for (int i = 0; i < 10; ++i) scheduler.step();  // within a page
    EXPECT_EQ(scheduler.statistics().waiting, one_waits ? 1 : 0);
    return g_allocations - before;
  };
  allocations(false);  // the first run is not like the others
  EXPECT_EQ(allocations(true), allocations(false));
}

TEST_F(ShortOfPages, GoesOnAfterAnyNumberOfRefusals) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const CounterRng rng(11, seed);
    std::uint64_t draws = 0;
    const auto below = [&](int n) { return static_cast<int>(rng.uniform(draws++) * n); };
    Scheduler scheduler(model_, {.max_batch = 1 + below(4),
                                 .max_tokens_per_step = 8 + below(60),
                                 .kv_cache_bytes = (8 + static_cast<std::size_t>(below(4))) * kPage,
                                 .prefix_cache = below(3) > 0});
    std::vector<RequestId> ids;
    for (int i = 0; i < 100; ++i) {
      if (i % 10 == 0)
        ids.push_back(scheduler.submit(
            test::tokens(1 + static_cast<std::size_t>(below(80)), static_cast<std::size_t>(below(3))),
            {.max_new_tokens = 1 + below(48)}, {.priority = below(3)}));
      refuse(below(4), below(6));
      fails_in(scheduler, 1);
    }
    ASSERT_NO_FATAL_FAILURE(expect_all(scheduler, ids)) << seed;
  }
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
