#include "gpt/train/jsonl_dataset.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "core/fingerprint.h"
#include "core/memory.h"
#include "core/parallel_try.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/parallel.h"
#include "train/dataset_checks.h"
#include "train/jsonl_line.h"

namespace gpt {
namespace {

constexpr std::string_view kJsonl = "JsonlDataset";

struct Line {
  std::string_view text;
  std::int64_t number;  // from 1
};

/// What a line gives: a sample, or none.
struct Outcome {
  MaskedIds sample = {};
  bool truncated = false, dropped = false;
  std::string bad = {};
};

/// The lines of a text that are not blank.
class LineReader {
 public:
  explicit LineReader(std::string_view text) : text_(text) {}

  /// Up to `most` further lines; none at the end.
  std::vector<Line> next(std::size_t most) {
    std::vector<Line> lines;
    while (lines.size() < most && done_ < text_.size()) {
      const std::size_t end = std::min(text_.find('\n', done_), text_.size());
      const std::string_view line = text_.substr(done_, end - done_);
      ++number_;
      if (line.find_first_not_of(" \t\r") != line.npos) lines.push_back({line, number_});
      done_ = std::min(end + 1, text_.size());
    }
    return lines;
  }

  std::size_t done() const noexcept { return done_; }

 private:
  std::string_view text_;
  std::size_t done_ = 0;
  std::int64_t number_ = 0;
};

void shorten(Outcome& outcome, std::string_view where, const JsonlDatasetOptions& options) {
  const auto size = static_cast<std::int64_t>(outcome.sample.ids.size());
  if (size <= options.max_length) return;
  if (options.overlong == Overlong::kError)
    fail<FormatError>(where, "has ", size, " ids, but max_length is ", options.max_length);
  if (options.overlong == Overlong::kTruncate) {
    const auto length = static_cast<std::size_t>(options.max_length);
    outcome.sample.ids.resize(length);
    outcome.sample.learned.resize(length);
    outcome.truncated = has_something_to_learn(outcome.sample);
  }
  outcome.dropped = !outcome.truncated;
}

Outcome read_line(const Line& line, std::string_view path, const Tokenizer& tokenizer,
                  const JsonlDatasetOptions& options) {
  const std::string where = concat(path, ":", line.number);
  Outcome outcome;
  try {
    outcome.sample =
        read_jsonl_line(line.text, where, tokenizer, options.parse_special_tokens, options.chat_template);
  } catch (const FormatError& error) {
    if (!options.skip_bad_lines) throw;
    outcome.bad = error.what();
    return outcome;
  }
  shorten(outcome, where, options);
  return outcome;
}

}  // namespace

struct JsonlDataset::Data {
  std::vector<TokenId> ids;         // of all samples
  std::vector<bool> learned;        // as many
  std::vector<std::int64_t> begin;  // of each sample; one more at the end
  JsonlCounts counts;

  void add(const Outcome& outcome) {
    ++counts.lines;
    if (!outcome.bad.empty()) {
      if (++counts.bad == 1) counts.first_bad = outcome.bad;
      return;
    }
    counts.dropped += outcome.dropped;
    counts.truncated += outcome.truncated;
    if (outcome.dropped) return;
    begin.push_back(static_cast<std::int64_t>(ids.size()));
    ids.insert(ids.end(), outcome.sample.ids.begin(), outcome.sample.ids.end());
    learned.insert(learned.end(), outcome.sample.learned.begin(), outcome.sample.learned.end());
  }

  TokenId label(std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i);
    return learned[at] ? ids[at] : kIgnoredLabel;
  }
};

JsonlDataset JsonlDataset::from_file(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                     const JsonlDatasetOptions& options) {
  if (options.max_length < 2)
    fail<ArgumentError>(kJsonl, "max_length is ", options.max_length, ", expected at least 2");
  constexpr int kLinesPerThread = 64;
  return with_memory_errors(path.native(), [&] {
    const std::string name = path.string();
    const MappedFile file(path);
    const std::string_view text = file.text();
    auto data = std::make_shared<Data>();
    LineReader reader(text);
    for (;;) {
      if (options.stop.stop_requested()) fail<CancelledError>(name, "encoding stopped");
      const auto lines = reader.next(static_cast<std::size_t>(kLinesPerThread * num_threads()));
      if (lines.empty()) break;
      std::vector<Outcome> outcomes(lines.size());
      parallel_try(static_cast<std::int64_t>(lines.size()), 1, [&](std::int64_t i) {
        const auto at = static_cast<std::size_t>(i);
        outcomes[at] = read_line(lines[at], name, tokenizer, options);
      });
      for (const Outcome& outcome : outcomes) data->add(outcome);
      if (options.on_progress)
        options.on_progress(
            {static_cast<std::int64_t>(reader.done()), static_cast<std::int64_t>(text.size())});
    }
    const auto size = static_cast<std::int64_t>(data->begin.size());
    data->begin.push_back(static_cast<std::int64_t>(data->ids.size()));
    const JsonlCounts& counts = data->counts;
    if (size == 0)
      fail<FormatError>(name, "has no usable sample: of ", counts.lines, " lines ", counts.bad,
                        " are bad and ", counts.dropped, " too long",
                        counts.bad > 0 ? ", the first bad one: " : "", counts.first_bad);
    return JsonlDataset(std::move(data), 0, size);
  });
}

std::pair<JsonlDataset, JsonlDataset> JsonlDataset::split(double validation_fraction) const {
  const std::int64_t middle = end_ - validation_share(kJsonl, validation_fraction, size());
  if (middle == begin_ || middle == end_)
    fail<ArgumentError>(kJsonl, "validation_fraction ", validation_fraction, " leaves one side of ", size(),
                        " samples without any");
  return {JsonlDataset(data_, begin_, middle), JsonlDataset(data_, middle, end_)};
}

const JsonlCounts& JsonlDataset::counts() const noexcept { return data_->counts; }

std::int64_t JsonlDataset::length(std::int64_t index) const {
  require_index(kJsonl, index, size());
  const std::int64_t* begin = data_->begin.data() + begin_ + index;
  return begin[1] - begin[0];
}

Sample JsonlDataset::at(std::int64_t index) const {
  const std::int64_t count = length(index);
  return with_memory_errors(kJsonl, [&] {
    const std::int64_t begin = data_->begin[static_cast<std::size_t>(begin_ + index)];
    Sample sample;
    sample.ids.assign(data_->ids.begin() + begin, data_->ids.begin() + begin + count);
    for (std::int64_t i = begin; i < begin + count; ++i) sample.labels.push_back(data_->label(i));
    return sample;
  });
}

std::uint64_t JsonlDataset::fingerprint() const noexcept {
  Fingerprint all;
  all.add("jsonl").add(size());
  for (std::int64_t sample = begin_; sample < end_; ++sample) {
    const std::int64_t* begin = data_->begin.data() + sample;
    all.add(begin[1] - begin[0]);
    for (std::int64_t i = begin[0]; i < begin[1]; ++i)
      all.add(data_->ids[static_cast<std::size_t>(i)]).add(data_->label(i));
  }
  return all.value();
}

}  // namespace gpt
