// gpt-explain: one page that shows why a GPT-2 checkpoint says what it says.
#include <array>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gpt/gpt.h>

#include "adapter_options.h"
#include "classification.h"
#include "output_place.h"
#include "program.h"

namespace {

using Json = nlohmann::ordered_json;

struct Request {
  std::string model;
  std::optional<std::string> adapter, prompt, prompt_file, target, output;
  std::string method = "integrated-gradients";
  std::optional<std::int64_t> steps;
  std::optional<std::int64_t> top;  // unset: 3
  int threads = 0;
  bool classifier = false, json = false;
};

constexpr const char* kFooter = R"(Examples:
  gpt-explain --model gpt2 --prompt "The capital of France is" --output page.html
  gpt-explain --model gpt2 --prompt "The capital of France is" --target " London" --output page.html
  gpt-explain --model gpt2 --prompt-file text.txt --method gradient-times-input --json
  gpt-explain --model sentiment --classifier --prompt "What a waste of time." --output page.html

What is explained is the log-probability of the token that comes next: the most probable one, or --target. The page shows which tokens
of the prompt it is due to, what each layer would say (the logit lens), what reaches the last token through the attention of all
layers (rollout), and where each head looks. With --classifier it is the log-probability of a label (its logit, where several may be
right) in the network that gpt-classify trained: of the most probable one, or --target; there is no lens then.)";

