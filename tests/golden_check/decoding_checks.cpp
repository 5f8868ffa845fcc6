#include "decoding_checks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compare.h"
#include "network_run.h"
#include "tolerances.h"

namespace gpt::golden {

std::vector<Rule> DecodingChecks::json_rules() {
  const auto check = [this](Outcome (DecodingChecks::*method)(const Entry&)) {
    return [this, method](const Entry& entry) { return (this->*method)(entry); };
  };
  return {
      {"greedy[*].generated", check(&DecodingChecks::generated)},
      {"greedy[*].min_top1_margin", check(&DecodingChecks::margin)},
      {"greedy[*].prompt_ids", check(&DecodingChecks::prompt_ids)},
      {"greedy[*].text", check(&DecodingChecks::text)},
      {"beam[*].sequences", check(&DecodingChecks::sequences)},
      {"beam[*].scores", check(&DecodingChecks::scores)},
  };
}

std::vector<Rule> DecodingChecks::tensor_rules(const ExpectedTensors& expected, const Json& document) {
  return {
      {"greedy_prompt", is_input},
      {"greedy_generated",
       [this, &expected, &document](const Entry& entry) {
         const std::vector<TokenId>& found = continuation(document.at("greedy").at(0)).ids;
         return compare_ints(std::span<const TokenId>(found), expected.ints(entry.name));
       }},
  };
}

// The prompt is a list of ids, or a text whose ids are beside it; without max_new_tokens there are as many as were
// generated.
const GenerateResult& DecodingChecks::continuation(const Json& entry) {
  const auto known = continuations_.find(&entry);
  if (known != continuations_.end()) return known->second;
  const std::vector<TokenId> prompt =
      token_ids(entry.at(entry.at("prompt").is_string() ? "prompt_ids" : "prompt"), "greedy: prompt");
  GenerateOptions options;
  options.max_new_tokens = entry.contains("max_new_tokens")
                               ? entry.at("max_new_tokens").get<std::int64_t>()
                               : static_cast<std::int64_t>(entry.at("generated").size());
  options.do_sample = false;
  options.eos_token_id.emplace();
  if (const auto id = entry.find("eos_token_id"); id != entry.end() && !id->is_null())
    options.eos_token_id->push_back(id->get<TokenId>());
  return continuations_.emplace(&entry, generator_.generate(prompt, options)).first->second;
}

Outcome DecodingChecks::generated(const Entry& entry) {
  const std::vector<TokenId> expected = token_ids(*entry.value, entry.name);
  return compare_ints(std::span<const TokenId>(continuation(*entry.parent).ids),
                      std::span<const TokenId>(expected));
}

// The smallest distance of the two best logits on the way. Each of the two may be off by the logits' tolerance.
Outcome DecodingChecks::margin(const Entry& entry) {
  const GenerateResult& result = continuation(*entry.parent);
  std::vector<TokenId> fed = result.prompt_ids;
  fed.insert(fed.end(), result.ids.begin(), result.ids.end());
  fed.pop_back();  // the last one is never fed
  const BatchRun run = run_batch(model_.network(), fed, 1);
  const auto V = static_cast<std::size_t>(model_.config().vocab_size);
  double smallest = std::numeric_limits<double>::infinity();
  double scale = 1;
  for (std::size_t t = result.prompt_ids.size() - 1; t < fed.size(); ++t) {
    const auto logits = run.output.logits.span<float>().subspan(t * V, V);
    std::vector<double> row(logits.begin(), logits.end());
    if (std::ranges::any_of(row, [](double x) { return std::isnan(x); }))  // they have no order
      return compare_real(std::numeric_limits<double>::quiet_NaN(), entry.value->get<double>(), 0);
    std::ranges::partial_sort(row, row.begin() + 2, std::greater());
    smallest = smallest_of(smallest, row[0] - row[1]);
    scale = std::max(scale, std::abs(row[0]));
  }
  return compare_real(smallest, entry.value->get<double>(), 2 * kActivationTolerance * scale);
}

Outcome DecodingChecks::prompt_ids(const Entry& entry) {
  const std::vector<TokenId> found = model_.tokenizer().encode(entry.parent->at("prompt").get<std::string>());
  const std::vector<TokenId> expected = token_ids(*entry.value, entry.name);
  return compare_ints(std::span<const TokenId>(found), std::span<const TokenId>(expected));
}

Outcome DecodingChecks::text(const Entry& entry) {
  const std::string& found = continuation(*entry.parent).text;
  return Outcome::exact(found == entry.value->get<std::string>() ? 0 : 1, concat("is ", Json(found).dump()));
}

const std::vector<GenerateResult>& DecodingChecks::hypotheses(const Json& entry) {
  const auto known = hypotheses_.find(&entry);
  if (known != hypotheses_.end()) return known->second;
  GenerateOptions options;
  options.max_new_tokens = entry.at("max_new_tokens").get<std::int64_t>();
  options.do_sample = false;
  options.num_beams = options.num_return_sequences = entry.at("num_beams").get<std::int64_t>();
  options.length_penalty = entry.at("length_penalty").get<double>();
  const Json& early = entry.at("early_stopping");
  options.early_stopping = early == "never"    ? EarlyStopping::kNever
                           : early.get<bool>() ? EarlyStopping::kTrue
                                               : EarlyStopping::kFalse;
  options.eos_token_id.emplace();
  if (const Json& id = entry.at("eos_token_id"); !id.is_null())
    options.eos_token_id->push_back(id.get<TokenId>());
  const std::vector<TokenId> prompt = token_ids(entry.at("prompt"), "beam: prompt");
  return hypotheses_.emplace(&entry, generator_.generate(std::span(&prompt, 1), options)).first->second;
}

// The sequences joined, each behind its length.
Outcome DecodingChecks::sequences(const Entry& entry) {
  std::vector<TokenId> found, expected;
  const auto append = [](std::vector<TokenId>& to, const std::vector<TokenId>& ids) {
    to.push_back(static_cast<TokenId>(ids.size()));
    to.insert(to.end(), ids.begin(), ids.end());
  };
  for (const GenerateResult& result : hypotheses(*entry.parent)) append(found, result.ids);
  for (const Json& ids : *entry.value) append(expected, token_ids(ids, entry.name));
  return compare_ints(std::span<const TokenId>(found), std::span<const TokenId>(expected));
}

Outcome DecodingChecks::scores(const Entry& entry) {
  std::vector<double> found;
  for (const GenerateResult& result : hypotheses(*entry.parent))
    found.push_back(result.score.value_or(std::numeric_limits<double>::quiet_NaN()));
  const auto expected = entry.value->get<std::vector<double>>();
  if (found.size() != expected.size())
    return Outcome::exact(1, concat("has ", found.size(), " elements, expected ", expected.size()));
  return compare_reals(std::span<const double>(found), std::span<const double>(expected),
                       kBeamScoreTolerance);
}

}  // namespace gpt::golden
