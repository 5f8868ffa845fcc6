// Sampling filters and learning-rate schedules: README 3 and 4.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

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

// The README's filters in its order: one for each parameter that is there, and one for the two that count occurrences.
LogitsProcessors processors_for(const Json& params) {
  LogitsProcessors list;
  const auto add = [&]<class P>(std::string_view name, std::type_identity<P>, auto zero) {
    const auto value = params.find(std::string(name));
    if (value == params.end()) return;
    // For the form, 1 and more is off; the library takes no more than 1.
    if ((name == "top_p" || name == "typical_p") && value->template get<double>() >= 1.0) return;
    list.push_back(std::make_unique<P>(value->template get<decltype(zero)>()));
  };
  if (const auto biases = params.find("logit_bias"); biases != params.end()) {
    std::vector<BiasedSequence> sequences;
    for (const auto& [key, bias] : biases->items()) {
      TokenId id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size())
        throw Unreadable(concat("sampling.jsonl: logit_bias of \"", key, "\", expected a token id"));
      sequences.push_back({{id}, bias.get<double>()});
    }
    list.push_back(std::make_unique<SequenceBias>(std::move(sequences)));
  }
  add("repetition_penalty", std::type_identity<RepetitionPenalty>(), double());
  list.push_back(std::make_unique<FrequencyPenalty>(params.value("frequency_penalty", 0.0),
                                                    params.value("presence_penalty", 0.0)));
  add("no_repeat_ngram_size", std::type_identity<NoRepeatNGram>(), std::int64_t());
  add("temperature", std::type_identity<Temperature>(), double());
  add("top_k", std::type_identity<TopK>(), std::int64_t());
  add("top_p", std::type_identity<TopP>(), double());
  add("min_p", std::type_identity<MinP>(), double());
  add("typical_p", std::type_identity<TypicalP>(), double());
  return list;
}

// A case with a parameter that the README does not describe is skipped.
bool is_supported(const Json& params) {
  static constexpr std::array<std::string_view, 10> kParameters = {"logit_bias",
                                                                   "repetition_penalty",
                                                                   "frequency_penalty",
                                                                   "presence_penalty",
                                                                   "no_repeat_ngram_size",
                                                                   "temperature",
                                                                   "top_k",
                                                                   "top_p",
                                                                   "min_p",
                                                                   "typical_p"};
  return std::ranges::all_of(params.items(), [](const auto& item) {
    return std::ranges::find(kParameters, item.key()) != kParameters.end();
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
  for (const auto& processor : processors_for(row.at("params")))
    processor->process(scores, DecodingStep{.history = history}, scratch);
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
  const bool has_order = std::ranges::none_of(found, [](double p) { return std::isnan(p); });
  if (has_order && row.at("ties").get<bool>()) {
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
    if (scores[i] != -std::numeric_limits<double>::infinity()) found.push_back(static_cast<TokenId>(i));
  if (row.at("ties").get<bool>())
    return named(compare_real(static_cast<double>(found.size()), static_cast<double>(expected.size()), 0),
                 row);
  return named(compare_ints(std::span<const TokenId>(found), std::span<const TokenId>(expected)), row);
}

constexpr std::array<std::string_view, 7> kFields{"name",  "logits", "history", "params",
                                                  "probs", "kept",   "ties"};

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
  report_unknown_fields(report, name, file.filename().string(), rows, kFields);
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

bool knows_sampling_file(std::string_view name) {
  return name == "sampling.jsonl" || name == "schedules.json";
}

bool is_sampling_folder(const fs::path& folder) {
  return fs::exists(folder / "sampling.jsonl") || fs::exists(folder / "schedules.json");
}

void check_sampling_folder(const fs::path& folder, const std::string& name, const Settings&, Report& report) {
  if (fs::exists(folder / "sampling.jsonl")) check_cases(folder / "sampling.jsonl", name, report);
  if (fs::exists(folder / "schedules.json")) check_schedules(folder / "schedules.json", name, report);
}

}  // namespace gpt::golden
