// JsonlDatasetOptions::cache_dir.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <numeric>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "core/fingerprint.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/train/batches.h"
#include "gpt/train/jsonl_dataset.h"
#include "gpt/train/trainer.h"
#include "support/expect_error.h"
#include "support/file_size_limit.h"
#include "support/isa.h"
#include "support/peak_memory.h"
#include "support/temp_dir.h"
#include "text/small_bpe.h"
#include "train/sample_cache.h"
#include "train/small_run.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::read_file;
using test::write_file;
using testing::HasSubstr;
using testing::IsEmpty;

using Merges = std::vector<std::pair<std::string, std::string>>;

ByteBpe tokenizer_with(std::string eos, const Merges& merges = {}) {
  ByteBpeModel model = test::small_bpe_model(merges);
  model.added_tokens = {{.content = "<eos>"}, {.content = "<end>"}};
  model.eos_token = std::move(eos);
  return ByteBpe(std::move(model));
}

// Some are bad, some too long for 24 ids.
std::string lines_of(int n) {
  std::string lines;
  for (int i = 0; i < n; ++i)
    lines += i % 50 == 7 ? "{\"text\": 3}\n"
                         : concat("{\"prompt\": \"", std::string(static_cast<std::size_t>(i % 23), 'p'),
                                  "\", \"completion\": \"", i * i, "\"}\n");
  return lines;
}

class JsonlCache : public testing::Test {
 protected:
  JsonlDataset load(JsonlDatasetOptions options, const std::string& name = "data.jsonl") const {
    return JsonlDataset::from_file(dir_ / name, tokenizer_, options);
  }
  JsonlDataset load() const { return load(cached_); }
  void set_lines(std::string_view lines) const { write_file(dir_ / "data.jsonl", lines); }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    if (fs::exists(dir_ / "deep/cache"))
      for (const auto& entry : fs::directory_iterator(dir_ / "deep/cache"))
        names.push_back(entry.path().filename().string());
    return names;
  }
  fs::path file() const {
    EXPECT_EQ(files().size(), 1u);
    return files().empty() ? fs::path() : dir_ / "deep/cache" / files().front();
  }

  const test::TempDir dir_;
  const ByteBpe tokenizer_ = tokenizer_with("<eos>");
  JsonlDatasetOptions cached_{.max_length = 24, .skip_bad_lines = true, .cache_dir = dir_ / "deep/cache"};
};

void expect_same(const Dataset& a, const Dataset& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(a.fingerprint(), b.fingerprint());
  for (std::int64_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a.at(i).ids, b.at(i).ids);
    EXPECT_EQ(a.at(i).labels, b.at(i).labels);
    EXPECT_EQ(a.length(i), b.length(i));
  }
  std::vector<std::int64_t> order = epoch_order(a.size(), 3, 1);
  EXPECT_EQ(plan_batches(a, order, {.max_tokens_per_batch = 100}),
            plan_batches(b, order, {.max_tokens_per_batch = 100}));
}

TEST_F(JsonlCache, HoldsTheSamplesThatMemoryWould) {
  set_lines(lines_of(1000));
  JsonlDatasetOptions options = cached_;
  options.cache_dir.clear();
  const JsonlDataset memory = load(options);
  EXPECT_THAT(files(), IsEmpty());
  std::string first;
  for (int i = 0; i < 2; ++i) {  // made, and read
    const ThreadLimit threads(i + 1);
    const JsonlDataset dataset = load();
    expect_same(dataset, memory);
    expect_same(dataset.split(0.3).first, memory.split(0.3).first);
    expect_same(dataset.split(0.3).second, memory.split(0.3).second);
    EXPECT_EQ(dataset.counts().lines, 1000);
    EXPECT_EQ(dataset.counts().bad, 20);
    EXPECT_EQ(dataset.counts().dropped, memory.counts().dropped);
    EXPECT_EQ(dataset.counts().truncated, memory.counts().truncated);
    EXPECT_GT(dataset.counts().truncated, 0);
    EXPECT_EQ(dataset.counts().first_bad, memory.counts().first_bad);
    EXPECT_THAT(dataset.counts().first_bad, HasSubstr("data.jsonl:8] text is 3"));
  }
  EXPECT_TRUE(file().filename().string().starts_with("data.jsonl-"));
  EXPECT_EQ(file().extension(), ".samples");
}

