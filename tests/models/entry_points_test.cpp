// Law 3: whichever allocation fails, it is a gpt::Error.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "allocations.h"
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

namespace gpt {
namespace {

using test::expect_memory_errors;
using test::kDemo;
using test::made_by_the_caller;

TEST(HfConfig, MayRunOutOfMemoryAnywhereInACopy) {
  const HfConfig config = HfConfig::parse(
      R"({"a_list": [1, "a text too long for the string itself", {"of": ["a text too long for the string itself"]}],
          "a_key_too_long_for_the_string_itself": {"another_key_too_long_for_itself": "a text too long for itself"}})",
      "config.json");
  int failures = 0;
  for (bool copied = false; !copied; ++failures) {
    test::run_out_after(failures, test::Shortage::kOnce);
    try {
      const HfConfig copy = config;
      copied = true;
    } catch (const std::bad_alloc&) {
    }
    test::with_all_memory();
    ASSERT_LT(failures, 100);
  }
  EXPECT_GT(failures, 8);
}

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