void add_options(program::App& app, Request& r) {
  app.add_text("--model", r.model, "PATH", "Hugging Face directory or GGUF file of a GPT-2 checkpoint")
      .required();
  program::add_adapter_option(app, r.adapter);
  app.add_flag("--classifier", r.classifier, "It is a classifier: explain a label of the text");
  app.add_text("--prompt", r.prompt, "TEXT", "What comes before the token that is explained");
  app.add_text("--prompt-file", r.prompt_file, "FILE",
               "File or pipe whose whole content is the prompt, - for standard input")
      .is_input();
  app.add_text("--target", r.target, "TEXT",
               "Explain this token, or label, instead of the most probable one: \" London\"");
  app.add_text("--output", r.output, "FILE", "Where the page goes");
  app.add_text("--method", r.method, "NAME",
               "integrated-gradients or gradient-times-input (integrated-gradients)");
  app.add_number("--steps", r.steps, "Of integrated-gradients: more are more exact, and take longer (32)", 1);
  app.add_number("--top", r.top, "Tokens beside each other in --json's logit lens (3)", 1);
  app.add_number("--threads", r.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", r.json, "Print one JSON object with the numbers");
}

void check(const Request& r) {
  if (r.prompt.has_value() == r.prompt_file.has_value())
    throw program::UsageError(r.prompt ? "--prompt and --prompt-file are both given: expected one"
                                       : "neither --prompt nor --prompt-file is given: expected one");
  if (!r.output && !r.json)
    throw program::UsageError("neither --output nor --json is given: nothing would be shown");
  const bool integrates = r.method == "integrated-gradients";
  if (!integrates && r.method != "gradient-times-input")
    throw program::UsageError(gpt::concat("--method: ", program::in_quotes(r.method),
                                          " is none of integrated-gradients, gradient-times-input"));
  if (r.classifier && r.adapter) throw program::UsageError("--adapter is not for --classifier");
  if (r.top && (r.classifier || !r.json))
    throw program::UsageError("--top is for --json, and not for --classifier");
  if (r.steps && !integrates) throw program::UsageError("--steps is for --method integrated-gradients");
}

struct Explanation {
  std::vector<gpt::TokenId> prompt;
  gpt::TokenId target = 0;           // of a classifier the label
  std::optional<std::string> label;  // its name
  bool is_log_prob = true;           // the value
  gpt::Attribution attribution;
  std::vector<std::vector<std::vector<gpt::RankedToken>>> lens;  // [layer][token]
  std::vector<gpt::Tensor> attentions;
  gpt::Tensor rollout;
};

std::string_view prompt_option(const Request& r) { return r.prompt ? "--prompt" : "--prompt-file"; }

gpt::TokenId token_of(const std::string& text, const gpt::Tokenizer& tokenizer) {
  const std::vector<gpt::TokenId> ids = tokenizer.encode(text);
  if (ids.size() != 1)
    gpt::fail<gpt::ArgumentError>(
        "--target", program::in_quotes(text), " is ", program::counted(std::ssize(ids), "token"),
        ", expected one",
        ids.size() > 1
            ? gpt::concat("; the first is ", program::in_quotes(tokenizer.decode(std::span(ids).first(1))))
            : "");
  return ids.front();
}

/// What integrated gradients begin with: the end of a text, which says least of what comes.
gpt::TokenId baseline_of(const gpt::Model& model) {
  const auto& eos = model.config().eos_token_id;
  const bool known = !eos.empty() && eos.front() >= 0 && eos.front() < model.config().vocab_size;
  return known ? eos.front() : 0;
}

/// The parts that a language model and a classifier share.
void look_inside(Explanation& e, const Request& r, const gpt::Model& model, const gpt::ExplainedValue& value,
                 std::stop_token stop) {
  const gpt::Gpt2& network = model.network();
  e.attribution = r.method == "integrated-gradients"
                      ? gpt::integrated_gradients(network, e.prompt, value, baseline_of(model),
                                                  r.steps.value_or(32), stop)
                      : gpt::gradient_times_input(network, e.prompt, value, stop);
  e.attentions = gpt::attentions(network, e.prompt, stop);
  e.rollout = gpt::attention_rollout(e.attentions);
}

Explanation explain(const Request& r, const gpt::Model& model, const std::string& prompt,
                    std::stop_token stop) {
  const gpt::Gpt2& network = model.network();
  Explanation e;
  e.prompt = model.tokenizer().encode_prompt(prompt);
  if (e.prompt.empty()) gpt::fail<gpt::ArgumentError>(prompt_option(r), "has no tokens");
  if (std::ssize(e.prompt) > network.max_tokens())
    gpt::fail<gpt::ArgumentError>(prompt_option(r), "has ", e.prompt.size(),
                                  " tokens, and the network takes at most ", network.max_tokens());
  e.lens = gpt::logit_lens(network, e.prompt, std::min(r.top.value_or(3), model.config().vocab_size), stop);
  e.target = r.target ? token_of(*r.target, model.tokenizer()) : e.lens.back().back().front().id;
  look_inside(e, r, model, gpt::next_token_log_prob(network, e.target), stop);
  return e;
}

Explanation explain(const Request& r, const gpt::Classifier& classifier, const std::string& text,
                    std::stop_token stop) {
  Explanation e;
  const std::int64_t max_length = program::ClassifierSettings::load(r.model).max_length;
  bool cut = false;
  const std::vector<gpt::TokenId> ids = classifier.encode(text, max_length, &cut);
  const std::span<const gpt::TokenId> used = classifier.used(ids);
  e.prompt.assign(used.begin(), used.end());
  const std::vector<std::string>& labels = classifier.labels();
  if (r.target) {
    const auto found = std::ranges::find(labels, *r.target);
    if (found == labels.end())
      gpt::fail<gpt::ArgumentError>("--target", program::in_quotes(*r.target),
                                    " is no label, expected one of ",
                                    program::listed({labels.begin(), labels.end()}));
    e.target = static_cast<gpt::TokenId>(found - labels.begin());
  } else {
    const gpt::Tensor logits = classifier.logits({&ids, 1}, stop);
    e.target = static_cast<gpt::TokenId>(std::ranges::max_element(logits.span<float>()) -
                                         logits.span<float>().begin());
  }
  if (cut)
    program::warn(gpt::concat("[", prompt_option(r), "] is longer than the ", ids.size(),
                              " tokens that the classifier takes: what stands behind is left out"));
  e.label = labels[static_cast<std::size_t>(e.target)];
  e.is_log_prob = classifier.problem_type() == gpt::ProblemType::kSingleLabel;
  look_inside(e, r, classifier.model(), gpt::label_score(classifier, e.target), stop);
  return e;
}

std::string text_of(const gpt::Model& model, gpt::TokenId id) { return model.tokenizer().decode({&id, 1}); }

/// A token between quotes, with a line break as \n.
std::string quoted(const gpt::Model& model, gpt::TokenId id) {
  return Json(text_of(model, id)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// The token or label that is explained, between quotes.
std::string target_text(const gpt::Model& model, const Explanation& e) {
  return e.label ? Json(*e.label).dump(-1, ' ', false, Json::error_handler_t::replace)
                 : quoted(model, e.target);
}

std::string value_text(const gpt::Model& model, const Explanation& e) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << std::fixed << std::setprecision(4) << (e.is_log_prob ? "p(" : "logit(") << target_text(model, e)
      << ") = " << (e.is_log_prob ? gpt::math::exp(e.attribution.value) : e.attribution.value);
  return out.str();
}

gpt::ExplanationPage page_of(const Request& r, const gpt::Model& model, Explanation& e) {
  gpt::ExplanationPage page;
  page.title = gpt::concat("Why ", target_text(model, e), "?");
  page.value = value_text(model, e);
  page.method = r.method == "integrated-gradients" ? "Integrated gradients" : "Gradient times input";
  for (const gpt::TokenId id : e.prompt) page.tokens.push_back(text_of(model, id));
  page.scores = e.attribution.scores;
  for (const auto& layer : e.lens) {
    auto& guesses = page.lens.emplace_back();
    for (const auto& top : layer)
      guesses.push_back({text_of(model, top[0].id), gpt::math::exp(top[0].log_prob)});
  }
  page.attentions = std::move(e.attentions);
  page.rollout = std::move(e.rollout);
  return page;
}

std::string to_json(const Request& r, const gpt::Model& model, const Explanation& e) {
  Json object{{"target", {{"id", e.target}, {"text", e.label ? *e.label : text_of(model, e.target)}}},
              {"method", r.method}};
  object[e.is_log_prob ? "log_prob" : "logit"] = e.attribution.value;
  if (r.method == "integrated-gradients") object["baseline"] = e.attribution.baseline;
  object["tokens"] = Json::array();
  const auto t = static_cast<std::int64_t>(e.prompt.size());
  for (std::size_t i = 0; i < e.prompt.size(); ++i)
    object["tokens"].push_back(
        {{"id", e.prompt[i]},
         {"text", text_of(model, e.prompt[i])},
         {"score", e.attribution.scores[i]},
         {"rollout", e.rollout.data<float>()[(t - 1) * t + static_cast<std::int64_t>(i)]}});
  if (!e.label) object["logit_lens"] = Json::array();
  for (const auto& layer : e.lens) {
    Json tokens = Json::array();
    for (const auto& top : layer) {
      Json ranked = Json::array();
      for (const gpt::RankedToken& token : top)
        ranked.push_back(
            {{"id", token.id}, {"text", text_of(model, token.id)}, {"log_prob", token.log_prob}});
      tokens.push_back(std::move(ranked));
    }
    object["logit_lens"].push_back(std::move(tokens));
  }
  return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

int run(const Request& request) {
  check(request);
  if (request.output)
    program::require_not_read(
        "--output", *request.output,
        std::array{request.model, request.adapter.value_or(""), request.prompt_file.value_or("")});
  gpt::set_num_threads(request.threads);
  const program::Interrupt interrupt;
  const std::string prompt = request.prompt ? *request.prompt : program::read_all(*request.prompt_file);
  const gpt::LoadOptions options{.on_warning = program::warn, .stop = interrupt.token()};
  std::optional<gpt::Classifier> classifier;
  std::optional<gpt::Model> language_model;
  if (request.classifier)
    classifier = gpt::Classifier::load(request.model, options);
  else
    program::attach_adapter(language_model.emplace(gpt::Model::load(request.model, options)),
                            request.adapter);
  if (const auto* adapter = language_model ? language_model->network().adapter().get() : nullptr;
      adapter != nullptr && adapter->virtual_tokens() > 0)
    gpt::fail<gpt::UnsupportedError>(
        "--adapter", "begins with virtual tokens (prompt or prefix tuning), which cannot be explained");
  const gpt::Model& model = classifier ? classifier->model() : *language_model;
  Explanation explanation = classifier ? explain(request, *classifier, prompt, interrupt.token())
                                       : explain(request, model, prompt, interrupt.token());
  const std::string json = request.json ? to_json(request, model, explanation) : "";
  const std::string value = value_text(model, explanation);
  if (request.output) {
    gpt::write_file_atomically(*request.output, gpt::to_html(page_of(request, model, explanation)));
    std::cerr << *request.output << ": " << value << '\n';
  }
  if (request.json) program::Output().write(json);
  return program::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  program::App app("gpt-explain", "Shows why a GPT-2 checkpoint says what it says.", kFooter);
  add_options(app, request);
  return program::run(app, argc, argv, [&request] { return run(request); });
}
