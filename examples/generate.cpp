// gpt-generate: continues a prompt with a GPT-2 checkpoint.
#include <algorithm>
#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gpt/gpt.h>

#include "adapter_options.h"
#include "generation_options.h"
#include "grammar_options.h"
#include "machine_options.h"
#include "program.h"

namespace {

using Json = nlohmann::ordered_json;

struct Request {
  std::string model;
  std::optional<std::string> adapter;
  std::optional<std::string> prompt;
  std::optional<std::string> prompt_file;
  std::optional<std::vector<gpt::TokenId>> input_ids;
  std::optional<std::string> negative_prompt;
  std::optional<std::string> assistant_model;
  program::GrammarRequest grammar;
  gpt::GenerateOptions options;
  program::MachineRequest machine;
  bool json = false;
};

constexpr const char* kFooter = R"(Examples:
  gpt-generate --model gpt2 --prompt "Once upon a time" --max-new-tokens 60
  gpt-generate --model gpt2 --prompt "Once upon a time" --do-sample --temperature 0.8 --top-p 0.95 --seed 7
  gpt-generate --model gpt2 --prompt "Once upon a time" --num-beams 4 --num-return-sequences 2
  gpt-generate --model gpt2 --input-ids 15496,995 --logprobs 3 --json
  gpt-generate --model gpt2 --prompt "A person:" --json-schema-file person.json --max-new-tokens 100

The new text goes to standard output as it is made, several texts with a line ---- between (token ids, when the checkpoint
has no tokenizer), everything else to standard error. Options that are not given come from the checkpoint's
generation_config.json.)";

void add_input_options(program::App& app, Request& request) {
  app.add_text("--model", request.model, "PATH", "Hugging Face directory or GGUF file of a GPT-2 checkpoint")
      .required();
  program::add_adapter_option(app, request.adapter);
  app.add_text("--prompt", request.prompt, "TEXT", "Text to continue");
  app.add_text("--prompt-file", request.prompt_file, "FILE",
               "File or pipe whose whole content is the prompt, - for standard input")
      .is_input();
  app.add_text_function(
      "--input-ids",
      [&request](const std::string& text) {
        request.input_ids = program::parse_numbers<gpt::TokenId>("--input-ids", text, 0);
      },
      "IDS", "The prompt as token ids: 15496,995");
  app.add_text("--assistant-model", request.assistant_model, "PATH",
               "A smaller checkpoint with the same tokens, to guess the next ones");
  app.add_text("--negative-prompt", request.negative_prompt, "TEXT",
               "Text that --guidance-scale leads away from");
}

// What needs no checkpoint to be judged.
void check(const Request& request) {
  if (request.prompt.has_value() + request.prompt_file.has_value() + request.input_ids.has_value() != 1)
    throw program::UsageError("give exactly one of --prompt, --prompt-file and --input-ids");
  if (request.negative_prompt && request.options.negative_prompt_ids)
    throw program::UsageError("give one of --negative-prompt and --negative-prompt-ids");
  program::check_usage([&] { request.options.validate(); });
}

std::vector<gpt::TokenId> prompt_ids(const Request& request, const gpt::Model& model) {
  if (request.input_ids) return *request.input_ids;
  std::vector<gpt::TokenId> ids = model.tokenizer().encode_prompt(*request.prompt);
  if (ids.empty() && request.prompt_file)
    gpt::fail<gpt::ArgumentError>(program::input_name(*request.prompt_file),
                                  "is empty: there is no token to continue from");
  return ids;
}

Json token_text(const gpt::Model& model, gpt::TokenId id) {
  if (!model.has_tokenizer()) return nullptr;
  try {
    return std::string(model.tokenizer().bytes_of(id));
  } catch (const gpt::ArgumentError&) {  // a network may have more rows than its tokenizer has tokens
    return nullptr;
  }
}

Json log_prob_of(const gpt::Model& model, gpt::TokenId id, double logprob) {
  return {{"id", id}, {"token", token_text(model, id)}, {"logprob", logprob}};
}

