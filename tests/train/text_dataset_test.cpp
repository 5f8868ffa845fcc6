#include "gpt/train/text_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<TokenId>;
using test::expect_error;
using test::read_file;
using test::TempDir;
using test::write_file;
using testing::ElementsAreArray;

std::vector<Ids> samples_of(const Dataset& dataset) {
  std::vector<Ids> samples;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const Sample sample = dataset.at(i);
    EXPECT_EQ(sample.labels, sample.ids);
    EXPECT_EQ(dataset.length(i), static_cast<std::int64_t>(sample.ids.size()));
    samples.push_back(sample.ids);
  }
  return samples;
}

std::vector<std::string> files_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  return names;
}

const ByteBpe& tokenizer() {
  static const ByteBpe tokenizer = [] {
    ByteBpeModel model = test::small_bpe_model({{"a", "b"}});
    model.added_tokens = {{.content = "<|endoftext|>"}};
    return ByteBpe(std::move(model));
  }();
  return tokenizer;
}

constexpr TokenId kEnd = 257;  // <|endoftext|>

TEST(TextDataset, CutsBlocksThatShareOneToken) {
  EXPECT_THAT(samples_of(TextDataset::from_tokens({0, 1, 2, 3, 4, 5, 6}, {.block_size = 3})),
              ElementsAreArray({Ids{0, 1, 2, 3}, Ids{3, 4, 5, 6}}));
  EXPECT_THAT(samples_of(TextDataset::from_tokens({0, 1, 2, 3, 4, 5}, {.block_size = 3})),
              ElementsAreArray({Ids{0, 1, 2, 3}, Ids{3, 4, 5}}));
  EXPECT_THAT(samples_of(TextDataset::from_tokens({0, 1, 2, 3, 4, 5}, {.block_size = 3, .drop_last = true})),
              ElementsAreArray({Ids{0, 1, 2, 3}}));
  EXPECT_THAT(samples_of(TextDataset::from_tokens({7, 8}, {.block_size = 1, .drop_last = true})),
              ElementsAreArray({Ids{7, 8}}));
  EXPECT_THAT(samples_of(TextDataset::from_tokens({7, 8})), ElementsAreArray({Ids{7, 8}}));
  constexpr auto kHuge = std::numeric_limits<std::int64_t>::max();
  EXPECT_THAT(samples_of(TextDataset::from_tokens({7, 8, 9}, {.block_size = kHuge})),
              ElementsAreArray({Ids{7, 8, 9}}));
}

TEST(TextDataset, PredictsEveryTokenButTheFirstOnce) {
  for (TokenId count = 2; count < 30; ++count)
    for (std::int64_t block_size = 1; block_size < 12; ++block_size) {
      Ids tokens, predicted;
      for (TokenId i = 0; i < count; ++i) tokens.push_back(i);
      for (const Ids& sample : samples_of(TextDataset::from_tokens(tokens, {.block_size = block_size}))) {
        ASSERT_GE(sample.size(), 2u);
        ASSERT_LE(sample.size(), static_cast<std::size_t>(block_size) + 1);
        predicted.insert(predicted.end(), sample.begin() + 1, sample.end());
      }
      ASSERT_EQ(predicted, Ids(tokens.begin() + 1, tokens.end()))
          << count << " tokens, block_size " << block_size;
    }
}

TEST(TextDataset, SplitsOffTheEnd) {
  const auto dataset = TextDataset::from_tokens({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {.block_size = 4});
  const auto [train, validation] = dataset.split(0.3);
  EXPECT_THAT(samples_of(train), ElementsAreArray({Ids{0, 1, 2, 3, 4}, Ids{4, 5, 6}}));
  EXPECT_THAT(samples_of(validation), ElementsAreArray({Ids{7, 8, 9}}));
  EXPECT_EQ(train.token_count(), 7);
  const auto [first, second] = train.split(0.5);
  EXPECT_THAT(samples_of(first), ElementsAreArray({Ids{0, 1, 2, 3}}));
  EXPECT_THAT(samples_of(second), ElementsAreArray({Ids{4, 5, 6}}));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double fraction : {0.0, 1.0, -0.1, 1.5, nan})
    expect_error<ArgumentError>([&] { dataset.split(fraction); }, {"validation_fraction is", "less than 1"});
  expect_error<ArgumentError>([&] { dataset.split(0.19); }, {"validation part", "1 tokens"});
  expect_error<ArgumentError>([&] { dataset.split(0.95); }, {"training part", "1 tokens"});
}

