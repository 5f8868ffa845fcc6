#include "train/cache_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stop_token>
#include <string>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "train/cache_bytes.h"

namespace gpt {
namespace {

using test::expect_error;
using test::header;
using test::read_file;
using test::TempDir;
using test::with_sum;
using test::word;
using test::write_file;

constexpr CacheFormat kFormat{"gpttests", 3, ".test"};
constexpr CacheKey kFileKey{.text = 0x1122334455667788u, .encoding = 7};

std::string text_of(const CacheBody& body) {
  return {reinterpret_cast<const char*>(body.bytes.data()), body.bytes.size()};
}

CacheBody write_body(const std::filesystem::path& path, std::string_view body, std::uint32_t width = 2) {
  CacheWriter writer(path, kFormat, kFileKey, width);
  writer.write(std::as_bytes(std::span(body)));
  writer.fill_word();
  return writer.commit();
}

TEST(CacheFile, GivesBackWhatWasWritten) {
  const TempDir dir;
  std::string all;
  CacheWriter writer(dir / "f", kFormat, kFileKey, 4);
  for (std::size_t i = 0; all.size() < 1'000'000;
       i = i * 3 % 70'001 + 1) {  // of all remainders, within and across pieces
    const std::string part(i, static_cast<char>(i));
    writer.write(std::as_bytes(std::span(part)));
    all += part;
  }
  writer.fill_word();
  all.resize((all.size() + 7) / 8 * 8);
  const CacheBody written = writer.commit();
  EXPECT_EQ(text_of(written), all);
  EXPECT_EQ(written.width, 4u);
  const auto read = open_cache(dir / "f", kFormat, kFileKey);
  ASSERT_TRUE(read);
  EXPECT_EQ(text_of(*read), all);
  EXPECT_EQ(read->width, 4u);
  write_body(dir / "f", "other");
  EXPECT_EQ(text_of(*read), all);  // what is mapped stays
}

TEST(CacheFile, IsLaidOutAsDocumented) {
  const TempDir dir;
  for (const int width : {2, 4}) {
    write_body(dir / "f", "0123456789", static_cast<std::uint32_t>(width));
    EXPECT_EQ(read_file(dir / "f"),
              with_sum(header("gpttests", 3, width) + "0123456789" + std::string(6, '\0')));
  }
  write_body(dir / "f", "");
  EXPECT_EQ(read_file(dir / "f"), with_sum(header("gpttests", 3, 2)));
  EXPECT_EQ(text_of(open_cache(dir / "f", kFormat, kFileKey).value()), "");
}

TEST(CacheFile, IsNotUsedWhenAnyByteIsWrongOrMissing) {
  const TempDir dir;
  write_body(dir / "f", "0123456789");
  const std::string good = read_file(dir / "f");
  const auto is_used = [&](const std::string& bytes) {
    write_file(dir / "bad", bytes);
    return open_cache(dir / "bad", kFormat, kFileKey).has_value();
  };
  EXPECT_TRUE(is_used(good));
  for (std::size_t i = 0; i < good.size(); ++i)
    for (const int change : {1, 6, 128, 255}) {  // 6 makes width 2 of 4 and back
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ change);
      EXPECT_FALSE(is_used(bad)) << "byte " << i << " changed by " << change;
    }
  for (std::size_t size = 0; size < good.size(); ++size)
    EXPECT_FALSE(is_used(good.substr(0, size))) << size << " bytes";
  EXPECT_FALSE(is_used(good + std::string(8, '\0')));
  EXPECT_FALSE(is_used(with_sum(good.substr(0, 24))));  // no whole header
  EXPECT_TRUE(is_used(with_sum(header("gpttests", 3, 4) + word(9))));
  for (const int width : {0, 1, 3, 8})
    EXPECT_FALSE(is_used(with_sum(header("gpttests", 3, width) + word(9)))) << width;
}

TEST(CacheFile, IsNotUsedForAnotherTextEncodingOrFormatOrWhenThereIsNone) {
  const TempDir dir;
  write_body(dir / "f", "0123456789");
  const auto is_used = [&](std::string_view name, const CacheFormat& format, const CacheKey& key) {
    return open_cache(dir / name, format, key).has_value();
  };
  EXPECT_TRUE(is_used("f", kFormat, kFileKey));
  EXPECT_FALSE(is_used("f", kFormat, {.text = kFileKey.text + 1, .encoding = kFileKey.encoding}));
  EXPECT_FALSE(is_used("f", kFormat, {.text = kFileKey.text, .encoding = kFileKey.encoding + 1}));
  EXPECT_FALSE(is_used("f", {"gpttests", 4, ".test"}, kFileKey));
  EXPECT_FALSE(is_used("f", {"gptother", 3, ".test"}, kFileKey));
  EXPECT_FALSE(is_used("none", kFormat, kFileKey));
  EXPECT_FALSE(is_used("", kFormat, kFileKey));
}

TEST(CacheFile, CanBeStoppedWhileItIsRead) {
  const TempDir dir;
  write_body(dir / "f", "0123456789");
  std::stop_source source;
  EXPECT_TRUE(open_cache(dir / "f", kFormat, kFileKey, source.get_token()));
  source.request_stop();
  expect_error<CancelledError>([&] { open_cache(dir / "f", kFormat, kFileKey, source.get_token()); },
                               {"f]", "stopped"});
}

TEST(CacheFile, WithoutCommitLeavesTheOldOne) {
  const TempDir dir;
  write_body(dir / "f", "old");
  const std::string before = read_file(dir / "f");
  CacheWriter(dir / "f", kFormat, kFileKey, 2).fill_word();
  EXPECT_EQ(read_file(dir / "f"), before);
  expect_error<IoError>([&] { CacheWriter(dir / "missing/f", kFormat, kFileKey, 2); }, {"missing/f]"});
}

#ifndef GPT_TEST_SANITIZED  // whose own memory has no room below such a limit

/// Runs `work` in a child process that can map a MiB more; whether it throws an IoError that says what cannot be done.
template <class Work>
bool cannot_map(Work work) {
  const pid_t child = ::fork();
  if (child == 0) {
    rlim_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t limit = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (1 << 20);
    const rlimit space{limit, limit};
    if (::setrlimit(RLIMIT_AS, &space) != 0) ::_exit(2);
    try {
      work();
    } catch (const IoError& error) {
      ::_exit(std::string_view(error.what()).find("cannot map") != std::string_view::npos ? 0 : 3);
    } catch (...) {
      ::_exit(4);
    }
    ::_exit(1);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// What was encoded for hours is not encoded again because of it.
TEST(CacheFile, IsThereWhenItCannotBeMapped) {
  const TempDir dir;
  const std::string body(16 << 20, 'x');
  CacheWriter writer(dir / "f", kFormat, kFileKey, 2);
  writer.write(std::as_bytes(std::span(body)));
  EXPECT_TRUE(cannot_map([&] { writer.commit(); }));
  EXPECT_TRUE(cannot_map([&] { open_cache(dir / "f", kFormat, kFileKey); }));
  EXPECT_EQ(text_of(open_cache(dir / "f", kFormat, kFileKey).value()), body);
}

#endif

}  // namespace
}  // namespace gpt