Json log_probs_of(const gpt::Model& model, const gpt::GenerateResult& result) {
  Json tokens = Json::array();
  for (std::size_t i = 0; i < result.logprobs.size(); ++i) {
    Json& token = tokens.emplace_back(log_prob_of(model, result.ids[i], result.logprobs[i]));
    token["top"] = Json::array();
    for (const auto& entry : result.top_logprobs[i])
      token["top"].push_back(log_prob_of(model, entry.id, entry.logprob));
  }
  return tokens;
}

/// What there is to say about one sequence.
void add_sequence(Json& object, const gpt::Model& model, const gpt::GenerateResult& result) {
  object["ids"] = result.ids;
  object["text"] = model.has_tokenizer() ? Json(result.text) : Json(nullptr);
  object["finish_reason"] = gpt::name_of(result.finish_reason);
}

// The first sequence, and under "sequences" all of them where more than one are asked for or they have scores.
std::string to_json(const gpt::Model& model, const std::vector<gpt::GenerateResult>& results, bool log_probs,
                    double load_s) {
  const gpt::GenerateResult& result = results.front();
  Json object;
  object["prompt_ids"] = result.prompt_ids;
  add_sequence(object, model, result);
  object["timing"] = {{"load_s", load_s},
                      {"prefill_tokens", result.timing.prefill_tokens},
                      {"prefill_s", result.timing.prefill_s},
                      {"decode_tokens", result.timing.decode_tokens},
                      {"decode_s", result.timing.decode_s}};
  object["logprobs"] = log_probs ? log_probs_of(model, result) : Json(nullptr);
  if (results.size() > 1 || result.score) {
    Json& sequences = object["sequences"] = Json::array();
    for (const gpt::GenerateResult& other : results) {
      Json& sequence = sequences.emplace_back();
      add_sequence(sequence, model, other);
      sequence["score"] = other.score ? Json(*other.score) : Json(nullptr);
      sequence["logprobs"] = log_probs ? log_probs_of(model, other) : Json(nullptr);
    }
  }
  object["peak_rss_bytes"] = program::peak_rss_bytes();
  // A single token may be half a character: replace what is not UTF-8.
  return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Log-probabilities for people: a line per token, alternatives behind it.
void print_log_probs(std::ostream& out, const gpt::Model& model, const gpt::GenerateResult& result) {
  const auto print = [&](gpt::TokenId id, double logprob) {
    out << id << ' ' << token_text(model, id).dump(-1, ' ', false, Json::error_handler_t::replace) << ' '
        << logprob;
  };
  for (std::size_t i = 0; i < result.logprobs.size(); ++i) {
    print(result.ids[i], result.logprobs[i]);
    for (const auto& entry : result.top_logprobs[i]) print((out << "  | ", entry.id), entry.logprob);
    out << '\n';
  }
}

std::string summary(const gpt::GenerateResult& result, double load_s) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(3);
  const auto rate = [&out](std::int64_t tokens, double seconds) {
    out << program::counted(tokens, "token") << " in " << seconds << " s";
    if (tokens > 0 && seconds > 0.0) out << " (" << static_cast<double>(tokens) / seconds << "/s)";
  };
  const gpt::GenerateTiming& timing = result.timing;
  out << "loaded in " << load_s << " s; prompt: ";
  rate(timing.prefill_tokens, timing.prefill_s);
  out << "; then: ";
  rate(timing.decode_tokens, timing.decode_s);
  out << "; ended by " << gpt::name_of(result.finish_reason) << '\n';
  return out.str();
}

using Results = std::vector<gpt::GenerateResult>;