TEST(TextDataset, FingerprintIsThatOfTheSamples) {
  const auto of = [](const Ids& ids, const BlockOptions& options) {
    return TextDataset::from_tokens(ids, options).fingerprint();
  };
  const TempDir dir;
  write_file(dir / "f", "abc");
  const auto base = of({256, 'c'}, {.block_size = 4});
  EXPECT_EQ(TextDataset::from_text("abc", tokenizer(), {.block_size = 4}).fingerprint(), base);
  EXPECT_EQ(TextDataset::from_file(dir / "f", tokenizer(), {.block_size = 4}).fingerprint(), base);
  EXPECT_EQ(
      TextDataset::from_file(dir / "f", tokenizer(), {.block_size = 4, .cache_dir = dir / "c"}).fingerprint(),
      base);
  const auto longer = TextDataset::from_tokens({1, 2, 3, 4, 1, 2, 3, 4}, {.block_size = 4});
  const auto [train, validation] = longer.split(0.5);
  const std::set<std::uint64_t> all = {base,
                                       of({256, 'd'}, {.block_size = 4}),
                                       of({'c', 256}, {.block_size = 4}),
                                       of({256, 'c'}, {.block_size = 5}),
                                       of({256, 'c'}, {.block_size = 1, .drop_last = true}),
                                       of({256, 'c'}, {.block_size = 1}),
                                       longer.fingerprint(),
                                       train.fingerprint(),
                                       validation.fingerprint()};
  EXPECT_EQ(all.size(), 9u);
}

TEST(TextDataset, TakesSpecialTokensForTextUnlessAsked) {
  const std::string text = "ab<|endoftext|>c";
  EXPECT_THAT(samples_of(TextDataset::from_text(text, tokenizer(), {.parse_special_tokens = true})),
              ElementsAreArray({Ids{256, kEnd, 'c'}}));
  const auto samples = samples_of(TextDataset::from_text(text, tokenizer()));
  EXPECT_EQ(samples.at(0), tokenizer().encode(text, {.parse_special_tokens = false}));
  const TempDir dir;
  write_file(dir / "f", text);
  EXPECT_EQ(samples_of(TextDataset::from_file(dir / "f", tokenizer())), samples);
  write_file(dir / "marked", "\xEF\xBB\xBF" + text);
  EXPECT_EQ(samples_of(TextDataset::from_file(dir / "marked", tokenizer())), samples);
  // The two encodings of one file do not share a cache.
  const TextDatasetOptions parsed{.parse_special_tokens = true, .cache_dir = dir / "c"},
      plain{.cache_dir = dir / "c"};
  for (int i = 0; i < 2; ++i) {
    EXPECT_THAT(samples_of(TextDataset::from_file(dir / "f", tokenizer(), parsed)),
                ElementsAreArray({Ids{256, kEnd, 'c'}}));
    EXPECT_EQ(samples_of(TextDataset::from_file(dir / "f", tokenizer(), plain)), samples);
  }
  EXPECT_EQ(files_in(dir / "c").size(), 2u);
}

TEST(TextDataset, RefusesWhatMakesNoSample) {
  const TempDir dir;
  write_file(dir / "empty", "");
  write_file(dir / "ab", "ab");
  const auto from = [&](const char* name, TextDatasetOptions options = {}) {
    return [=, path = dir / name] { TextDataset::from_file(path, tokenizer(), options); };
  };
  expect_error<IoError>(from("missing"), {"missing]"});
  expect_error<IoError>(from(""), {"directory"});
  expect_error<FormatError>(from("empty"), {"empty]", "is empty, expected text"});
  expect_error<FormatError>(from("ab"), {"ab]", "has 1 tokens", "more than 1"});
  for (const std::int64_t block_size : {0, -1}) {
    expect_error<ArgumentError>(from("ab", {.block_size = block_size}), {"block_size is", "at least 1"});
    expect_error<ArgumentError>(
        [&] { TextDataset::from_text("abc", tokenizer(), {.block_size = block_size}); }, {"block_size"});
    expect_error<ArgumentError>(
        [&] {
          TextDataset::from_tokens({1, 2}, {.block_size = block_size});
        },
        {"block_size"});
  }
  write_file(dir / "abcd", "abcd");
  expect_error<FormatError>(from("abcd", {.block_size = 3, .drop_last = true}),
                            {"abcd]", "has 3 tokens", "more than 3"});
  expect_error<ArgumentError>([&] { TextDataset::from_text("", tokenizer()); }, {"has 0 tokens"});
  expect_error<ArgumentError>([&] { TextDataset::from_tokens({}); }, {"has 0 tokens"});
  expect_error<ArgumentError>([&] { TextDataset::from_tokens({1, -2}); }, {"-2", "negative"});
  expect_error<ArgumentError>([&] { TextDataset::from_text("abc", tokenizer(), {.cache_dir = dir / "c"}); },
                              {"cache_dir"});
}

