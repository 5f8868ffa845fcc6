// gpt-evaluate: how well a GPT-2 checkpoint predicts a text, answers questions of multiple choice, and writes.
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <iomanip>
#include <iostream>
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
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::ostringstream fixed(int digits) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << std::fixed << std::setprecision(digits);
  return out;
}

/// How far the work is, on standard error: a line that is written over on a terminal, elsewhere one for each tenth.
class Count {
 public:
  explicit Count(std::string what) : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) != 0) {}
  ~Count() {
    if (line_is_open_) std::cerr << '\n';
  }
  Count(const Count&) = delete;
  Count& operator=(const Count&) = delete;

  void operator()(const gpt::EvaluationProgress& p) {
    if (terminal_) {
      std::cerr << '\r' << text(p) << std::flush;
      line_is_open_ = true;
    } else if (const std::int64_t tenths = p.total > 0 ? p.done * 10 / p.total : 10; tenths > tenths_) {
      tenths_ = tenths;
      std::cerr << text(p) << '\n';
    }
  }

 private:
  std::string text(const gpt::EvaluationProgress& p) const {
    return gpt::concat(what_, ": ", p.done, " of ", p.total);
  }

  std::string what_;
  bool terminal_, line_is_open_ = false;
  std::int64_t tenths_ = 0;
};

/// Writes the result: an object to standard output, or what people read to standard error.
int finish(bool json, Json object, const std::string& text) {
  if (json) {
    object["peak_rss_bytes"] = program::peak_rss_bytes();
    program::Output().write(object.dump() + "\n");
  } else {
    std::cerr << text;
  }
  return program::kDone;
}

/// What all commands that run a model take.
struct ModelRequest {
  std::string model, file;
  std::optional<std::string> adapter;
  int threads = 0;
  bool json = false;
};

void add_common_options(program::App& app, int& threads, bool& json) {
  app.add_number("--threads", threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", json, "Print one JSON object instead of text");
}

void add_model_options(program::App& app, ModelRequest& request, const std::string& file) {
  app.add_text("--model", request.model, "PATH", "Hugging Face directory or GGUF file of a GPT-2 checkpoint")
      .required();
  program::add_adapter_option(app, request.adapter);
  app.add_text("--file", request.file, "FILE", file).required().is_input();
  add_common_options(app, request.threads, request.json);
}

/// The weights are streamed many times: packing pays.
gpt::Model load(const ModelRequest& request, const program::Interrupt& interrupt) {
  gpt::Model model =
      gpt::Model::load(request.model, {.pack = true, .on_warning = program::warn, .stop = interrupt.token()});
  program::attach_adapter(model, request.adapter);
  return model;
}

// gpt-evaluate perplexity

struct PerplexityRequest : ModelRequest {
  std::int64_t max_length = 0, stride = 0;
};

constexpr const char* kPerplexityFooter = R"(Examples:
  gpt-evaluate perplexity --model gpt2 --file test.txt
  gpt-evaluate perplexity --model gpt2 --file test.txt --max-length 1024 --stride 512 --json

Windows of --max-length tokens begin every --stride tokens; each scores the tokens that none before held, as in the guide
"Perplexity of fixed-length models" of transformers. A smaller stride gives more context, and takes longer.
<|endoftext|> in the file is that token.)";

void add_options(program::App& app, PerplexityRequest& request) {
  add_model_options(app, request, "The text; may be a pipe, or - for standard input");
  app.add_number("--max-length", request.max_length, "Tokens of a window (as many as the network takes)", 2);
  app.add_number("--stride", request.stride, "Tokens between the beginnings of windows (half a window)", 1);
}

