// gpt-recommend: what comes next for somebody, of a list of things, as a model that was tuned on what others had one after the other sees it.
#include <algorithm>
#include <iomanip>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gpt/gpt.h>

#include "adapter_options.h"
#include "program.h"

namespace {

using Json = nlohmann::ordered_json;
using Titles = std::vector<std::string>;

struct Request {
  std::string model, items_file;
  std::optional<std::string> adapter, file, history, popularity_file;
  std::string separator = ";";
  std::optional<std::vector<std::int64_t>> k;  // unset: 5, 10
  std::optional<std::int64_t> top;             // unset: 5
  int threads = 0;
  bool json = false;
};

constexpr const char* kFooter = R"(Examples:
  gpt-finetune --model gpt2 --train-file histories.jsonl --output-dir tuned
  gpt-recommend --model tuned --items items.txt --history "The Last King; Who Knocks;"
  gpt-recommend --model tuned --items items.txt --file test.jsonl --popularity-file histories.jsonl

A history is text: what somebody had, in this order, with ; behind each. --items has one thing a line. Those that are not in a history yet are
ranked by the probability that the model gives them, each with its ; , behind the history: the --top best are printed. A file
has histories as JSON lines {"text": "one; two; three;"}, as gpt-finetune learns them: the last thing of each is hidden, and what is
measured is where it stands in the ranking. Beside that stands the ranking by how often a thing is in --popularity-file.)";

void add_options(program::App& app, Request& r) {
  app.add_text("--model", r.model, "PATH", "Hugging Face directory or GGUF file of a GPT-2 checkpoint")
      .required();
  program::add_adapter_option(app, r.adapter);
  app.add_text("--items", r.items_file, "FILE", "What may be recommended, one a line").required().is_input();
  app.add_text("--history", r.history, "TEXT", "What somebody had: recommend what comes next");
  app.add_text("--file", r.file, "FILE", "Or measure it: histories, of which the last thing is hidden")
      .is_input();
  app.add_text("--popularity-file", r.popularity_file, "FILE",
               "Histories in which things are counted, to compare with")
      .is_input();
  app.add_text("--separator", r.separator, "TEXT", "What stands behind each thing of a history (;)");
  app.add_number("--top", r.top, "Things to recommend to --history (5)", 1);
  app.add_text_function(
      "--k", [&r](const std::string& text) { r.k = program::parse_numbers<std::int64_t>("--k", text, 1); },
      "NUMBERS", "First places that --file looks at (5,10)");
  app.add_number("--threads", r.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", r.json, "Print one JSON object instead of text");
}

void check(const Request& r) {
  if (r.history.has_value() == r.file.has_value())
    throw program::UsageError(r.file ? "--history and --file are both given: expected one"
                                     : "neither --history nor --file is given: expected one");
  if (r.popularity_file && !r.file) throw program::UsageError("--popularity-file is for --file");
  if (r.k && !r.file) throw program::UsageError("--k is for --file");
  if (r.top && !r.history) throw program::UsageError("--top is for --history");
  if (r.separator.find_first_not_of(' ') == std::string::npos)
    throw program::UsageError("--separator is blank, expected something that no title has");
}

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

/// What stands between separators, but for nothing.
Titles split(std::string_view text, std::string_view separator) {
  Titles parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.size(), text.find(separator));
    if (const std::string_view part = without_blanks(text.substr(0, end)); !part.empty())
      parts.emplace_back(part);
    text.remove_prefix(std::min(text.size(), end + separator.size()));
  }
  return parts;
}

Titles read_items(const Request& r) {
  Titles items = split(program::read_all(r.items_file), "\n");
  const std::string items_file = program::input_name(r.items_file);
  if (items.size() < 2)
    gpt::fail<gpt::FormatError>(items_file, "has ", items.size(), " lines, expected two or more");
  for (const std::string& item : items)
    if (item.find(r.separator) != std::string::npos)
      gpt::fail<gpt::FormatError>(items_file, program::in_quotes(item), " has the separator ",
                                  program::in_quotes(r.separator), " in it");
  Titles sorted = items;
  std::ranges::sort(sorted);
  if (const auto twice = std::ranges::adjacent_find(sorted); twice != sorted.end())
    gpt::fail<gpt::FormatError>(items_file, program::in_quotes(*twice), " stands there twice");
  return items;
}

