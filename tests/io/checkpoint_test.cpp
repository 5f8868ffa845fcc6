#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::TempDir;
using test::write_file;
using testing::ElementsAreArray;

// A file in which every tensor is one float of the given value.
void write_shard(const std::filesystem::path& path, const std::vector<std::string>& names, float value) {
  std::vector<NamedTensor> tensors;
  for (const std::string& name : names) tensors.push_back({name, ConstTensorView(&value, Shape{1})});
  save_safetensors(path, tensors, {{"format", "pt"}});
}

float value_of(const Checkpoint& checkpoint, std::string_view name) {
  return checkpoint.tensor(name).data<float>()[0];
}

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

class ShardedCheckpoint : public testing::Test {
 protected:
  ShardedCheckpoint() {
    write_shard(dir / kFirst, {"a", "b"}, 1.0f);
    write_shard(dir / kSecond, {"c"}, 2.0f);
  }
  void write_weight_map(std::string_view entries) {
    write_file(dir / kIndex, concat(R"({"metadata":{"total_size":12},"weight_map":{)", entries, "}}"));
  }
  void expect_refused(std::initializer_list<std::string_view> parts) {
    expect_error<FormatError>([&] { Checkpoint checkpoint(dir.path()); }, parts);
  }
  TempDir dir;
};

TEST(Checkpoint, ReadsASingleFile) {
  const TempDir dir;
  write_shard(dir / "model.safetensors", {"a", "b"}, 3.0f);
  const Checkpoint checkpoint(dir.path());
  EXPECT_THAT(checkpoint.names(), ElementsAreArray({"a", "b"}));
  EXPECT_EQ(value_of(checkpoint, "b"), 3.0f);
  EXPECT_EQ(checkpoint.info("a").shape, Shape{1});
  EXPECT_EQ(checkpoint.metadata(), (Metadata{{"format", "pt"}}));
  EXPECT_EQ(checkpoint.source(), (dir / "model.safetensors").string());
  EXPECT_FALSE(checkpoint.contains("c"));
  expect_error<FormatError>([&] { checkpoint.tensor("c"); }, {"model.safetensors]", "\"c\""});
  expect_error<FormatError>([&] { checkpoint.info("c"); }, {"model.safetensors]", "\"c\""});
}

TEST(Checkpoint, PrefersTheSingleFileAsTransformersDoes) {
  const TempDir dir;
  write_shard(dir / "model.safetensors", {"a"}, 3.0f);
  write_file(dir / kIndex, "not JSON");
  write_file(dir / "pytorch_model.bin", "PK");
  EXPECT_EQ(value_of(Checkpoint(dir.path()), "a"), 3.0f);
}

TEST_F(ShardedCheckpoint, JoinsItsShards) {
  write_weight_map(concat(R"("c":")", kSecond, R"(","b":")", kFirst, R"(","a":")", kFirst, R"(")"));
  for (const auto mode : {MappedFile::Mode::kMap, MappedFile::Mode::kRead}) {
    const Checkpoint checkpoint(dir.path(), mode);
    EXPECT_THAT(checkpoint.names(), ElementsAreArray({"a", "b", "c"}));
    EXPECT_EQ(value_of(checkpoint, "a"), 1.0f);
    EXPECT_EQ(value_of(checkpoint, "c"), 2.0f);
    EXPECT_EQ(checkpoint.source(), (dir / kIndex).string());
    expect_error<FormatError>([&] { checkpoint.tensor("d"); }, {kIndex, "\"d\""});
  }
}

TEST_F(ShardedCheckpoint, ListsItsFiles) {
  write_weight_map(concat(R"("c":")", kSecond, R"(","b":")", kFirst, R"(","a":")", kFirst, R"(")"));
  EXPECT_THAT(Checkpoint(dir.path()).files(), ElementsAreArray({dir / kFirst, dir / kSecond}));
  EXPECT_THAT(sharded_files(dir.path()), ElementsAreArray({dir / kIndex, dir / kFirst, dir / kSecond}));
  write_shard(dir / "model.safetensors", {"a"}, 3.0f);
  EXPECT_THAT(Checkpoint(dir.path()).files(), ElementsAreArray({dir / "model.safetensors"}));
  EXPECT_THAT(sharded_files(dir.path()), ElementsAreArray({dir / kIndex, dir / kFirst, dir / kSecond}));
}

TEST_F(ShardedCheckpoint, ListsNothingThatIsNoShardOfTheDirectory) {
  EXPECT_THAT(sharded_files(dir.path()), testing::IsEmpty());
  write_weight_map(R"("a":"config.json","b":"model.safetensors","c":"folder/part.safetensors")");
  EXPECT_THAT(sharded_files(dir.path()), ElementsAreArray({dir / kIndex}));
  write_weight_map(R"("a":"../part.safetensors")");
  EXPECT_THAT(sharded_files(dir.path()), ElementsAreArray({dir / kIndex}));
  write_file(dir / kIndex, "not JSON");
  EXPECT_THAT(sharded_files(dir.path()), ElementsAreArray({dir / kIndex}));
}