int run(const PerplexityRequest& request) {
  if (request.max_length > 0 && request.stride > request.max_length)
    throw program::UsageError(
        gpt::concat("--stride is ", request.stride, ", expected 1 to --max-length = ", request.max_length));
  gpt::set_num_threads(request.threads);
  const program::Interrupt interrupt;
  const std::string text = program::read_all(request.file);
  auto start = Clock::now();
  const gpt::Model model = load(request, interrupt);
  const double load_s = seconds_since(start);
  start = Clock::now();
  const std::vector<gpt::TokenId> ids = model.tokenizer().encode(text);
  const double encode_s = seconds_since(start);
  if (ids.size() < 2)
    gpt::fail<gpt::FormatError>(program::input_name(request.file), "has ",
                                program::counted(std::ssize(ids), "token"), ", expected 2 or more");
  gpt::ScoreOptions options{.max_length = request.max_length, .stride = request.stride};
  options.stop = interrupt.token();
  gpt::Perplexity result;
  start = Clock::now();
  {
    Count count("tokens scored");
    options.on_progress = std::ref(count);
    result = gpt::perplexity(model.network(), ids, options);
  }
  const double score_s = seconds_since(start);
  Json object{{"perplexity", result.value()}, {"mean_nll", result.mean_nll()}, {"nll", result.nll},
              {"tokens", result.tokens},      {"scored", result.scored},       {"windows", result.windows},
              {"bytes", text.size()}};
  object["timing"] = {{"load_s", load_s}, {"encode_s", encode_s}, {"score_s", score_s}};
  std::ostringstream out = fixed(4);
  out << "perplexity " << result.value() << " (" << result.mean_nll() << " nats per token over "
      << result.scored << " of " << program::counted(result.tokens, "token") << " in "
      << program::counted(result.windows, "window") << ")\n";
  return finish(request.json, std::move(object), out.str());
}

// gpt-evaluate choices

constexpr const char* kChoicesFooter = R"(Examples:
  gpt-evaluate choices --model gpt2 --file hellaswag_val.jsonl
  gpt-evaluate choices --model gpt2 --file questions.jsonl --json

Each line is {"ctx", "endings", "label"} (HellaSwag) or {"question" or "prompt", "choices", "answer" or "label"}; the answer is
an index from 0 or a letter from A. A choice scores the log-probability of its tokens after the context and a space: the
accuracy is that of the highest, the normalized one that of the highest per byte.)";

void add_options(program::App& app, ModelRequest& request) {
  add_model_options(app, request,
                    "The questions, a JSON object a line; may be a pipe, or - for standard input");
}

int run(const ModelRequest& request) {
  gpt::set_num_threads(request.threads);
  const program::Interrupt interrupt;
  const std::string text = program::read_all(request.file);
  const std::vector<gpt::ChoiceQuestion> questions =
      gpt::parse_choice_questions(text, program::input_name(request.file));
  auto start = Clock::now();
  const gpt::Model model = load(request, interrupt);
  const double load_s = seconds_since(start);
  start = Clock::now();
  std::vector<gpt::ChoiceRanking> rankings;
  {
    Count count("questions scored");
    rankings = gpt::rank_choices(model.network(), model.tokenizer(), questions,
                                 {.on_progress = std::ref(count), .stop = interrupt.token()});
  }
  const double score_s = seconds_since(start);
  const gpt::ChoiceCounts counts = gpt::count_right(questions, rankings);
  const auto share = [&counts](std::int64_t right) {
    return static_cast<double>(right) / static_cast<double>(counts.questions);
  };
  Json object{{"questions", counts.questions},
              {"accuracy", share(counts.right)},
              {"normalized_accuracy", share(counts.right_per_byte)},
              {"accuracy_per_token", share(counts.right_per_token)}};
  object["answers"] = Json::array();
  for (std::size_t i = 0; i < questions.size(); ++i) {
    Json answer{{"answer", questions[i].answer},
                {"best", rankings[i].best},
                {"best_per_byte", rankings[i].best_per_byte},
                {"best_per_token", rankings[i].best_per_token}};
    for (const gpt::ChoiceScore& score : rankings[i].scores)
      answer["choices"].push_back(
          {{"log_prob", score.log_prob}, {"tokens", score.tokens}, {"bytes", score.bytes}});
    object["answers"].push_back(std::move(answer));
  }
  object["timing"] = {{"load_s", load_s}, {"score_s", score_s}};
  std::ostringstream out = fixed(4);
  out << "accuracy " << share(counts.right) << ", normalized " << share(counts.right_per_byte)
      << ", per token " << share(counts.right_per_token) << " (" << counts.questions << " questions)\n";
  return finish(request.json, std::move(object), out.str());
}

