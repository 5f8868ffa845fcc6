// What TextDataset and JsonlDataset owe to those who keep them in a cache_dir, and to their files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "core/fingerprint.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/train/jsonl_dataset.h"
#include "gpt/train/text_dataset.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/mapped_memory.h"
#include "support/temp_dir.h"
#include "text/small_bpe.h"
#include "train/token_cache.h"

namespace {

thread_local std::function<void()> g_before_directory_sync;  // what happens in this thread, once

}  // namespace

// In the place of the C library's, for this program: between a file's new name and the end of its commit.
extern "C" int fsync(int fd) {
  struct stat info {};
  if (g_before_directory_sync && ::fstat(fd, &info) == 0 && S_ISDIR(info.st_mode))
    std::exchange(g_before_directory_sync, {})();
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::mapped_memory_of;
using test::write_file;

struct LoadWith {
  bool cached = true;
  DatasetProgressCallback on_progress = {};
  std::stop_token stop = {};
};

class CachedDataset : public testing::TestWithParam<bool> {
 protected:
  static bool is_text() { return GetParam(); }

  std::unique_ptr<Dataset> load(const LoadWith& options = {}) const {
    const fs::path cache = options.cached ? dir_ / "deep/cache" : fs::path();
    if (is_text())
      return std::make_unique<TextDataset>(TextDataset::from_file(
          data(), tokenizer_,
          {.cache_dir = cache, .on_progress = options.on_progress, .stop = options.stop}));
    return std::make_unique<JsonlDataset>(JsonlDataset::from_file(
        data(), tokenizer_,
        {.max_length = 1024, .cache_dir = cache, .on_progress = options.on_progress, .stop = options.stop}));
  }

  fs::path data() const { return dir_ / "data"; }
  /// At least `bytes`: lines, between which there are blanks where there is more than one. In small pieces, so that the system
  /// has no reason to keep the file in large ones.
  void write_data(std::int64_t bytes = 1) const {
    const std::string line = is_text() ? "abc" : R"({"text": "abc"})";
    const std::string part = std::string(bytes > 1 ? 4000 : 0, ' ') + '\n' + line + '\n';
    std::ofstream out(data(), std::ios::binary);
    for (std::int64_t written = 0; written < bytes; written += std::ssize(part)) out << part;
  }
  fs::path cache() const {
    const fs::path directory = dir_ / "deep/cache";
    const std::vector<fs::directory_entry> files{fs::directory_iterator(directory), {}};
    EXPECT_EQ(files.size(), 1u);
    return files.empty() ? fs::path() : files.front().path();
  }

  const test::TempDir dir_;
  const ByteBpe tokenizer_{test::small_bpe_model({{"a", "b"}})};
};

INSTANTIATE_TEST_SUITE_P(Of, CachedDataset, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Text" : "Lines"; });

TEST_P(CachedDataset, CanBeStoppedWhileItIsRead) {
  write_data();
  load();
  std::stop_source source;
  source.request_stop();
  expect_error<CancelledError>([&] { load({.stop = source.get_token()}); }, {"data]", "stopped"});
}

TEST_P(CachedDataset, IsWhatWasWrittenWhateverBecomesOfTheFileMeanwhile) {
  write_data();
  const std::uint64_t expected = load({.cached = false})->fingerprint();
  for (const bool removed : {true, false}) {
    fs::remove_all(dir_ / "deep");
    g_before_directory_sync = [&] {
      const fs::path file = cache();
      fs::remove(file);
      if (!removed) write_file(file, "of another process");
    };
    EXPECT_EQ(load()->fingerprint(), expected);
    EXPECT_FALSE(g_before_directory_sync);
    EXPECT_TRUE(fs::exists(dir_ / "deep/cache"));
    g_before_directory_sync = {};
  }
}

TEST_P(CachedDataset, CanBeReadWhereTheOldFileCouldNot) {
  write_data();
  load();
  write_file(cache(), "damaged");
  fs::permissions(cache(), fs::perms::owner_write);
  load();
  EXPECT_EQ(fs::status(cache()).permissions(), fs::status(data()).permissions());  // those of the umask
}

TEST_P(CachedDataset, IsNotMadeOfAFileThatChangesMeanwhile) {
  write_data();
  const auto overwrite = [&](const DatasetProgress&) {
    std::fstream file(data(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(fs::file_size(data())) - 1);
    file << ' ';
  };
  expect_error<IoError>([&] { load({.on_progress = overwrite}); }, {"data]", "changed while it was encoded"});
  EXPECT_FALSE(fs::exists(dir_ / "deep"));
  EXPECT_NO_THROW(load());
}

TEST_P(CachedDataset, LeavesNoDirectoryWhereItFails) {
  write_data();
  std::stop_source source;
  const auto stop = [&](const DatasetProgress&) { source.request_stop(); };
  expect_error<CancelledError>([&] { load({.on_progress = stop, .stop = source.get_token()}); }, {"data]"});
  EXPECT_FALSE(fs::exists(dir_ / "deep"));
  fs::create_directory(dir_ / "deep");
  write_file(data(), is_text() ? "a" : "{\"text\": 3}\n");
  if (!is_text()) {
    expect_error<FormatError>([&] { load(); }, {"data:1]"});
    EXPECT_TRUE(fs::is_empty(dir_ / "deep"));
  }
}

TEST_P(CachedDataset, HoldsAPieceOfTheFileInMemory) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  constexpr std::int64_t kBytes = 24 << 20;
  constexpr std::int64_t kBound = 6 << 20;  // where the system maps pages of 2 MiB
  const ThreadLimit alone(1);
  write_data(kBytes);
  for (const bool cached : {false, true}) {
    std::int64_t early = 0, late = 0;
    load({.cached = cached, .on_progress = [&](const DatasetProgress& progress) {
            std::int64_t& most = progress.done_bytes < kBytes / 4 ? early : late;
            most = std::max(most, mapped_memory_of(data()));
          }});
    EXPECT_LT(late, kBound);
    EXPECT_LT(late, early + (64 << 10));  // nothing is left on the way
  }
  // The next time: the file and the cache are looked at whole.
  const auto dataset = load();
  EXPECT_LT(mapped_memory_of(cache()), kBound);
}

// A cache is read in place of encoding. Where this library makes other tokens of this text, kTokenCache needs another version,
// and this test what is found then.
TEST(TokenCache, HasAnotherVersionWhenATextBecomesOtherTokens) {
  const test::TempDir dir;
  write_file(dir / "f", "\xEF\xBB\xBFIt's  ab,\tab 12\u00e9<eos>\r\n\n ab  \xFF");
  ByteBpeModel model = test::small_bpe_model({{"a", "b"}, {" ", "ab"}});
  model.added_tokens = {{.content = "<eos>"}};
  const ByteBpe tokenizer(std::move(model));
  Fingerprint all;
  for (const bool special : {false, true})
    all.add(TextDataset::from_file(dir / "f", tokenizer, {.parse_special_tokens = special}).fingerprint());
  EXPECT_EQ(kTokenCache.version, 2u);
  EXPECT_EQ(all.value(), 15072872745920130903u);
}

}  // namespace
}  // namespace gpt
