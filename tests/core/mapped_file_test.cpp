#include "gpt/core/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <string_view>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::TempDir;
using test::write_file;
using Mode = MappedFile::Mode;

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, HoldsTheBytes) {
  const TempDir dir;
  for (const std::string& content :
       {std::string(), std::string("x"), std::string("a\0b\n", 4), std::string(100'000, 'q')}) {
    write_file(dir / "f", content);
    for (const Mode mode : {Mode::kMap, Mode::kRead}) {
      const MappedFile file(dir / "f", mode);
      EXPECT_EQ(text_of(file), content);
      EXPECT_EQ(file.path(), dir / "f");
    }
    EXPECT_EQ(read_text_file(dir / "f"), content);
  }
}

TEST(MappedFile, HoldsTextWithoutTheByteOrderMarkThatStandsBeforeIt) {
  const TempDir dir;
  const std::string mark = "\xEF\xBB\xBF";
  for (const std::string& content : {std::string(), std::string("a\n"), "b" + mark, std::string("\xEF\xBB")})
    for (const std::string& before : {std::string(), mark}) {
      write_file(dir / "f", before + content);
      for (const Mode mode : {Mode::kMap, Mode::kRead}) {
        const MappedFile file(dir / "f", mode);
        EXPECT_EQ(file.text(), content);
        EXPECT_EQ(file.bytes().size(), before.size() + content.size());
      }
      EXPECT_EQ(read_text_file(dir / "f"), content);
    }
  EXPECT_EQ(without_byte_order_mark(mark + mark + "c"), mark + "c");
}

TEST(MappedFile, HoldsNoTextInUtf16) {
  const TempDir dir;
  for (const std::string_view mark : {"\xFF\xFE", "\xFE\xFF"}) {
    write_file(dir / "f", std::string(mark) + "a");
    expect_error<FormatError>([&] { static_cast<void>(MappedFile(dir / "f").text()); }, {"f]", "UTF-16"});
    expect_error<FormatError>([&] { read_text_file(dir / "f"); }, {"f]", "UTF-16"});
    EXPECT_EQ(MappedFile(dir / "f").bytes().size(), 3u);
    write_file(dir / "f", std::string(mark.substr(0, 1)) + "a");
    EXPECT_EQ(MappedFile(dir / "f").text().size(), 2u);
  }
}

TEST(MappedFile, WritingToItDoesNotChangeTheFile) {
  const TempDir dir;
  write_file(dir / "f", "content");
  for (const Mode mode : {Mode::kMap, Mode::kRead}) {
    const MappedFile file(dir / "f", mode);
    file.bytes()[0] = std::byte{'X'};
    EXPECT_EQ(text_of(file), "Xontent");
    EXPECT_EQ(test::read_file(dir / "f"), "content");
  }
}

TEST(MappedFile, OwnerKeepsTheBytes) {
  const TempDir dir;
  write_file(dir / "f", "content");
  std::shared_ptr<const void> owner;
  std::string_view text;
  {
    const MappedFile file(dir / "f");
    owner = file.owner();
    text = text_of(file);
  }
  std::filesystem::remove(dir / "f");
  EXPECT_EQ(text, "content");
}

TEST(MappedFile, NamesWhatCannotBeRead) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "folder");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  for (const Mode mode : {Mode::kMap, Mode::kRead}) {
    expect_error<IoError>([&] { MappedFile(dir / "missing", mode); }, {"missing]", "cannot open"});
    expect_error<IoError>([&] { MappedFile(dir / "folder", mode); }, {"folder]", "directory"});
    expect_error<IoError>([&] { MappedFile(dir / "pipe", mode); }, {"pipe]", "regular"});
    expect_error<IoError>([&] { MappedFile("", mode); }, {"cannot open"});
  }
  expect_error<IoError>([&] { read_text_file(dir / "missing"); }, {"missing]", "cannot open"});
  expect_error<IoError>([&] { read_text_file(dir / "folder"); }, {"folder]", "directory"});
  expect_error<IoError>([&] { read_text_file(dir / "pipe"); }, {"pipe]", "regular"});
}

}  // namespace
}  // namespace gpt