// gpt-evaluate generation

struct GenerationRequest {
  std::string predictions;
  std::optional<std::string> references;
  std::string tokenize = "13a";
  std::vector<std::string> replacements;
  bool dedupe_lines = false, trim = false;
  int threads = 0;
  bool json = false;
};

constexpr const char* kGenerationFooter = R"(Examples:
  gpt-evaluate generation --predictions out.jsonl --references test.jsonl
  gpt-evaluate generation --predictions out.jsonl --references out.jsonl --trim --json
  gpt-evaluate generation --predictions out.jsonl --replace '(?m)^[A-Z]+:$='

A line of predictions is {"prediction": text} or {"text": text}; that of the same prediction's references {"references":
[text, ...]}, {"reference": text} or {"text": text}. BLEU is sacrebleu's, of the whole corpus; ROUGE is rouge-score's without a
stemmer, the mean over predictions; distinct-n is the share of different n-grams of all predictions, repetition-4 the mean share
of 4-grams that occurred in their prediction before, - where there are none. --replace, --dedupe-lines and --trim change
predictions first, in that order.)";

void add_options(program::App& app, GenerationRequest& request) {
  app.add_text("--predictions", request.predictions, "FILE",
               "Generated texts, a JSON object a line; may be a pipe, or - for standard input")
      .required()
      .is_input();
  app.add_text("--references", request.references, "FILE",
               "What they should be like, line by line; BLEU and ROUGE need it")
      .is_input();
  app.add_text("--tokenize", request.tokenize, "NAME",
               "Words of BLEU, distinct-n and repetition: 13a, zh (Chinese characters) or none (13a)");
  app.add_texts("--replace", request.replacements, "REGEX=TEXT",
                "Replace what an expression of RE2 matches, up to the last \"=\"; may be repeated");
  app.add_flag("--dedupe-lines", request.dedupe_lines, "Leave out lines that occurred before");
  app.add_flag("--trim", request.trim, "Leave out white space at both ends");
  add_common_options(app, request.threads, request.json);
}

gpt::WordRule word_rule(const std::string& name) {
  if (name == "13a") return gpt::WordRule::k13a;
  if (name == "zh") return gpt::WordRule::kZh;
  if (name == "none") return gpt::WordRule::kNone;
  throw program::UsageError(
      gpt::concat("--tokenize: ", program::in_quotes(name), " is unknown, expected 13a, zh or none"));
}

std::vector<gpt::TextStep> steps_of(const GenerationRequest& request) {
  std::vector<gpt::TextStep> steps;
  for (const std::string& text : request.replacements) {
    const std::size_t equals = text.rfind('=');
    if (equals == text.npos || equals == 0)
      throw program::UsageError(gpt::concat("--replace: ", program::in_quotes(text), " is not REGEX=TEXT"));
    try {
      steps.push_back(gpt::RegexReplace(text.substr(0, equals), text.substr(equals + 1)));
    } catch (const gpt::ArgumentError& error) {
      throw program::UsageError(gpt::concat("--replace: ", error.what()));
    }
  }
  if (request.dedupe_lines) steps.emplace_back(gpt::dedupe_lines);
  if (request.trim) steps.emplace_back(gpt::trim);
  return steps;
}

Json to_json(const gpt::RougeScore& score) {
  return {{"precision", score.precision}, {"recall", score.recall}, {"fmeasure", score.fmeasure}};
}

