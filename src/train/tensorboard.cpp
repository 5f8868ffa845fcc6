#include "gpt/train/tensorboard.h"

#include <unistd.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <string>

#include "core/append_file.h"
#include "core/crc32c.h"
#include "core/directory.h"
#include "core/memory.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i)
    bytes += static_cast<char>(static_cast<std::uint8_t>(value >> (8 * i)));
  return bytes;
}

/// A protocol buffer, field by field (protobuf.dev/programming-guides/encoding).
class Message {
 public:
  Message& integer(unsigned field, std::int64_t value) {
    return key(field, 0).varint(static_cast<std::uint64_t>(value));
  }
  Message& number(unsigned field, double value) {
    return key(field, 1).append(little_endian(std::bit_cast<std::uint64_t>(value)));
  }
  Message& number(unsigned field, float value) {
    return key(field, 5).append(little_endian(std::bit_cast<std::uint32_t>(value)));
  }
  Message& text(unsigned field, std::string_view value) {
    return key(field, 2).varint(value.size()).append(value);
  }
  const std::string& bytes() const noexcept { return bytes_; }

 private:
  Message& key(unsigned field, unsigned wire_type) { return varint(field << 3 | wire_type); }
  Message& varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(static_cast<std::uint8_t>(value | 0x80));
    bytes_ += static_cast<char>(value);
    return *this;
  }
  Message& append(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }

  std::string bytes_;
};

// Fields of event.proto and summary.proto.
constexpr unsigned kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;  // of Event
constexpr unsigned kValue = 1;                                                                 // of Summary
constexpr unsigned kTag = 1, kSimpleValue = 2;  // of Summary.Value
constexpr unsigned kStatus = 1;                 // of SessionLog
constexpr std::int64_t kStart = 1;

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Message event_now() { return Message().number(kWallTime, unix_time()); }

/// Masked, since records that hold checksums of their own are bad for a CRC.
std::string checksum(std::string_view bytes) {
  const std::uint32_t crc = crc32c(bytes);
  return little_endian(std::rotr(crc, 15) + 0xA282EAD8u);
}

std::string record_of(const Message& event) {
  const std::string length = little_endian(std::uint64_t{event.bytes().size()});
  return concat(length, checksum(length), event.bytes(), checksum(event.bytes()));
}

std::string file_name() {
  static std::atomic<unsigned> counter{0};
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') host[0] = '-';
  return concat("events.out.tfevents.", static_cast<std::int64_t>(unix_time()), ".", std::string_view(host),
                ".", ::getpid(), ".", counter++);
}

}  // namespace

TensorBoardWriter::TensorBoardWriter(std::filesystem::path directory, bool resumes)
    : directory_(std::move(directory)), resumes_(resumes) {}
TensorBoardWriter::~TensorBoardWriter() = default;

void TensorBoardWriter::add(std::int64_t step,
                            std::initializer_list<std::pair<std::string_view, double>> scalars) try {
  begin(step);
  Message summary;
  for (const auto& [tag, value] : scalars)
    summary.text(kValue, Message().text(kTag, tag).number(kSimpleValue, static_cast<float>(value)).bytes());
  file_->append(record_of(event_now().integer(kStep, step).text(kSummary, summary.bytes())));
} catch (...) {
  rethrow_with_memory_errors(directory_.native());
}

void TensorBoardWriter::add(const TrainingLog& log) {
  add(log.step, {{"train/loss", log.loss},
                 {"train/grad_norm", log.grad_norm},
                 {"train/learning_rate", log.learning_rate},
                 {"train/epoch", log.epoch},
                 {"train/tokens_per_s", log.tokens_per_s}});
}

void TensorBoardWriter::add(const EvaluationLog& log) try {
  begin(log.step + 1);  // the updates that it judges were recorded before
  if (log.metrics.empty())
    return add(
        log.step,
        {{"eval/loss", log.eval_loss}, {"eval/perplexity", log.perplexity}, {"train/epoch", log.epoch}});
  add(log.step, {{"eval/loss", log.eval_loss}, {"train/epoch", log.epoch}});
  for (const auto& [name, value] : log.metrics) add(log.step, {{concat("eval/", name), value}});
} catch (...) {
  rethrow_with_memory_errors(directory_.native());
}

void TensorBoardWriter::begin(std::int64_t step) {
  if (file_ != nullptr) return;
  make_directory(directory_);
  auto file = std::make_unique<AppendFile>(directory_ / file_name());
  file->append(record_of(event_now().text(kFileVersion, "brain.Event:2")));
  if (resumes_)
    file->append(record_of(
        event_now().integer(kStep, step).text(kSessionLog, Message().integer(kStatus, kStart).bytes())));
  file_ = std::move(file);
}

}  // namespace gpt