std::vector<Titles> read_histories(const std::string& path, const Request& r) {
  const std::string file = program::input_name(path);
  std::vector<Titles> histories;
  std::istringstream lines(program::read_all(path));
  std::string line;
  for (std::int64_t number = 1; std::getline(lines, line); ++number) {
    if (without_blanks(line).empty()) continue;
    const Json object = Json::parse(line, nullptr, false);
    const auto text = object.is_object() ? object.find("text") : object.end();
    if (!object.is_object() || text == object.end() || !text->is_string())
      gpt::fail<gpt::FormatError>(gpt::concat(file, ":", number),
                                  "is no JSON object with a \"text\", expected a history");
    histories.push_back(split(text->get<std::string>(), r.separator));
    if (histories.back().size() < 2)
      gpt::fail<gpt::FormatError>(gpt::concat(file, ":", number), "has ", histories.back().size(),
                                  " things, expected two or more with ", program::in_quotes(r.separator),
                                  " behind each");
  }
  if (histories.empty()) gpt::fail<gpt::FormatError>(file, "has no history, expected one on each line");
  return histories;
}

/// What may be recommended to somebody, and the text that it would follow.
struct Question {
  std::vector<std::size_t> candidates;  // places in the list of all things
  gpt::ChoiceQuestion text;
};

Question question_of(std::span<const std::string> history, const Titles& items, const Request& r) {
  Question question;
  for (const std::string& title : history)
    question.text.context += gpt::concat(question.text.context.empty() ? "" : " ", title, r.separator);
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (std::ranges::find(history, items[i]) != history.end()) continue;
    question.candidates.push_back(i);
    question.text.choices.push_back(items[i] + r.separator);  // so that no title is the beginning of another
  }
  if (question.candidates.size() < 2)
    gpt::fail<gpt::ArgumentError>("history", "leaves ", question.candidates.size(), " of ", items.size(),
                                  " things to recommend, expected two or more");
  return question;
}

/// Tells histories whose beginning the network does not see.
class Cut {
 public:
  Cut(const gpt::Model& model, const Titles& items, const Request& r) : model_(model) {
    for (const std::string& item : items)
      longest_ = std::max(longest_, tokens_of(gpt::concat(" ", item, r.separator)));
  }
  bool operator()(const Question& question) const {
    // The last token is said, and not seen.
    return tokens_of(question.text.context) + longest_ >
           static_cast<std::size_t>(model_.network().max_tokens()) + 1;
  }

 private:
  std::size_t tokens_of(std::string_view text) const {
    return model_.tokenizer()
        .encode(text, {.parse_special_tokens = false, .add_special_tokens = false})
        .size();
  }

  const gpt::Model& model_;
  std::size_t longest_ = 0;  // tokens of a thing
};

std::vector<double> log_probs_of(const gpt::ChoiceRanking& ranking) {
  std::vector<double> scores;
  for (const gpt::ChoiceScore& score : ranking.scores) scores.push_back(score.log_prob);
  return scores;
}

int recommend(const Request& r, const gpt::Model& model, const Titles& items, std::stop_token stop) {
  const Titles history = split(*r.history, r.separator);
  const Question question = question_of(history, items, r);
  if (Cut(model, items, r)(question))
    program::warn(gpt::concat("[--history] is longer than the network's context of ",
                              model.network().max_tokens(), " tokens: its beginning is cut off"));
  const auto ranking =
      gpt::rank_choices(model.network(), model.tokenizer(), {&question.text, 1}, {.stop = stop}).front();
  const std::vector<double> scores = log_probs_of(ranking);
  std::vector<float> logits(scores.begin(), scores.end());
  const std::vector<double> p = gpt::probabilities(gpt::ProblemType::kSingleLabel, logits);
  std::vector<std::int64_t> order = gpt::best_first(scores);
  order.resize(std::min(order.size(), static_cast<std::size_t>(r.top.value_or(5))));
  Json list = Json::array();
  std::ostringstream text;
  text.imbue(std::locale::classic());
  text << std::fixed << std::setprecision(4);
  for (const std::int64_t place : order) {
    const auto i = static_cast<std::size_t>(place);
    const std::string& item = items[question.candidates[i]];
    text << p[i] << "  " << item << '\n';
    list.push_back({{"item", item}, {"probability", p[i]}, {"log_prob", scores[i]}});
  }
  program::Output().write(
      r.json
          ? Json{{"recommended", std::move(list)}}.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"
          : text.str());
  return program::kDone;
}

/// 1 for the hidden thing, in the order of the scores.
gpt::RankedGains gains_of(const std::vector<double>& scores, std::size_t hidden) {
  gpt::RankedGains gains;
  for (const std::int64_t i : gpt::best_first(scores))
    gains.push_back(static_cast<std::size_t>(i) == hidden ? 1 : 0);
  return gains;
}