TEST_F(JsonlCache, IsReadInsteadOfEncoding) {
  set_lines(lines_of(300));
  load();
  const auto hour_ago = fs::last_write_time(file()) - std::chrono::hours(1);
  const std::string before = read_file(file());
  fs::last_write_time(file(), hour_ago);
  JsonlDatasetOptions options = cached_;
  options.on_progress = [](const DatasetProgress&) { FAIL() << "it is encoded again"; };
  const JsonlDataset dataset = load(options);
  EXPECT_EQ(fs::last_write_time(file()), hour_ago);
  EXPECT_EQ(read_file(file()), before);
  fs::remove(file());  // what is mapped stays
  EXPECT_EQ(tokenizer_.decode(dataset.at(2).ids), "pp4<eos>");
  const fs::path back = fs::current_path();  // by another name, which its messages have
  load();
  fs::current_path(dir_.path());
  const JsonlDataset renamed = JsonlDataset::from_file("data.jsonl", tokenizer_, options);
  fs::current_path(back);
  EXPECT_THAT(renamed.counts().first_bad, testing::StartsWith("[data.jsonl:8] text is 3"));
}

TEST_F(JsonlCache, IsMadeAgainWhenTheLinesChange) {
  set_lines("{\"text\": \"abc\"}\n");
  load();
  const auto date = fs::last_write_time(dir_ / "data.jsonl");
  set_lines("{\"text\": \"abd\"}\n");  // as long as before
  fs::last_write_time(dir_ / "data.jsonl", date);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(tokenizer_.decode(load().at(0).ids), "abd<eos>");
  file();  // the old one is gone
}

TEST_F(JsonlCache, IsMadeAgainWhenItIsDamaged) {
  set_lines(lines_of(100));
  load();
  const std::string good = read_file(file());
  for (const std::string& bad :
       {std::string(), good.substr(0, good.size() - 1), good.substr(0, 32), std::string("junk"),
        good.substr(0, 8) + '\2' + good.substr(9), good.substr(0, 40) + '\1' + good.substr(41)}) {
    write_file(file(), bad);
    EXPECT_EQ(tokenizer_.decode(load().at(2).ids), "pp4<eos>");
    EXPECT_EQ(read_file(file()), good);
  }
}

TEST_F(JsonlCache, KeepsFilesTokenizersAndOptionsApart) {
  set_lines(
      "{\"prompt\": \"ab<eos>\", \"completion\": \"cd\"}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, {\"role\": \"assistant\", \"content\": "
      "\"e\"}]}\n");
  std::size_t made = 0;
  std::vector<std::uint64_t> fingerprints;
  const auto add = [&](const Tokenizer& tokenizer, const auto& change) {
    JsonlDatasetOptions options = cached_;
    change(options);
    const auto dataset = JsonlDataset::from_file(dir_ / "data.jsonl", tokenizer, options);
    fingerprints.push_back(dataset.fingerprint());
    options.cache_dir.clear();
    expect_same(dataset, JsonlDataset::from_file(dir_ / "data.jsonl", tokenizer, options));
    EXPECT_EQ(files().size(), ++made);
  };
  add(tokenizer_, [](auto&) {});
  add(tokenizer_, [](auto& o) { o.max_length = 5; });
  const auto add_overlong = [&](std::int64_t max_length, Overlong overlong) {
    add(tokenizer_, [=](auto& o) {
      o.max_length = max_length;
      o.overlong = overlong;
    });
  };
  for (const Overlong overlong : {Overlong::kTruncate, Overlong::kDrop}) add_overlong(8, overlong);
  for (const Overlong overlong : {Overlong::kTruncate, Overlong::kDrop, Overlong::kError})
    add_overlong(30, overlong);
  add(tokenizer_, [](auto& o) {
    o.max_length = 20;
    o.chat_template = ChatTemplate::by_name("llama2");
  });
  add(tokenizer_, [](auto& o) { o.skip_bad_lines = false; });
  add(tokenizer_, [](auto& o) { o.parse_special_tokens = false; });
  add(tokenizer_, [](auto& o) { o.chat_template = ChatTemplate::by_name("chatml"); });
  add(tokenizer_with("<end>"), [](auto&) {});  // which the tokenizer's encode() does not show
  EXPECT_NE(fingerprints.front(), fingerprints.back());
  add(tokenizer_with("<eos>", {{"a", "b"}}), [](auto&) {});
  EXPECT_NE(fingerprints.front(), fingerprints.back());
  write_file(dir_ / "other.jsonl", "{\"text\": \"x\"}\n");
  load(cached_, "other.jsonl");
  EXPECT_EQ(files().size(), made + 1);
}

