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
  const auto read = [](const Json& value, std::string_view name, auto zero) {
    if constexpr (std::is_integral_v<decltype(zero)>)
      return integer_of(value, name);
    else
      return number_of(value, name);
  };
  const auto penalty = [&](const char* name) {
    return params.contains(name) ? number_of(params.at(name), name) : 0.0;
  };
  const auto add = [&]<class P>(std::string_view name, std::type_identity<P>, auto zero) {
    const auto value = params.find(std::string(name));
    if (value == params.end()) return;
    // For the form, 1 and more is off; the library takes no more than 1.
    if ((name == "top_p" || name == "typical_p") && number_of(*value, name) >= 1.0) return;
    list.push_back(std::make_unique<P>(read(*value, name, zero)));
  };
  if (const auto biases = params.find("logit_bias"); biases != params.end()) {
    std::vector<BiasedSequence> sequences;
    for (const auto& [key, bias] : biases->items()) {
      TokenId id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size())
        throw Unreadable(concat("logit_bias of \"", key, "\", expected a token id"));
      sequences.push_back({{id}, number_of(bias, concat("logit_bias of ", key))});
    }
    list.push_back(std::make_unique<SequenceBias>(std::move(sequences)));
  }
  add("repetition_penalty", std::type_identity<RepetitionPenalty>(), double());
  list.push_back(
      std::make_unique<FrequencyPenalty>(penalty("frequency_penalty"), penalty("presence_penalty")));
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
  return number_of(number, "a logit");
}

// What the filters make of the logits of one row.
std::vector<double> filtered_scores(const Json& row) {
  std::vector<double> scores;
  for (const Json& number : member(row, "logits", "a case")) scores.push_back(logit(number));
  const std::vector<TokenId> history = token_ids(member(row, "history", "a case"), "history");
  ProcessorScratch scratch;
  for (const auto& processor : processors_for(row.at("params")))
    processor->process(scores, DecodingStep{.history = history}, scratch);
  return scores;
}

Outcome named(Outcome outcome, const Json& row) {
  outcome.detail = concat(string_of(member(row, "name", "a case"), "name"), ": ", outcome.detail);
  return outcome;
}

// With ties at the cut of top_p, which of the equal scores survive is open: only how many, and the sorted
// probabilities count.
Outcome check_probs(const Json& row) {
  auto expected = numbers_of(member(row, "probs", "a case"), "probs");
  std::vector<double> found = filtered_scores(row);
  if (found.size() != expected.size())
    throw Unreadable(concat("a case of ", found.size(), " logits and ", expected.size(), " probs"));
  softmax(found, found);
  const bool has_order = std::ranges::none_of(found, [](double p) { return std::isnan(p); });
  if (has_order && truth_of(member(row, "ties", "a case"), "ties")) {
    std::ranges::sort(found);
    std::ranges::sort(expected);
  }
  return named(
      compare_reals(std::span<const double>(found), std::span<const double>(expected), kProbabilityTolerance),
      row);
}

Outcome check_kept(const Json& row) {
  const std::vector<TokenId> expected = token_ids(member(row, "kept", "a case"), "kept");
  const std::vector<double> scores = filtered_scores(row);
  std::vector<TokenId> found;
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (scores[i] != -std::numeric_limits<double>::infinity()) found.push_back(static_cast<TokenId>(i));
  if (truth_of(member(row, "ties", "a case"), "ties"))
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
    const std::string line = concat(file.string(), ":", i + 1);
    const auto check = [&](Outcome (*of)(const Json&)) {
      return [&row, of] { return is_supported(member(row, "params", "a case")) ? of(row) : Outcome::skip(); };
    };
    judge(report, name, line, path + "probs", check(check_probs));
    judge(report, name, line, path + "kept", check(check_kept));
  }
  report_unknown_fields(report, name, file.filename().string(), rows, kFields);
}

// The largest difference over the steps of one schedule.
Outcome schedule_factors(const Entry& entry) {
  const Json& schedule = *entry.parent;
  const std::string where = parent_path_of(entry.name);
  const auto get = [&](const char* key) -> const Json& { return member(schedule, key, where); };
  const auto name = [&](const char* key) { return concat(where, ".", key); };
  const std::string kind = string_of(get("kind"), name("kind"));
  const auto type = lr_scheduler_from_name(kind);
  if (!type) throw Unreadable(concat(name("kind"), " is ", kind, ", which no schedule is called"));
  ScheduleOptions options{.type = *type,
                          .warmup_steps = integer_of(get("warmup_steps"), name("warmup_steps")),
                          .total_steps = integer_of(get("total_steps"), name("total_steps"))};
  if (schedule.contains("num_cycles")) options.num_cycles = number_of(get("num_cycles"), name("num_cycles"));
  std::vector<std::int64_t> steps;
  for (const Json& step : get("steps")) steps.push_back(integer_of(step, name("steps")));
  const auto expected = numbers_of(*entry.value, entry.name);
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
  judge_json(report, name, file.string(), document, rules);
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