/// The text of one sequence, written as it is made; nothing when nobody reads it.
std::optional<Results> streamed(const gpt::Generator& generator, const std::vector<gpt::TokenId>& prompt,
                                const Request& request, const gpt::Model& model, program::Output& output) {
  gpt::Stream stream = generator.stream(prompt, request.options);
  bool first = true;
  for (const gpt::Piece& piece : stream) {
    if (request.json) continue;
    const std::string id = gpt::concat(first ? "" : ",", piece.id);
    if (!output.write(model.has_tokenizer() ? piece.text : id)) return std::nullopt;
    first = false;
  }
  return Results{stream.result()};
}

/// The same of several sequences, or of beams, which change to the last: with a line of dashes between the texts.
std::optional<Results> all_at_once(const gpt::Generator& generator, const std::vector<gpt::TokenId>& prompt,
                                   const Request& request, const gpt::Model& model, program::Output& output) {
  Results results = generator.generate(std::span(&prompt, 1), request.options);
  std::string text;
  for (std::size_t r = 0; r < results.size() && !request.json; ++r) {
    if (r > 0) text += "\n----\n";
    if (model.has_tokenizer()) {
      text += results[r].text;
      continue;
    }
    for (std::size_t i = 0; i < results[r].ids.size(); ++i)
      text += gpt::concat(i == 0 ? "" : ",", results[r].ids[i]);
  }
  if (!output.write(text)) return std::nullopt;
  return results;
}

int generate(Request& request) {
  check(request);
  const program::Interrupt interrupt;
  if (request.prompt_file) request.prompt = program::read_all(*request.prompt_file);
  const std::optional<gpt::Grammar> grammar = program::read_grammar(request.grammar);
  gpt::LoadOptions& load = request.machine.load;
  load.stop = request.options.stop = interrupt.token();
  gpt::set_num_threads(request.machine.threads);
  load.on_warning = program::warn;
  constexpr std::int64_t kTokensThatPayForPacking = 64;
  load.pack = request.machine.pack.value_or(
      std::max(request.options.max_new_tokens.value_or(0), request.options.max_length.value_or(0)) >=
      kTokensThatPayForPacking);
  const auto start = std::chrono::steady_clock::now();
  gpt::Model model = gpt::Model::load(request.model, load);
  program::attach_adapter(model, request.adapter);
  const double load_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::optional<gpt::Model> assistant;
  if (request.assistant_model) {
    assistant.emplace(gpt::Model::load(*request.assistant_model, load));
    request.options.assistant_model = &*assistant;
  }
  if (grammar)
    request.options.grammar =
        std::make_shared<const gpt::CompiledGrammar>(*grammar, model.tokenizer(), model.config().vocab_size);
  if (grammar || assistant) program::check_usage([&] { request.options.validate(); });
  const gpt::Generator generator(model, program::warn);
  if (request.negative_prompt)
    request.options.negative_prompt_ids = model.tokenizer().encode_prompt(*request.negative_prompt);
  const std::vector<gpt::TokenId> prompt = prompt_ids(request, model);
  program::Output output;
  const auto results = generator.streams(request.options)
                           ? streamed(generator, prompt, request, model, output)
                           : all_at_once(generator, prompt, request, model, output);
  if (!results) return program::kDone;  // nobody reads any more
  const gpt::GenerateResult& result = results->front();
  if (!output.write(request.json ? to_json(model, *results, request.options.logprobs.has_value(), load_s)
                                 : "\n"))
    return program::kDone;
  if (request.options.logprobs && !request.json)
    for (const gpt::GenerateResult& each : *results) print_log_probs(std::cerr, model, each);
  std::cerr << summary(result, load_s);
  return result.finish_reason == gpt::FinishReason::kCancelled ? program::kInterrupted : program::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  program::App app("gpt-generate", "Continues a prompt with a GPT-2 checkpoint.", kFooter);
  add_input_options(app, request);
  program::add_generation_options(app, request.options);
  program::add_grammar_options(app, request.grammar);
  app.add_flag("--json", request.json, "Print one JSON object instead of text");
  program::add_machine_options(app, request.machine, request.options,
                               "when --max-new-tokens or --max-length is at least 64");
  return program::run(app, argc, argv, [&request] { return generate(request); });
}