TEST(TextDataset, NamesTheFileThatTheVocabularyCannotExpress) {
  ByteBpeModel model = test::small_bpe_model();
  model.vocab.erase(model.vocab.begin() + 'q');
  const ByteBpe poor(std::move(model));
  const TempDir dir;
  write_file(dir / "f", "a q");
  expect_error<FormatError>([&] { TextDataset::from_file(dir / "f", poor); },
                            {"f]", "cannot be encoded", "byte 113"});
  expect_error<FormatError>([&] { TextDataset::from_file(dir / "f", poor, {.cache_dir = dir / "c"}); },
                            {"f]", "byte 113"});
  EXPECT_FALSE(fs::exists(dir / "c"));
}

TEST(TextDataset, RefusesAnIndexOutOfRange) {
  const auto dataset = TextDataset::from_tokens({1, 2, 3, 4}, {.block_size = 2});
  for (const std::int64_t index : {-1, 2}) {
    expect_error<ArgumentError>([&] { dataset.at(index); }, {"sample " + std::to_string(index), "0 to 1"});
    expect_error<ArgumentError>([&] { dataset.length(index); }, {"0 to 1"});
  }
}

// The only file of a cache directory.
fs::path cache_in(const fs::path& directory) {
  const auto names = files_in(directory);
  EXPECT_EQ(names.size(), 1u);
  return names.size() == 1 ? directory / names[0] : fs::path();
}

class TextDatasetCache : public testing::Test {
 protected:
  std::vector<Ids> load(const Tokenizer& with = tokenizer()) const {
    return samples_of(TextDataset::from_file(dir_ / "corpus.txt", with, {.cache_dir = dir_ / "deep/cache"}));
  }
  fs::path cache() const { return cache_in(dir_ / "deep/cache"); }
  void set_text(std::string_view text) const { write_file(dir_ / "corpus.txt", text); }

  const TempDir dir_;
};

TEST_F(TextDatasetCache, IsReadInsteadOfEncoding) {
  set_text("abc");
  EXPECT_THAT(load(), ElementsAreArray({Ids{256, 'c'}}));
  EXPECT_TRUE(cache().filename().string().starts_with("corpus.txt-"));
  const auto made = fs::last_write_time(cache());
  const std::string before = read_file(cache());
  fs::last_write_time(cache(), made - std::chrono::hours(1));
  fs::last_write_time(dir_ / "corpus.txt",
                      made + std::chrono::hours(1));  // the date of a text decides nothing
  EXPECT_THAT(load(), ElementsAreArray({Ids{256, 'c'}}));
  EXPECT_EQ(fs::last_write_time(cache()), made - std::chrono::hours(1));
  EXPECT_EQ(read_file(cache()), before);
}

TEST_F(TextDatasetCache, IsMadeAgainWhenTheTextChanges) {
  set_text("abc");
  load();
  const auto date = fs::last_write_time(dir_ / "corpus.txt");
  set_text("abd");  // as long as before
  fs::last_write_time(dir_ / "corpus.txt", date);
  EXPECT_THAT(load(), ElementsAreArray({Ids{256, 'd'}}));
  EXPECT_THAT(load(), ElementsAreArray({Ids{256, 'd'}}));
  cache();  // the old one is gone
}

TEST_F(TextDatasetCache, IsMadeAgainWhenItIsDamaged) {
  set_text("abc");
  load();
  const std::string good = read_file(cache());
  for (const std::string& bad : {std::string(), good.substr(0, good.size() - 1), good.substr(0, 32),
                                 std::string("junk"), good.substr(0, 32) + '\x01' + good.substr(33)}) {
    write_file(cache(), bad);
    EXPECT_THAT(load(), ElementsAreArray({Ids{256, 'c'}}));
    EXPECT_EQ(read_file(cache()), good);
  }
}

