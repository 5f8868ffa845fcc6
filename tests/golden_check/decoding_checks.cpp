#include "decoding_checks.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "compare.h"
#include "network_run.h"
#include "tolerances.h"

namespace gpt::golden {
namespace {

TokenId token_id(const Json& value, const std::string& where) {
  const std::int64_t number = integer_of(value, where);
  return token_ids(std::span(&number, 1), where).front();
}

// The first entry of the list `greedy`.
const Json& first_of(const Json& document, const std::string& source) {
  const Json& list = member(document, "greedy", source);
  if (!list.is_array() || list.empty()) throw Unreadable(source + ": greedy is no list with an entry");
  return list.front();
}

}  // namespace

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
      {"greedy_prompt",
       [&expected, &document](const Entry& entry) {
         const std::string source = expected.document();
         const std::vector<TokenId> listed =
             token_ids(member(first_of(document, source), "prompt", source + ": greedy[0]"),
                       source + ": greedy[0].prompt");
         const Outcome same = compare_ints(expected.ints(entry.name), std::span<const TokenId>(listed));
         return holds(same) ? Outcome::input() : same;
       }},
      {"greedy_generated",
       [this, &expected, &document](const Entry& entry) {
         const std::vector<TokenId>& found =
             continuation(first_of(document, expected.document()), expected.document() + ": greedy[0]").ids;
         return compare_ints(std::span<const TokenId>(found), expected.ints(entry.name));
       }},
  };
}

// The prompt is a list of ids, or a text whose ids are beside it; without max_new_tokens there are as many as were
// generated.
const GenerateResult& DecodingChecks::continuation(const Json& entry, const std::string& where) {
  const auto known = continuations_.find(&entry);
  if (known != continuations_.end()) return known->second;
  const char* const key = member(entry, "prompt", where).is_string() ? "prompt_ids" : "prompt";
  const std::vector<TokenId> prompt = token_ids(member(entry, key, where), concat(where, ".", key));
  GenerateOptions options;
  options.max_new_tokens = entry.contains("max_new_tokens")
                               ? integer_of(entry.at("max_new_tokens"), where + ".max_new_tokens")
                               : static_cast<std::int64_t>(member(entry, "generated", where).size());
  options.do_sample = false;
  options.eos_token_id.emplace();
  if (const auto id = entry.find("eos_token_id"); id != entry.end() && !id->is_null())
    options.eos_token_id->push_back(token_id(*id, where + ".eos_token_id"));
  return continuations_.emplace(&entry, generator_.generate(prompt, options)).first->second;
}

Outcome DecodingChecks::generated(const Entry& entry) {
  const std::vector<TokenId> expected = token_ids(*entry.value, entry.name);
  return compare_ints(std::span<const TokenId>(continuation(*entry.parent, parent_path_of(entry.name)).ids),
                      std::span<const TokenId>(expected));
}

// The smallest distance of the two best logits on the way. Each of the two may be off by the logits' tolerance.
Outcome DecodingChecks::margin(const Entry& entry) {
  const GenerateResult& result = continuation(*entry.parent, parent_path_of(entry.name));
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
      return compare_real(std::numeric_limits<double>::quiet_NaN(), number_of(*entry.value, entry.name), 0);
    std::ranges::partial_sort(row, row.begin() + 2, std::greater());
    smallest = smallest_of(smallest, row[0] - row[1]);
    scale = std::max(scale, std::abs(row[0]));
  }
  return compare_real(smallest, number_of(*entry.value, entry.name), 2 * kActivationTolerance * scale);
}

Outcome DecodingChecks::prompt_ids(const Entry& entry) {
  const std::vector<TokenId> found = model_.tokenizer().encode(
      string_of(member(*entry.parent, "prompt", parent_path_of(entry.name)), "its prompt"));
  const std::vector<TokenId> expected = token_ids(*entry.value, entry.name);
  return compare_ints(std::span<const TokenId>(found), std::span<const TokenId>(expected));
}

Outcome DecodingChecks::text(const Entry& entry) {
  const std::string& found = continuation(*entry.parent, parent_path_of(entry.name)).text;
  return Outcome::exact(found == string_of(*entry.value, entry.name) ? 0 : 1,
                        concat("is ", Json(found).dump()));
}

const std::vector<GenerateResult>& DecodingChecks::hypotheses(const Json& entry, const std::string& where) {
  const auto known = hypotheses_.find(&entry);
  if (known != hypotheses_.end()) return known->second;
  GenerateOptions options;
  const auto get = [&](const char* key) -> const Json& { return member(entry, key, where); };
  const auto name = [&](const char* key) { return concat(where, ".", key); };
  options.max_new_tokens = integer_of(get("max_new_tokens"), name("max_new_tokens"));
  options.do_sample = false;
  options.num_beams = options.num_return_sequences = integer_of(get("num_beams"), name("num_beams"));
  options.length_penalty = number_of(get("length_penalty"), name("length_penalty"));
  const Json& early = get("early_stopping");
  options.early_stopping = early == "never"                          ? EarlyStopping::kNever
                           : truth_of(early, name("early_stopping")) ? EarlyStopping::kTrue
                                                                     : EarlyStopping::kFalse;
  options.eos_token_id.emplace();
  if (const Json& id = get("eos_token_id"); !id.is_null())
    options.eos_token_id->push_back(token_id(id, name("eos_token_id")));
  const std::vector<TokenId> prompt = token_ids(get("prompt"), name("prompt"));
  return hypotheses_.emplace(&entry, generator_.generate(std::span(&prompt, 1), options)).first->second;
}

// The sequences joined, each behind its length.
Outcome DecodingChecks::sequences(const Entry& entry) {
  std::vector<TokenId> found, expected;
  const auto append = [](std::vector<TokenId>& to, const std::vector<TokenId>& ids) {
    to.push_back(static_cast<TokenId>(ids.size()));
    to.insert(to.end(), ids.begin(), ids.end());
  };
  for (const GenerateResult& result : hypotheses(*entry.parent, parent_path_of(entry.name)))
    append(found, result.ids);
  for (const Json& ids : *entry.value) append(expected, token_ids(ids, entry.name));
  return compare_ints(std::span<const TokenId>(found), std::span<const TokenId>(expected));
}

Outcome DecodingChecks::scores(const Entry& entry) {
  std::vector<double> found;
  for (const GenerateResult& result : hypotheses(*entry.parent, parent_path_of(entry.name)))
    found.push_back(result.score.value_or(std::numeric_limits<double>::quiet_NaN()));
  const auto expected = numbers_of(*entry.value, entry.name);
  if (found.size() != expected.size())
    return Outcome::exact(1, concat("has ", found.size(), " elements, expected ", expected.size()));
  return compare_reals(std::span<const double>(found), std::span<const double>(expected),
                       kBeamScoreTolerance);
}

}  // namespace gpt::golden