TEST_F(ShardedCheckpoint, TakesTensorsThatTheIndexDoesNotList) {
  write_weight_map(concat(R"("a":")", kFirst, R"(")"));
  EXPECT_THAT(Checkpoint(dir.path()).names(), ElementsAreArray({"a", "b"}));
}

TEST_F(ShardedCheckpoint, TakesShardsInAFolderAndThroughLinks) {
  std::filesystem::create_directory(dir / "weights");
  std::filesystem::create_symlink(dir / kFirst, dir / "weights/link.safetensors");
  write_weight_map(R"("a":"weights/link.safetensors")");
  EXPECT_EQ(value_of(Checkpoint(dir.path()), "a"), 1.0f);
}

TEST_F(ShardedCheckpoint, RefusesATensorThatIsInTwoShards) {
  write_shard(dir / kSecond, {"b", "c"}, 2.0f);
  write_weight_map(concat(R"("a":")", kFirst, R"(","c":")", kSecond, R"(")"));
  expect_refused({kIndex, "\"b\"", kFirst, kSecond});
}

TEST_F(ShardedCheckpoint, RefusesATensorThatIsNotInItsShard) {
  write_weight_map(concat(R"("a":")", kFirst, R"(","b":")", kSecond, R"(")"));
  expect_refused({kIndex, "\"b\"", kSecond});
}

TEST_F(ShardedCheckpoint, NamesAMissingShard) {
  write_weight_map(R"("a":"model-00009.safetensors")");
  expect_error<IoError>([&] { Checkpoint checkpoint(dir.path()); }, {"model-00009.safetensors"});
}

TEST_F(ShardedCheckpoint, RefusesShardsOutsideTheDirectory) {
  const std::string absolute = (dir / kFirst).string();
  for (const std::string& name :
       {absolute, concat("../", dir.path().filename().string(), "/", kFirst), concat("./", kFirst),
        concat("x/../", kFirst), std::string(".."), std::string("."), std::string(""), std::string("x/"),
        concat(kFirst, "\\u0000")}) {
    SCOPED_TRACE(name);
    write_weight_map(concat(R"("a":")", name, R"(")"));
    expect_refused({kIndex, "\"a\"", "inside the directory"});
  }
}

TEST_F(ShardedCheckpoint, RefusesAMalformedIndex) {
  const std::pair<const char*, std::string_view> cases[] = {{"", "not valid JSON"},
                                                            {"{", "not valid JSON"},
                                                            {"[]", "a list"},
                                                            {"{}", "weight_map"},
                                                            {R"({"weight_map":[]})", "a list"},
                                                            {R"({"weight_map":null})", "null"},
                                                            {R"({"weight_map":{}})", "empty"},
                                                            {R"({"weight_map":{"a":1}})", "\"a\""},
                                                            {R"({"weight_map":{"a":"x","a":"x"}})", "twice"}};
  for (const auto& [text, part] : cases) {
    SCOPED_TRACE(text);
    write_file(dir / kIndex, text);
    expect_refused({kIndex, part});
  }
}

TEST(Checkpoint, SaysWhatItLookedFor) {
  const TempDir dir;
  expect_error<IoError>([&] { Checkpoint checkpoint(dir / "missing"); }, {"missing]", "no such directory"});
  expect_error<IoError>([&] { Checkpoint checkpoint(dir.path()); },
                        {dir.path().string(), "model.safetensors", "model.safetensors.index.json"});
  write_file(dir / "file", "");
  expect_error<IoError>([&] { Checkpoint checkpoint(dir / "file"); }, {"file]", "not a directory"});
  expect_error<IoError>([&] { Checkpoint checkpoint(dir / "file/below"); }, {"file/below]"});
}

TEST(Checkpoint, SaysWhatToDoWithPickledWeights) {
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    const TempDir dir;
    write_file(dir / name, "PK");
    expect_error<UnsupportedError>(
        [&] { Checkpoint checkpoint(dir.path()); },
        {dir.path().string(), "pytorch_model.bin", "expected model.safetensors", "gpt-convert"});
  }
}

// As a cache of downloads leaves it when the file itself is deleted.
TEST(Checkpoint, NamesALinkThatLeadsNowhere) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    const TempDir dir;
    std::filesystem::create_symlink("missing", dir / name);
    expect_error<IoError>([&] { Checkpoint checkpoint(dir.path()); },
                          {concat(name, "]"), "cannot open: No such file or directory"});
  }
}

TEST(Checkpoint, NamesADirectoryInTheWeightsPlace) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "model.safetensors");
  expect_error<IoError>([&] { Checkpoint checkpoint(dir.path()); }, {"model.safetensors]", "is a directory"});
}

}  // namespace
}  // namespace gpt
