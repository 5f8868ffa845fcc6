// TensorBoard's event files, read by a reader of the test's own: records, checksums and messages as TensorFlow documents them.
#include "gpt/train/tensorboard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "support/expect_error.h"
#include "support/file_size_limit.h"
#include "support/temp_dir.h"

namespace gpt::test {
namespace {

namespace fs = std::filesystem;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

// Castagnoli's polynomial bit by bit, then masked.
std::uint32_t masked_crc(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

template <class T>
T take(std::string_view& bytes) {
  T value;
  if (bytes.size() < sizeof value) throw std::runtime_error("cut short");
  std::memcpy(&value, bytes.data(), sizeof value);  // the tests run on little-endian machines
  bytes.remove_prefix(sizeof value);
  return value;
}

std::string_view take(std::string_view& bytes, std::size_t size) {
  if (bytes.size() < size) throw std::runtime_error("cut short");
  const std::string_view taken = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return taken;
}

std::uint64_t take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = take<unsigned char>(bytes);
    value |= std::uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return value;
  }
}

// The fields of a message, each with the bytes of its value (a varint as eight).
std::multimap<std::uint64_t, std::string> fields(std::string_view message) {
  std::multimap<std::uint64_t, std::string> all;
  while (!message.empty()) {
    const std::uint64_t key = take_varint(message);
    std::string value;
    switch (key & 7) {
      case 0: {
        const std::uint64_t number = take_varint(message);
        value.assign(reinterpret_cast<const char*>(&number), sizeof number);
        break;
      }
      case 1: value = take(message, 8); break;
      case 2: value = take(message, take_varint(message)); break;
      case 5: value = take(message, 4); break;
      default: throw std::runtime_error("unknown wire type");
    }
    all.emplace(key >> 3, value);
  }
  return all;
}

template <class T>
T as(std::string_view bytes) {
  const T value = take<T>(bytes);
  if (!bytes.empty()) throw std::runtime_error("a value of another size");
  return value;
}

struct Event {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string file_version;
  bool session_start = false;
  std::map<std::string, float> values;
};

Event parse_event(std::string_view message) {
  Event event;
  for (const auto& [field, bytes] : fields(message)) switch (field) {
      case 1: event.wall_time = as<double>(bytes); break;
      case 2: event.step = as<std::int64_t>(bytes); break;
      case 3: event.file_version = bytes; break;
      case 5:
        for (const auto& [number, value] : fields(bytes)) {
          EXPECT_EQ(number, 1u);
          const auto parts = fields(value);
          event.values[parts.find(1)->second] = as<float>(parts.find(2)->second);
        }
        break;
      case 7: event.session_start = as<std::uint64_t>(fields(bytes).find(1)->second) == 1; break;
      default: ADD_FAILURE() << "field " << field;
    }
  return event;
}

std::vector<Event> read_events(const fs::path& path) {
  const std::string content = read_file(path);
  std::string_view rest = content;
  std::vector<Event> events;
  while (!rest.empty()) {
    const std::string_view length = rest.substr(0, 8);
    const auto size = take<std::uint64_t>(rest);
    EXPECT_EQ(take<std::uint32_t>(rest), masked_crc(length));
    const std::string_view message = take(rest, size);
    EXPECT_EQ(take<std::uint32_t>(rest), masked_crc(message));
    events.push_back(parse_event(message));
  }
  return events;
}

std::vector<fs::path> files_in(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) files.push_back(entry.path());
  return files;
}

constexpr TrainingLog kLog{
    .step = 300, .epoch = 1.5, .loss = 2.25, .grad_norm = 0.5, .learning_rate = 5e-5, .tokens_per_s = 1000};

TEST(TensorBoard, WritesTheTagsOfTransformers) {
  const TempDir dir;
  TensorBoardWriter writer(dir / "runs");
  EXPECT_FALSE(fs::exists(dir / "runs"));  // before there is something to say
  writer.add(kLog);
  writer.add({.step = 300, .epoch = 1.5, .eval_loss = 2, .perplexity = 7.5});
  writer.add(std::int64_t{1} << 40, {{"mine", -1}});
  const auto files = files_in(dir / "runs");
  ASSERT_EQ(files.size(), 1u);
  EXPECT_THAT(files[0].filename().string(),
              testing::MatchesRegex(R"(events\.out\.tfevents\.[0-9]{10}\..+\.[0-9]+\.[0-9]+)"));
  const std::vector<Event> events = read_events(files[0]);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_TRUE(events[0].values.empty());
  EXPECT_EQ(events[1].step, 300);
  EXPECT_GT(events[1].wall_time, 1.6e9);
  EXPECT_GE(events[2].wall_time, events[1].wall_time);
  EXPECT_THAT(events[1].values,
              UnorderedElementsAre(Pair("train/loss", 2.25f), Pair("train/grad_norm", 0.5f),
                                   Pair("train/learning_rate", 5e-5f), Pair("train/epoch", 1.5f),
                                   Pair("train/tokens_per_s", 1000.0f)));
  EXPECT_EQ(events[2].step, 300);
  EXPECT_THAT(events[2].values, UnorderedElementsAre(Pair("eval/loss", 2.0f), Pair("eval/perplexity", 7.5f),
                                                     Pair("train/epoch", 1.5f)));
  EXPECT_EQ(events[3].step, std::int64_t{1} << 40);
  EXPECT_THAT(events[3].values, UnorderedElementsAre(Pair("mine", -1.0f)));
}

TEST(TensorBoard, TakesBackWhatAKilledRunRecordedAfterItsCheckpoint) {
  const TempDir dir;
  TensorBoardWriter(dir.path(), true).add(kLog);
  std::vector<Event> events = read_events(files_in(dir.path()).at(0));
  ASSERT_EQ(events.size(), 3u);
  EXPECT_TRUE(events[1].session_start);
  EXPECT_EQ(events[1].step, 300);
  const TempDir other;
  TensorBoardWriter(other.path(), true).add(EvaluationLog{.step = 300});
  events = read_events(files_in(other.path()).at(0));
  EXPECT_TRUE(events.at(1).session_start);
  EXPECT_EQ(events[1].step, 301);  // the updates up to 300 keep their record
}

TEST(TensorBoard, GivesEveryWriterAFileOfItsOwn) {
  const TempDir dir;
  TensorBoardWriter one(dir.path()), two(dir.path());
  one.add(kLog);
  two.add(kLog);
  EXPECT_EQ(files_in(dir.path()).size(), 2u);
}

TEST(TensorBoard, EndsWithAWholeRecordOnAFullDisk) {
  const TempDir dir;
  const int outcome = with_file_size_limit(300, [&] {
    TensorBoardWriter writer(dir.path());
    writer.add(kLog);
    return static_cast<int>(outcome_of([&] { writer.add(kLog); }, "events.out.tfevents."));
  });
  EXPECT_EQ(outcome, kIoErrorNamingTheFile);
  EXPECT_EQ(read_events(files_in(dir.path()).at(0)).size(), 2u);
}

TEST(TensorBoard, NamesTheDirectoryThatCannotBeMade) {
  const TempDir dir;
  write_file(dir / "runs", "a file");
  expect_error<IoError>([&] { TensorBoardWriter(dir / "runs").add(kLog); },
                        {"runs", "cannot create the directory"});
}

}  // namespace
}  // namespace gpt::test
