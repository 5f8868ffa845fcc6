// Sampling filters and learning-rate schedules: README 3 and 4.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "compare.h"
#include "expected.h"
#include "folders.h"
#include "gpt/generate/logits_processors.h"
#include "gpt/generate/sampler.h"
#include "gpt/train/schedule.h"
#include "tolerances.h"

namespace gpt::golden {

namespace fs = std::filesystem;

namespace {

using Processor = std::unique_ptr<const LogitsProcessor>;

struct Parameter {
  std::string_view name;
  Processor (*make)(const Json& value);
};

// The parameters the library has, in the order of their processors. A case with any other is skipped.
const std::array kParameters{
    Parameter{
        "repetition_penalty",
        [](const Json& x) -> Processor { return std::make_unique<RepetitionPenalty>(x.get<double>()); }},
    Parameter{"temperature",
              [](const Json& x) -> Processor { return std::make_unique<Temperature>(x.get<double>()); }},
    Parameter{"top_k",
              [](const Json& x) -> Processor { return std::make_unique<TopK>(x.get<std::int64_t>()); }},
    Parameter{"top_p", [](const Json& x) -> Processor { return std::make_unique<TopP>(x.get<double>()); }},
    Parameter{"min_p", [](const Json& x) -> Processor { return std::make_unique<MinP>(x.get<double>()); }},
};

bool is_supported(const Json& params) {
  return std::ranges::all_of(params.items(), [](const auto& item) {
    return std::ranges::find(kParameters, item.key(), &Parameter::name) != kParameters.end();
  });
}

double logit(const Json& number) {
  if (number == "-inf") return -std::numeric_limits<double>::infinity();
  return number.get<double>();
}

// What the filters make of the logits of one row.
std::vector<double> filtered_scores(const Json& row) {
  std::vector<double> scores;
  for (const Json& number : row.at("logits")) scores.push_back(logit(number));
  const std::vector<TokenId> history = token_ids(row.at("history"), "history");
  ProcessorScratch scratch;
  for (const Parameter& parameter : kParameters)
    if (const auto value = row.at("params").find(std::string(parameter.name));
        value != row.at("params").end())
      parameter.make(*value)->process(scores, history, scratch);
  return scores;
}

Outcome named(Outcome outcome, const Json& row) {
  outcome.detail = concat(row.at("name").get<std::string>(), ": ", outcome.detail);
  return outcome;
}

// With ties at the cut of top_p, which of the equal scores survive is open: only how many, and the sorted
// probabilities count.
Outcome check_probs(const Json& row) {
  auto expected = row.at("probs").get<std::vector<double>>();
  std::vector<double> found = filtered_scores(row);
  if (found.size() != expected.size())
    throw Unreadable("sampling.jsonl: a case with fewer or more probs than logits");
  softmax(found, found);
  if (row.at("ties").get<bool>()) {
    std::ranges::sort(found);
    std::ranges::sort(expected);
  }
  return named(
      compare_reals(std::span<const double>(found), std::span<const double>(expected), kProbabilityTolerance),
      row);
}

Outcome check_kept(const Json& row) {
  const std::vector<TokenId> expected = token_ids(row.at("kept"), "kept");
  const std::vector<double> scores = filtered_scores(row);
  std::vector<TokenId> found;
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (scores[i] > -std::numeric_limits<double>::infinity()) found.push_back(static_cast<TokenId>(i));
  if (row.at("ties").get<bool>())
    return named(compare_real(static_cast<double>(found.size()), static_cast<double>(expected.size()), 0),
                 row);
  return named(compare_ints(std::span<const TokenId>(found), std::span<const TokenId>(expected)), row);
}

void check_cases(const fs::path& file, const std::string& name, Report& report) {
  const std::vector<Json> rows = read_rows(file);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Json& row = rows[i];
    const std::string path = concat(file.filename().string(), "[", i, "].");
    const auto check = [&](Outcome (*of)(const Json&)) {
      return [&row, of] { return is_supported(row.at("params")) ? of(row) : Outcome::skip(); };
    };
    judge(report, name, path + "probs", check(check_probs));
    judge(report, name, path + "kept", check(check_kept));
  }
}

// The largest difference over the steps of one schedule.
Outcome schedule_factors(const Entry& entry) {
  const Json& schedule = *entry.parent;
  const auto type = lr_scheduler_from_name(schedule.at("kind").get<std::string>());
  if (!type) throw Unreadable(concat(entry.name, ": unknown kind of schedule"));
  ScheduleOptions options{
      .type = *type, .warmup_steps = schedule.at("warmup_steps"), .total_steps = schedule.at("total_steps")};
  if (schedule.contains("num_cycles")) options.num_cycles = schedule.at("num_cycles");
  const auto steps = schedule.at("steps").get<std::vector<std::int64_t>>();
  const auto expected = entry.value->get<std::vector<double>>();
  if (steps.size() != expected.size())
    throw Unreadable(concat(entry.name, ": not one factor for every step"));
  std::vector<double> found;
  for (const std::int64_t step : steps) found.push_back(learning_rate_factor(options, step));
  return compare_reals(std::span<const double>(found), std::span<const double>(expected), kScheduleTolerance);
}

void check_schedules(const fs::path& file, const std::string& name, Report& report) {
  const Json document = read_json(file);
  const std::vector<Rule> rules{
      {"schedules[*].kind", is_input},        {"schedules[*].warmup_steps", is_input},
      {"schedules[*].total_steps", is_input}, {"schedules[*].num_cycles", is_input},
      {"schedules[*].steps", is_input},       {"schedules[*].factor", schedule_factors}};
  judge_json(report, name, document, rules);
}

}  // namespace

bool is_sampling_folder(const fs::path& folder) {
  return fs::exists(folder / "sampling.jsonl") || fs::exists(folder / "schedules.json");
}

void check_sampling_folder(const fs::path& folder, const std::string& name, const Settings&, Report& report) {
  if (fs::exists(folder / "sampling.jsonl")) check_cases(folder / "sampling.jsonl", name, report);
  if (fs::exists(folder / "schedules.json")) check_schedules(folder / "schedules.json", name, report);
}

}  // namespace gpt::golden
