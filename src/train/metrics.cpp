#include "gpt/train/metrics.h"

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/append_file.h"
#include "core/file_status.h"
#include "core/memory.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/io/hf_config.h"

namespace gpt {
namespace {

constexpr std::string_view kEval = "eval_";
constexpr std::string_view kEvalLoss = "eval_loss";
constexpr std::string_view kBest = "best";

/// A line of names and numbers.
class MetricsLine {
 public:
  MetricsLine& add(std::string_view name, std::int64_t value) { return append(name, concat(value)); }
  MetricsLine& add(std::string_view name, double value) {
    return append(name, std::isfinite(value) ? concat(value) : "null");
  }
  std::string text() const { return text_ + "}\n"; }

 private:
  MetricsLine& append(std::string_view name, std::string_view value) {
    text_ += concat(text_.empty() ? "{\"" : ", \"", name, "\": ", value);
    return *this;
  }

  std::string text_;
};

/// Where the record of a line stands among the others: an evaluation follows the updates that it judges.
std::pair<std::int64_t, bool> place_of(const HfConfig& line) {
  return {line.get_int("step").value_or(0), line.has(kEvalLoss)};
}

double number(const HfConfig& line, std::string_view name) {
  return line.get_float(name).value_or(std::numeric_limits<double>::quiet_NaN());
}

/// Calls `use(text, record)` for every whole line of a file.
template <class Use>
void for_each_line(const std::filesystem::path& path, Use use) {
  if (!is_there(path)) return;
  const std::string all = read_text_file(path);
  std::int64_t number = 0;
  for (std::size_t begin = 0, end = 0; (end = all.find('\n', begin)) != all.npos; begin = end + 1) {
    const std::string_view line = std::string_view(all).substr(begin, end + 1 - begin);
    use(line, HfConfig::parse(line, concat(path.string(), ":", ++number)));
  }
}

}  // namespace

MetricsFile::MetricsFile(std::filesystem::path path, bool resumes)
    : path_(std::move(path)), resumes_(resumes) {}
MetricsFile::~MetricsFile() = default;

void MetricsFile::add(const TrainingLog& log) try {
  begin(log.step, false);
  file_->append(MetricsLine()
                    .add("step", log.step)
                    .add("total_steps", log.total_steps)
                    .add("epoch", log.epoch)
                    .add("loss", log.loss)
                    .add("grad_norm", log.grad_norm)
                    .add("learning_rate", log.learning_rate)
                    .add("tokens_per_s", log.tokens_per_s)
                    .text());
} catch (...) {
  rethrow_with_memory_errors(path_.native());
}

void MetricsFile::add(const EvaluationLog& log) try {
  begin(log.step, true);
  MetricsLine line;
  line.add("step", log.step).add("epoch", log.epoch).add(kEvalLoss, log.eval_loss);
  for (const auto& [name, value] : log.metrics) line.add(concat(kEval, name), value);
  if (log.metrics.empty())
    line.add("perplexity", log.perplexity);
  else
    line.add(kBest, std::int64_t{log.best});
  file_->append(line.text());
} catch (...) {
  rethrow_with_memory_errors(path_.native());
}

void MetricsFile::begin(std::int64_t step, bool evaluation) {
  if (file_ != nullptr) return;
  std::string kept;
  if (resumes_)
    for_each_line(path_, [&](std::string_view line, const HfConfig& record) {
      if (place_of(record) < std::pair(step, evaluation)) kept += line;
    });
  write_file_atomically(path_, kept);
  file_ = std::make_unique<AppendFile>(path_);
}

TrainingHistory MetricsFile::read(const std::filesystem::path& path) try {
  TrainingHistory history;
  std::optional<double> best;
  for_each_line(path, [&](std::string_view, const HfConfig& line) {
    const auto [step, evaluation] = place_of(line);
    const double epoch = line.get_float("epoch").value_or(0);
    if (!evaluation) {
      history.training.push_back({.step = step,
                                  .total_steps = line.get_int("total_steps").value_or(0),
                                  .epoch = epoch,
                                  .loss = number(line, "loss"),
                                  .grad_norm = number(line, "grad_norm"),
                                  .learning_rate = number(line, "learning_rate"),
                                  .tokens_per_s = number(line, "tokens_per_s")});
      return;
    }
    const double loss = number(line, kEvalLoss);
    const bool least = std::isfinite(loss) && (!best || loss < *best);
    if (least) best = loss;
    const auto known = line.get_int(kBest);
    EvaluationLog& log = history.evaluations.emplace_back();
    log = {step, epoch, loss, number(line, "perplexity"), known ? *known != 0 : least};
    for (const std::string& key : line.keys())
      if (key.starts_with(kEval) && key != kEvalLoss)
        log.metrics.emplace_back(key.substr(kEval.size()), number(line, key));
  });
  return history;
} catch (...) {
  rethrow_with_memory_errors(path.native());
}

}  // namespace gpt
