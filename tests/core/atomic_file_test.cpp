#include "gpt/core/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/io/safetensors.h"
#include "support/expect_error.h"
#include "support/file_size_limit.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::kIoErrorNamingTheFile;
using test::outcome_of;
using test::read_file;
using test::TempDir;
using test::with_file_size_limit;
using test::write_file;
using testing::ElementsAreArray;
using testing::IsEmpty;

std::vector<std::string> files_in(const TempDir& dir) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(dir.path()))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

mode_t mode_of(const fs::path& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0);
  return info.st_mode & 07777;
}

TEST(AtomicFile, ReplacesOnlyAtCommit) {
  const TempDir dir;
  write_file(dir / "f", "old");
  {
    AtomicFile file(dir / "f");
    file.write("new ");
    file.write(std::string_view());
    file.write("content");
    EXPECT_EQ(read_file(dir / "f"), "old");
    file.commit();
  }
  EXPECT_EQ(read_file(dir / "f"), "new content");
  EXPECT_THAT(files_in(dir), ElementsAreArray({"f"}));
}

TEST(AtomicFile, WithoutCommitLeavesEverythingAsItWas) {
  const TempDir dir;
  write_file(dir / "f", "old");
  {
    AtomicFile replaced(dir / "f"), fresh(dir / "g");
    replaced.write("new");
    fresh.write("new");
  }
  EXPECT_EQ(read_file(dir / "f"), "old");
  EXPECT_THAT(files_in(dir), ElementsAreArray({"f"}));
}

TEST(AtomicFile, WritersOfOneFileDoNotMix) {
  const TempDir dir;
  AtomicFile first(dir / "f"), second(dir / "f");
  first.write("first");
  second.write("second");
  first.commit();
  EXPECT_EQ(read_file(dir / "f"), "first");
  second.commit();
  EXPECT_EQ(read_file(dir / "f"), "second");
}

TEST(AtomicFile, CannotBeUsedAfterCommit) {
  const TempDir dir;
  AtomicFile file(dir / "f");
  file.commit();
  expect_error<IoError>([&] { file.write("x"); }, {"f]", "after commit"});
  expect_error<IoError>([&] { file.commit(); }, {"f]", "after commit"});
  EXPECT_EQ(read_file(dir / "f"), "");
}

TEST(AtomicFile, KeepsTheModeOfTheOldFileAndGivesANewOneTheUmasks) {
  const TempDir dir;
  write_file(dir / "plain", "");  // made by open() with the umask
  write_file(dir / "secret", "old");
  fs::permissions(dir / "secret", fs::perms::owner_read | fs::perms::owner_write);
  write_file_atomically(dir / "fresh", "x");
  write_file_atomically(dir / "secret", "x");
  EXPECT_EQ(mode_of(dir / "fresh"), mode_of(dir / "plain"));
  EXPECT_EQ(mode_of(dir / "secret"), 0600u);
}

TEST(AtomicFile, GivesANewOneTheUmasksModeWhenAsked) {
  const TempDir dir;
  write_file(dir / "plain", "");
  write_file(dir / "f", "old");
  fs::permissions(dir / "f", fs::perms::owner_write);
  AtomicFile file(dir / "f", AtomicFile::Permissions::kOfUmask);
  file.commit();
  EXPECT_EQ(mode_of(dir / "f"), mode_of(dir / "plain"));
}