TEST_F(JsonlCache, OfWhatFailsIsNotMadeAndTheOldOneStays) {
  set_lines(lines_of(300));
  load();
  const std::string good = read_file(file());
  set_lines(lines_of(301));
  JsonlDatasetOptions stopped = cached_;
  std::stop_source source;
  stopped.stop = source.get_token();
  stopped.on_progress = [&](const DatasetProgress&) { source.request_stop(); };
  const ThreadLimit alone(1);
  expect_error<CancelledError>([&] { load(stopped); }, {"data.jsonl]", "stopped"});
  EXPECT_EQ(read_file(file()), good);
  EXPECT_EQ(test::with_file_size_limit(1000, [&] { return test::outcome_of([&] { load(); }, ".samples]"); }),
            test::kIoErrorNamingTheFile);
  EXPECT_EQ(read_file(file()), good);
  JsonlDatasetOptions strict = cached_;
  strict.skip_bad_lines = false;
  expect_error<FormatError>([&] { load(strict); }, {"data.jsonl:8]"});
  set_lines("{\"text\": 3}\n");
  expect_error<FormatError>([&] { load(); }, {"no usable sample"});
  EXPECT_EQ(read_file(file()), good);
  JsonlDatasetOptions below = cached_;
  below.cache_dir = dir_ / "data.jsonl";
  expect_error<IoError>([&] { load(below); }, {"data.jsonl]", "cannot create the directory"});
}

TEST_F(JsonlCache, NeedsLittleMemoryForManyLines) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
#ifndef GPT_TEST_SANITIZED
  const JsonlDatasetOptions made{.cache_dir = dir_ / "deep/cache"};
  // Beside what any file takes, the code that is loaded among it.
  std::int64_t making = 0, reading = 0, size = 0;
  for (const int n : {600, 60'000}) {
    std::string lines;
    for (int i = 0; i < n; ++i)
      lines += concat("{\"prompt\": \"", i, std::string(60, 'p'), "\", \"completion\": \"",
                      std::string(60, 'c'), "\"}\n");
    set_lines(lines);
    lines = std::string();
    making = test::peak_memory_of([&] { load(made); }) - making;
    reading = test::peak_memory_of([&] { load(made); }) - reading;
    size = static_cast<std::int64_t>(fs::file_size(file()));
  }
  EXPECT_LT(making, size / 4);
  EXPECT_LT(reading, size / 8);
#endif
}

// A cache is read in place of encoding. Where this library makes other samples of these lines, kSampleCache needs another version,
// and this test what is found then.
TEST_F(JsonlCache, HasAnotherVersionWhenALineBecomesAnotherSample) {
  set_lines(
      "{\"prompt\": \"What is ab?<eos>\", \"completion\": \" It's  12 \\u00e9\\n\"}\n"
      "{\"text\": \"ab<eos>ab  ab\"}\n"
      "{\"text\": 3}\n"
      "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": "
      "\"Hi\"}, "
      "{\"role\": \"assistant\", \"content\": \"ab\"}, {\"role\": \"user\", \"content\": \"So?\"}, "
      "{\"role\": "
      "\"assistant\", \"content\": \"No.\"}]}\n");
  Fingerprint all;
  for (const ByteBpe& tokenizer :
       {tokenizer_with("<eos>", {{"a", "b"}}), ByteBpe(test::small_bpe_model({{" ", "a"}}))})
    for (const std::string_view name : ChatTemplate::names())
      for (const Overlong overlong : {Overlong::kTruncate, Overlong::kDrop}) {
        const auto dataset = JsonlDataset::from_file(dir_ / "data.jsonl", tokenizer,
                                                     {.max_length = 60,
                                                      .overlong = overlong,
                                                      .chat_template = ChatTemplate::by_name(name),
                                                      .skip_bad_lines = true});
        all.add(dataset.fingerprint()).add(dataset.counts().truncated).add(dataset.counts().bad);
      }
  EXPECT_EQ(kSampleCache.version, 2u);
  EXPECT_EQ(all.value(), 3539201071923038208u);
}

// The run was begun with the samples in memory, and goes on with those of the cache.
TEST_F(JsonlCache, GivesARunThatIsResumedTheSameBits) {
  set_lines(lines_of(60));
  JsonlDatasetOptions options = cached_;
  options.cache_dir.clear();
  const JsonlDataset memory = load(options);
  Gpt2Config config = test::tiny_config();
  config.vocab_size = 300;
  TrainingArguments a = test::arguments();
  a.max_steps = 6;
  Model whole(test::random_network(config, 1), HfConfig());
  Trainer(whole, a).fit(memory);
  a.output_dir = dir_ / "run";
  Model first(test::random_network(config, 1), HfConfig()),
      second(test::random_network(config, 1), HfConfig());
  std::stop_source stop;
  const TrainingCallbacks until_three{.on_step = [&](const TrainingLog& log) {
    if (log.step == 3) stop.request_stop();
  }};
  expect_error<CancelledError>([&] { Trainer(first, a).fit(memory, nullptr, until_three, stop.get_token()); },
                               {});
  a.resume_from_checkpoint = true;
  Trainer(second, a).fit(load());
  EXPECT_TRUE(test::same(test::weights(second), test::weights(whole)));
}

}  // namespace
}  // namespace gpt