int run(const GenerationRequest& request) {
  const gpt::WordRule rule = word_rule(request.tokenize);
  const std::vector<gpt::TextStep> steps = steps_of(request);
  gpt::set_num_threads(request.threads);
  std::vector<std::string> predictions = gpt::parse_predictions(program::read_all(request.predictions),
                                                                program::input_name(request.predictions));
  for (std::string& text : predictions) text = gpt::postprocess(text, steps);
  Json object{{"predictions", predictions.size()}, {"tokenize", request.tokenize}};
  std::ostringstream out = fixed(4);
  const auto add = [&](const char* key, const char* name, double value) {
    object[key] = value;
    if (std::isnan(value))  // there are no n-grams
      out << name << " -\n";
    else
      out << name << ' ' << value << '\n';
  };
  add("distinct_1", "distinct-1", gpt::distinct_n(predictions, 1, rule));
  add("distinct_2", "distinct-2", gpt::distinct_n(predictions, 2, rule));
  add("repetition_4", "repetition-4", gpt::repetition_n(predictions, 4, rule));
  if (request.references) {
    auto references = gpt::parse_references(program::read_all(*request.references),
                                            program::input_name(*request.references));
    if (references.size() != predictions.size())
      gpt::fail<gpt::FormatError>(program::input_name(*request.references), "has ", references.size(),
                                  " lines, expected ", predictions.size(), ", one for each prediction");
    const auto texts = gpt::join_references(std::move(predictions), std::move(references));
    const gpt::Bleu bleu = gpt::bleu(texts, rule);
    const gpt::Rouge rouge = gpt::rouge(texts);
    object["bleu"] = {{"score", bleu.score},
                      {"precisions", bleu.precisions},
                      {"brevity_penalty", bleu.brevity_penalty},
                      {"length", bleu.length},
                      {"reference_length", bleu.reference_length}};
    object["rouge1"] = to_json(rouge.rouge1);
    object["rouge2"] = to_json(rouge.rouge2);
    object["rougeL"] = to_json(rouge.rouge_l);
    out << "BLEU " << bleu.score << "\nROUGE-1 " << rouge.rouge1.fmeasure << "\nROUGE-2 "
        << rouge.rouge2.fmeasure << "\nROUGE-L " << rouge.rouge_l.fmeasure << '\n';
  }
  return finish(request.json, std::move(object), out.str());
}

// The commands

/// Parses what follows the command, and does it.
template <class Request>
int run_command(const char* name, const char* description, const char* footer, int argc, char** argv) {
  Request request;
  program::App app(name, description, footer);
  add_options(app, request);
  return program::run(app, argc, argv, [&request] { return run(request); });
}

struct Command {
  std::string_view name;
  int (*run)(int argc, char** argv);
};

int run_perplexity(int argc, char** argv) {
  return run_command<PerplexityRequest>("gpt-evaluate perplexity", "How well a model predicts a text.",
                                        kPerplexityFooter, argc, argv);
}

int run_choices(int argc, char** argv) {
  return run_command<ModelRequest>("gpt-evaluate choices",
                                   "How many questions of multiple choice a model answers rightly.",
                                   kChoicesFooter, argc, argv);
}

int run_generation(int argc, char** argv) {
  return run_command<GenerationRequest>("gpt-evaluate generation",
                                        "How good generated texts are, and how varied.", kGenerationFooter,
                                        argc, argv);
}

constexpr std::array kCommands = {Command{"perplexity", run_perplexity}, Command{"choices", run_choices},
                                  Command{"generation", run_generation}};

constexpr const char* kFooter = R"(Commands:
  gpt-evaluate perplexity --model PATH --file FILE    how well a model predicts a text
  gpt-evaluate choices --model PATH --file FILE       how many questions of multiple choice it answers rightly
  gpt-evaluate generation --predictions FILE          how good generated texts are, and how varied

gpt-evaluate COMMAND --help says more.)";

}  // namespace

int main(int argc, char** argv) {
  const std::string_view first = argc > 1 ? argv[1] : "";
  for (const Command& command : kCommands)
    if (first == command.name) return command.run(argc - 1, argv + 1);
  program::App app("gpt-evaluate", "Evaluates a GPT-2 checkpoint, or what one has written.", kFooter);
  const bool is_option = first.starts_with('-');
  return program::run(app, is_option ? argc : 1, argv, [&]() -> int {
    std::string names;
    for (const Command& command : kCommands)
      names += gpt::concat(names.empty() ? "" : &command == &kCommands.back() ? " or " : ", ", command.name);
    throw program::UsageError(
        argc > 1 ? gpt::concat(program::in_quotes(first), " is no command, expected ", names, ": see --help")
                 : gpt::concat("a command is missing, expected ", names, ": see --help"));
  });
}