TEST(AtomicFile, GivesWhatWasWrittenMapped) {
  const TempDir dir;
  for (const std::string& content : {std::string(), std::string("content"), std::string(100'000, 'x')}) {
    AtomicFile file(dir / "f");
    file.write(content);
    const MappedFile mapped = file.commit_and_map();
    EXPECT_EQ(read_file(dir / "f"), content);
    write_file_atomically(dir / "f", "another's");
    EXPECT_EQ(mapped.text(), content);
    EXPECT_EQ(mapped.path(), dir / "f");
    expect_error<IoError>([&] { file.write("x"); }, {"f]", "after commit"});
    expect_error<IoError>([&] { file.commit_and_map(); }, {"f]", "after commit"});
    EXPECT_THAT(files_in(dir), ElementsAreArray({"f"}));
  }
}

TEST(AtomicFile, ReplacesALinkAndLeavesWhatItPointsTo) {
  const TempDir dir;
  fs::create_directory(dir / "blobs");
  write_file(dir / "blobs/f", "old");
  for (const char* name : {"f", "dangling"}) {
    fs::create_symlink(fs::path("blobs") / name, dir / name);
    write_file_atomically(dir / name, "new");
    EXPECT_FALSE(fs::is_symlink(dir / name));
    EXPECT_EQ(read_file(dir / name), "new");
  }
  EXPECT_EQ(read_file(dir / "blobs/f"), "old");
  EXPECT_FALSE(fs::exists(dir / "blobs/dangling"));

  fs::create_symlink("blobs", dir / "folder");
  expect_error<IoError>([&] { write_file_atomically(dir / "folder", "x"); }, {"folder]", "directory"});
}

TEST(AtomicFile, WritesIntoTheWorkingDirectoryAndUnderLongNames) {
  const TempDir dir;
  const std::string long_name(255, 'n');
  write_file_atomically(dir / long_name, "x");
  EXPECT_EQ(read_file(dir / long_name), "x");
  const fs::path before = fs::current_path();
  fs::current_path(dir.path());
  write_file_atomically("bare", "y");
  fs::current_path(before);
  EXPECT_EQ(read_file(dir / "bare"), "y");
}

TEST(AtomicFile, NamesATargetThatCannotBeWritten) {
  const TempDir dir;
  write_file(dir / "file", "");
  fs::create_directory(dir / "folder");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  expect_error<IoError>([&] { AtomicFile f(dir / "missing/f"); }, {"missing/f]"});
  expect_error<IoError>([&] { AtomicFile f(dir / "file/f"); }, {"file/f]"});
  expect_error<IoError>([&] { AtomicFile f(dir / "folder"); }, {"folder]", "directory"});
  expect_error<IoError>([&] { AtomicFile f(dir / "pipe"); }, {"pipe]", "regular"});
  expect_error<IoError>([&] { AtomicFile f("/dev/null"); }, {"/dev/null]", "regular"});
  expect_error<IoError>([&] { AtomicFile f{fs::path()}; }, {});
  expect_error<IoError>([&] { AtomicFile f("/proc/gpt-no-such-file"); }, {"/proc/gpt-no-such-file]"});
  EXPECT_THAT(files_in(dir), ElementsAreArray({"file", "folder", "pipe"}));
}

TEST(AtomicFile, FullDiskKeepsTheOldFileAndLeavesNoTemporary) {
  const TempDir dir;
  const std::vector<float> values(100'000, 1.0f);
  const ConstTensorView tensor(values.data(), Shape{100'000});
  save_safetensors(dir / "f", std::vector<NamedTensor>{{"small", ConstTensorView(values.data(), Shape{10})}});
  const std::string before = read_file(dir / "f");
  for (const rlim_t limit :
       {rlim_t{0}, rlim_t{50}, rlim_t{100'000}}) {  // in the length, the header, the data
    const auto save = [&] { save_safetensors(dir / "f", std::vector<NamedTensor>{{"w", tensor}}); };
    EXPECT_EQ(with_file_size_limit(limit, [&] { return outcome_of(save, (dir / "f").string()); }),
              kIoErrorNamingTheFile);
    EXPECT_EQ(read_file(dir / "f"), before);
    EXPECT_THAT(files_in(dir), ElementsAreArray({"f"}));
  }
}

TEST(AtomicFile, CannotBeCommittedAfterAFailedWrite) {
  const TempDir dir;
  EXPECT_EQ(with_file_size_limit(10,
                                 [&] {
                                   AtomicFile file(dir / "f");
                                   const auto write = [&] { file.write(std::string(100, 'x')); };
                                   const auto commit = [&] { file.commit(); };
                                   if (outcome_of(write, "f]") != kIoErrorNamingTheFile) return 1;
                                   if (!files_in(dir).empty()) return 2;
                                   if (outcome_of(commit, "f]") != kIoErrorNamingTheFile) return 3;
                                   return 0;
                                 }),
            0);
  EXPECT_THAT(files_in(dir), IsEmpty());
}

TEST(AtomicFile, ReadersSeeTheOldOrTheNewFileNeverAPart) {
  const TempDir dir;
  const std::string a(50'000, 'a'), b(70'000, 'b');
  write_file_atomically(dir / "f", a);
  std::thread writer([&] {
    for (int i = 0; i < 50; ++i) write_file_atomically(dir / "f", i % 2 == 0 ? b : a);
  });
  bool whole = true;
  for (int i = 0; i < 200; ++i) {
    const std::string seen = read_file(dir / "f");
    whole = whole && (seen == a || seen == b);
  }
  writer.join();
  EXPECT_TRUE(whole);
}

TEST(AtomicFile, OfAKilledProcessIsSweptAway) {
  const TempDir dir;
  const std::vector<std::string> others{"f",
                                        ".tmp-1-2",
                                        "f.tmp-1-2",
                                        ".f.tmp-1",
                                        ".f.tmp-1-",
                                        ".f.tmp--2",
                                        ".f.tmp-1-x",
                                        ".f.tmp-x-1",
                                        ".f.tmp-",
                                        ".f.tmp-1-2.old.old",
                                        ".f.tmp",
                                        ".f.tmp-1-2-3",
                                        ".f.tmp-1-2.gz",
                                        ".f.tmp-1-2.tmp-",
                                        "f.tmp-1-2.old",
                                        ".f.tmp-1-2old"};
  for (const std::string& name : others) write_file(dir / name, "");
  const std::vector<std::string> temporaries{".f.tmp-1-2", ".f.samples.tmp-1234567-0", ".f.tmp-1-2.tmp-3-4",
                                             ".f.tmp-1-2.old", ".f.old.tmp-3-4.old"};
  for (const std::string& name : temporaries) write_file(dir / name, "");
  fs::create_directory(dir / ".d.tmp-1-2");
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile file(dir / "mine");
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(files_in(dir).size(), others.size() + temporaries.size() + 2);
  remove_temporaries(dir.path());
  std::vector<std::string> stay = others;
  stay.push_back(".d.tmp-1-2");
  EXPECT_THAT(files_in(dir), testing::UnorderedElementsAreArray(stay));
  EXPECT_NO_THROW(remove_temporaries(dir / "none"));
  EXPECT_NO_THROW(remove_temporaries(dir / "f"));
}

TEST(AtomicFiles, ChangeTogetherAtCommit) {
  const TempDir dir;
  write_file(dir / "a", "old a");
  write_file(dir / "stale", "old");
  {
    AtomicFiles files;
    PendingFile& a = files.add(dir / "a");
    files.add(dir / "b").write("new b");
    a.write("new a");
    files.remove(dir / "stale");
    files.remove(dir / "never there");
    EXPECT_EQ(read_file(dir / "a"), "old a");
    EXPECT_FALSE(fs::exists(dir / "b"));
    EXPECT_TRUE(fs::exists(dir / "stale"));
    files.commit();
  }
  EXPECT_EQ(read_file(dir / "a"), "new a");
  EXPECT_EQ(read_file(dir / "b"), "new b");
  EXPECT_THAT(files_in(dir), ElementsAreArray({"a", "b"}));
}

TEST(AtomicFiles, WithoutCommitLeaveEverythingAsItWas) {
  const TempDir dir;
  write_file(dir / "a", "old a");
  {
    AtomicFiles files;
    files.add(dir / "a").write("new a");
    files.add(dir / "b").write("new b");
    files.remove(dir / "a");
  }
  EXPECT_EQ(read_file(dir / "a"), "old a");
  EXPECT_THAT(files_in(dir), ElementsAreArray({"a"}));
}

TEST(AtomicFiles, AMoveThatIsRefusedTakesBackThoseBefore) {
  const TempDir dir;
  write_file(dir / "a", "old a");
  AtomicFiles files;
  files.add(dir / "a").write("new a");
  files.add(dir / "b").write("new b");
  files.add(dir / "c").write("new c");
  fs::create_directory(dir / "c");  // in its place meanwhile
  test::expect_error<IoError>([&] { files.commit(); }, {"/c", "cannot be replaced"});
  EXPECT_EQ(read_file(dir / "a"), "old a");
  EXPECT_THAT(files_in(dir), ElementsAreArray({"a", "c"}));
}

// A process that was killed while its files took their names leaves them; a later one may have its id.
TEST(AtomicFiles, AMoveThatIsRefusedTakesBackThoseBeforeBesideWhatAKilledProcessLeft) {
  const TempDir dir;
  write_file(dir / "a", "old a");
  AtomicFiles files;
  files.add(dir / "a").write("new a");
  const std::vector<std::string> names = files_in(dir);  // the temporary and its target
  ASSERT_EQ(names.size(), 2u);
  const std::string stale = names.front() + ".old";
  write_file(dir / stale, "a killed process's");
  files.add(dir / "b").write("new b");
  fs::create_directory(dir / "b");  // in its place meanwhile
  test::expect_error<IoError>([&] { files.commit(); }, {"/b", "cannot be replaced"});
  EXPECT_EQ(read_file(dir / "a"), "old a");
  EXPECT_EQ(read_file(dir / stale), "a killed process's");
  EXPECT_THAT(files_in(dir), ElementsAreArray({stale, std::string("a"), std::string("b")}));
}

TEST(AtomicFiles, CommittedBesideWhatAKilledProcessLeftLeaveNoMore) {
  const TempDir dir;
  write_file(dir / "a", "old a");
  AtomicFiles files;
  files.add(dir / "a").write("new a");
  const std::string stale = files_in(dir).front() + ".old";
  write_file(dir / stale, "a killed process's");
  files.commit();
  EXPECT_EQ(read_file(dir / "a"), "new a");
  EXPECT_THAT(files_in(dir), ElementsAreArray({stale, std::string("a")}));
}

TEST(AtomicFiles, FullDiskInTheLastOneKeepsAllOldFilesAndLeavesNoTemporary) {
  const TempDir dir;
  write_file(dir / "a", "old a");
  write_file(dir / "b", "old b");
  const auto save = [&] {
    AtomicFiles files;
    PendingFile &a = files.add(dir / "a"), &b = files.add(dir / "b");
    a.write(std::string(1000, 'a'));
    b.write(std::string(3000, 'b'));
    files.commit();
  };
  EXPECT_EQ(with_file_size_limit(2000, [&] { return outcome_of(save, (dir / "b").string()); }),
            kIoErrorNamingTheFile);
  EXPECT_EQ(read_file(dir / "a"), "old a");
  EXPECT_EQ(read_file(dir / "b"), "old b");
  EXPECT_THAT(files_in(dir), ElementsAreArray({"a", "b"}));
}

TEST(AtomicFiles, RefuseWhatCannotBeReplacedOrRemoved) {
  const TempDir dir;
  fs::create_directory(dir / "folder");
  AtomicFiles files;
  expect_error<IoError>([&] { files.add(dir / "folder"); }, {"folder]", "directory"});
  expect_error<IoError>([&] { files.remove(dir / "folder"); }, {"folder]", "directory"});
  files.add(dir / "f");
  expect_error<IoError>([&] { files.add(dir / "f"); }, {"f]", "twice"});
  // Other ways to the same place.
  fs::create_directory_symlink(dir.path(), dir / "link");
  for (const char* same : {"./f", "folder/../f", "link/f"})
    expect_error<IoError>([&] { files.add(dir / same); }, {"f]", "twice"});
  // And a way to another, which spells like one to the same.
  fs::create_directory(dir / "folder/deep");
  fs::create_directory_symlink("folder/deep", dir / "inner");
  files.add(dir / "inner/../f").write("another");
  files.commit();
  EXPECT_EQ(read_file(dir / "folder/f"), "another");
}

}  // namespace
}  // namespace gpt