Json measures_of(const std::vector<gpt::RankedGains>& rankings, const Request& r) {
  Json object;
  for (const std::int64_t k : r.k ? *r.k : std::vector<std::int64_t>{5, 10}) {
    object[gpt::concat("hit_rate@", k)] = gpt::hit_rate(rankings, k);
    object[gpt::concat("ndcg@", k)] = gpt::ndcg(rankings, k);
  }
  object["mrr"] = gpt::mean_reciprocal_rank(rankings);
  return object;
}

std::string table_of(const Json& of_model, const Json* of_popularity) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << std::fixed << std::setprecision(4) << std::setw(12) << "" << std::setw(12) << "this model";
  if (of_popularity != nullptr) out << std::setw(12) << "popularity";
  out << '\n';
  for (const auto& [name, value] : of_model.items()) {
    out << std::setw(12) << name << std::setw(12) << value.get<double>();
    if (of_popularity != nullptr) out << std::setw(12) << of_popularity->at(name).get<double>();
    out << '\n';
  }
  return out.str();
}

int measure(const Request& r, const gpt::Model& model, const Titles& items, std::stop_token stop) {
  const std::vector<Titles> histories = read_histories(*r.file, r);
  std::map<std::string, std::int64_t, std::less<>> counts;
  if (r.popularity_file)
    for (const Titles& history : read_histories(*r.popularity_file, r))
      for (const std::string& title : history) ++counts[title];
  std::vector<gpt::RankedGains> by_model, by_popularity;
  const Cut is_cut(model, items, r);
  std::int64_t cut = 0;
  constexpr std::size_t kAtOnce = 20;
  for (std::size_t begin = 0; begin < histories.size(); begin += kAtOnce) {
    const std::size_t end = std::min(histories.size(), begin + kAtOnce);
    std::vector<std::size_t> hidden;
    std::vector<gpt::ChoiceQuestion> texts;
    for (std::size_t h = begin; h < end; ++h) {
      const auto had = std::span(histories[h]).first(histories[h].size() - 1);
      Question question = question_of(had, items, r);
      const std::string& next = histories[h].back();
      const auto place = std::ranges::find(
          question.candidates, next, [&items](std::size_t i) -> const std::string& { return items[i]; });
      if (place == question.candidates.end())
        gpt::fail<gpt::FormatError>(program::input_name(*r.file), "history ", h + 1, " ends with ",
                                    program::in_quotes(next), ", expected one of ",
                                    program::input_name(r.items_file), " that is not in it before");
      hidden.push_back(static_cast<std::size_t>(place - question.candidates.begin()));
      std::vector<double> popularity;
      for (const std::size_t i : question.candidates)
        popularity.push_back(static_cast<double>(counts[items[i]]));
      by_popularity.push_back(gains_of(popularity, hidden.back()));
      cut += is_cut(question) ? 1 : 0;
      texts.push_back(std::move(question.text));
    }
    const auto rankings = gpt::rank_choices(model.network(), model.tokenizer(), texts, {.stop = stop});
    for (std::size_t i = 0; i < rankings.size(); ++i)
      by_model.push_back(gains_of(log_probs_of(rankings[i]), hidden[i]));
    if (end == histories.size() || end * 10 / histories.size() > begin * 10 / histories.size())
      std::cerr << "histories ranked: " << end << " of " << histories.size() << '\n';
  }
  if (cut > 0)
    program::warn(gpt::concat("[", program::input_name(*r.file), "] ", cut, " of ", histories.size(),
                              " histories are longer than the network's context of ",
                              model.network().max_tokens(), " tokens: their beginning is cut off"));
  Json object = {{"histories", histories.size()}, {"items", items.size()}};
  const Json of_model = measures_of(by_model, r);
  object.update(of_model);
  if (r.popularity_file) object["popularity"] = measures_of(by_popularity, r);
  if (r.json) {
    object["peak_rss_bytes"] = program::peak_rss_bytes();
    program::Output().write(object.dump() + "\n");
  } else {
    std::cerr << table_of(of_model, r.popularity_file ? &object["popularity"] : nullptr);
  }
  return program::kDone;
}

int run(const Request& request) {
  check(request);
  gpt::set_num_threads(request.threads);
  const program::Interrupt interrupt;
  const Titles items = read_items(request);
  gpt::Model model =
      gpt::Model::load(request.model, {.pack = true, .on_warning = program::warn, .stop = interrupt.token()});
  program::attach_adapter(model, request.adapter);
  return request.file ? measure(request, model, items, interrupt.token())
                      : recommend(request, model, items, interrupt.token());
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  program::App app("gpt-recommend", "Ranks what may come next for somebody by what came before.", kFooter);
  add_options(app, request);
  return program::run(app, argc, argv, [&request] { return run(request); });
}
