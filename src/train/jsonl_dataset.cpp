#include "gpt/train/jsonl_dataset.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "core/fingerprint.h"
#include "core/memory.h"
#include "core/parallel_try.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/parallel.h"
#include "train/cache_file.h"
#include "train/dataset_checks.h"
#include "train/file_pieces.h"
#include "train/jsonl_line.h"
#include "train/sample_cache.h"
#include "train/sample_store.h"

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

void count_line(JsonlCounts& counts, const Outcome& outcome) {
  ++counts.lines;
  counts.dropped += outcome.dropped;
  counts.truncated += outcome.truncated;
  if (!outcome.bad.empty() && ++counts.bad == 1) counts.first_bad = outcome.bad;
}

/// Hands the samples to `sink`, in order. Memory is needed for some lines of each thread: the pages of those before are let go.
JsonlCounts read_samples(const MappedFile& file, const std::string& name, const Tokenizer& tokenizer,
                         const JsonlDatasetOptions& options,
                         const std::function<void(const MaskedIds&)>& sink) {
  constexpr int kLinesPerThread = 64;
  const std::string_view text = file.text();
  const std::size_t mark = file.bytes().size() - text.size();
  JsonlCounts counts;
  LineReader reader(text);
  PagesBehind pages(file);
  for (;;) {
    if (options.stop.stop_requested()) fail<CancelledError>(name, "encoding stopped");
    const auto lines = reader.next(static_cast<std::size_t>(kLinesPerThread * num_threads()));
    if (lines.empty()) break;
    std::vector<Outcome> outcomes(lines.size());
    parallel_try(static_cast<std::int64_t>(lines.size()), 1, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i);
      outcomes[at] = read_line(lines[at], name, tokenizer, options);
    });
    for (const Outcome& outcome : outcomes) {
      count_line(counts, outcome);
      if (outcome.bad.empty() && !outcome.dropped) sink(outcome.sample);
    }
    pages.drop_before(mark + reader.done());
    if (options.on_progress)
      options.on_progress({static_cast<std::int64_t>(reader.done()), static_cast<std::int64_t>(text.size())});
  }
  if (counts.lines == counts.bad + counts.dropped)
    fail<FormatError>(name, "has no usable sample: of ", counts.lines, " lines ", counts.bad, " are bad and ",
                      counts.dropped, " too long", counts.bad > 0 ? ", the first bad one: " : "",
                      counts.first_bad);
  return counts;
}

/// Of all that makes the samples of a line, but for the line.
std::uint64_t fingerprint_of(const Tokenizer& tokenizer, const JsonlDatasetOptions& options) {
  Fingerprint sum;
  sum.add("jsonl").add(tokenizer.fingerprint()).add(tokenizer.eos_token_id().value_or(-1));
  sum.add(options.max_length).add(static_cast<int>(options.overlong)).add(options.parse_special_tokens);
  sum.add(options.skip_bad_lines).add(options.chat_template.name());
  return sum.value();
}

}  // namespace

struct JsonlDataset::Data {
  SampleStore samples;
  JsonlCounts counts;

  static Data in_memory(const MappedFile& file, const std::string& name, const Tokenizer& tokenizer,
                        const JsonlDatasetOptions& options);
  static Data in_cache(const MappedFile& file, const std::string& name, const Tokenizer& tokenizer,
                       const JsonlDatasetOptions& options);
};

JsonlDataset::Data JsonlDataset::Data::in_memory(const MappedFile& file, const std::string& name,
                                                 const Tokenizer& tokenizer,
                                                 const JsonlDatasetOptions& options) {
  struct Memory {
    std::vector<std::byte> blocks;
    std::vector<std::uint64_t> begins{0};
  };
  const auto memory = std::make_shared<Memory>();
  const std::size_t width = id_width(tokenizer.vocab_size());
  SampleBlocks blocks(width, [&](std::span<const std::byte> block) {
    memory->blocks.insert(memory->blocks.end(), block.begin(), block.end());
  });
  JsonlCounts counts = read_samples(file, name, tokenizer, options, [&](const MaskedIds& sample) {
    blocks.add(sample);
    memory->begins.push_back(memory->begins.back() + sample.ids.size());
  });
  blocks.finish();
  memory->blocks.shrink_to_fit();
  memory->begins.shrink_to_fit();
  return {{memory, memory->blocks.data(), width, memory->begins}, std::move(counts)};
}

JsonlDataset::Data JsonlDataset::Data::in_cache(const MappedFile& file, const std::string& name,
                                                const Tokenizer& tokenizer,
                                                const JsonlDatasetOptions& options) {
  const CacheOptions cache{.directory = options.cache_dir,
                           .encoding = fingerprint_of(tokenizer, options),
                           .vocab_size = tokenizer.vocab_size(),
                           .stop = options.stop};
  auto there = through_cache(
      file, kSampleCache, cache, [&](const CacheBody& body) { return samples_of(body, name); },
      [&](CacheWriter& body) {
        SampleCacheWriter writer(body);
        const JsonlCounts found = read_samples(file, name, tokenizer, options,
                                               [&](const MaskedIds& sample) { writer.add(sample); });
        writer.finish(found, name);
      });
  return {std::move(there->samples), std::move(there->counts)};
}

JsonlDataset JsonlDataset::from_file(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                     const JsonlDatasetOptions& options) {
  if (options.max_length < 2)
    fail<ArgumentError>(kJsonl, "max_length is ", options.max_length, ", expected at least 2");
  return with_memory_errors(path.native(), [&] {
    const MappedFile file(path);
    const auto make = options.cache_dir.empty() ? Data::in_memory : Data::in_cache;
    auto data = std::make_shared<const Data>(make(file, path.string(), tokenizer, options));
    const std::int64_t size = data->samples.size();
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
  return data_->samples.length(begin_ + index);
}

Sample JsonlDataset::at(std::int64_t index) const {
  require_index(kJsonl, index, size());
  return with_memory_errors(kJsonl, [&] { return data_->samples.at(begin_ + index); });
}

std::uint64_t JsonlDataset::fingerprint() const noexcept {
  Fingerprint all;
  all.add("jsonl").add(size());
  for (std::int64_t sample = begin_; sample < end_; ++sample) data_->samples.add_to(all, sample);
  return all.value();
}

}  // namespace gpt