TEST_F(TextDatasetCache, KeepsTokenizersAndFilesOfOneNameApart) {
  set_text("abc");
  load();
  const ByteBpe other(test::small_bpe_model());
  EXPECT_THAT(load(other), ElementsAreArray({Ids{'a', 'b', 'c'}}));
  EXPECT_EQ(files_in(dir_ / "deep/cache").size(), 2u);
  fs::create_directory(dir_ / "other");
  write_file(dir_ / "other/corpus.txt", "xyz");
  TextDataset::from_file(dir_ / "other/corpus.txt", tokenizer(), {.cache_dir = dir_ / "deep/cache"});
  EXPECT_EQ(files_in(dir_ / "deep/cache").size(), 3u);
  const fs::path before = fs::current_path();
  fs::current_path(dir_ / "other");  // the same file by another path
  TextDataset::from_file("corpus.txt", tokenizer(), {.cache_dir = dir_ / "deep/cache"});
  fs::current_path(before);
  EXPECT_EQ(files_in(dir_ / "deep/cache").size(), 3u);
}

TEST_F(TextDatasetCache, HoldsTheTokensOfALargeTextWhole) {
  const fs::path source = GPT_SOURCE_DIR;
  const auto demo = load_tokenizer(source / "examples/models/demo");
  std::string text;
  for (int i = 0; i < 8; ++i)
    text += read_file(source / "tests/golden/training/corpus.txt");  // more than one part
  set_text(text);
  const auto dataset =
      TextDataset::from_file(dir_ / "corpus.txt", *demo, {.block_size = 1 << 30, .cache_dir = dir_ / "c"});
  EXPECT_EQ(dataset.at(0).ids, demo->encode(text));
}

TEST_F(TextDatasetCache, NamesADirectoryThatCannotHoldIt) {
  set_text("abc");
  write_file(dir_ / "file", "");
  const auto load_into = [&](const fs::path& directory) {
    return [this, directory] {
      TextDataset::from_file(dir_ / "corpus.txt", tokenizer(), {.cache_dir = directory});
    };
  };
  expect_error<IoError>(load_into(dir_ / "file"), {"file]", "cannot create the directory"});
  expect_error<IoError>(load_into(dir_ / "file/below"), {"file/below]"});
  expect_error<IoError>(load_into("/proc/gpt-no-such-directory"), {"/proc/gpt-no-such-directory]"});
  load();
  const fs::path place = cache();
  fs::remove(place);
  fs::create_directory(place);  // in the file's place
  expect_error<IoError>([&] { load(); }, {".tokens]", "is a directory"});
  if (::geteuid() == 0) return;  // root may write anywhere
  fs::remove(place);
  fs::permissions(dir_ / "deep/cache", fs::perms::owner_read | fs::perms::owner_exec);
  expect_error<IoError>([&] { load(); }, {".tokens]", "cannot be written"});
  fs::permissions(dir_ / "deep/cache", fs::perms::owner_all);
}

TEST_F(TextDatasetCache, OfAFullDiskLeavesNothingBehind) {
  set_text(std::string(100'000, 'x') + " ");
  const pid_t child = ::fork();
  if (child == 0) {  // in a child, whose files cannot grow, as on a full disk
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit sizes{10'000, 10'000};
    if (::setrlimit(RLIMIT_FSIZE, &sizes) != 0) ::_exit(99);
    const ThreadLimit alone(1);
    try {
      load();
    } catch (const IoError& error) {
      ::_exit(std::string_view(error.what()).find(".tokens]") != std::string_view::npos ? 0 : 1);
    } catch (...) {
      ::_exit(2);
    }
    ::_exit(3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_FALSE(fs::exists(dir_ / "deep"));
}

TEST_F(TextDatasetCache, OfAStoppedRunLeavesNothingBehind) {
  set_text("abc");
  std::stop_source source;
  source.request_stop();
  expect_error<CancelledError>(
      [&] {
        TextDataset::from_file(dir_ / "corpus.txt", tokenizer(),
                               {.cache_dir = dir_ / "c", .stop = source.get_token()});
      },
      {"corpus.txt]", "stopped"});
  EXPECT_FALSE(fs::exists(dir_ / "c"));
}

TEST(TextDataset, IsSharedBetweenThreads) {
  const auto dataset = TextDataset::from_tokens(Ids(1000, 5), {.block_size = 10});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (std::int64_t i = 0; i < dataset.size(); ++i) EXPECT_EQ(dataset.at(i).ids.front(), 5);
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace gpt
