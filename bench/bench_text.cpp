// The tokenizer, text to ids and back; grammars against its vocabulary.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/support/runner.h"
#include "gpt/core/error.h"
#include "gpt/generate/grammar.h"
#include "gpt/text/tokenizer.h"

namespace gpt::bench {
namespace {

std::string tokenizer_directory = GPT_SOURCE_DIR "/examples/models/demo";
std::string text_file = GPT_SOURCE_DIR "/tests/golden/training/corpus.txt";

struct State {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string text;
  std::vector<TokenId> ids;
};

// `bytes` of the text, repeated when it is shorter.
std::string read_text(std::size_t bytes) {
  std::ifstream file(text_file, std::ios::binary);
  const std::string once{std::istreambuf_iterator<char>(file), {}};
  if (once.empty()) fail<IoError>(text_file, "cannot be read, or is empty");
  std::string text;
  while (text.size() < bytes) text.append(once, 0, bytes - text.size());
  return text;
}

std::shared_ptr<State> make_state(const Name& name) {
  const auto s = std::make_shared<State>();
  s->tokenizer = load_tokenizer(tokenizer_directory);
  s->text = read_text(static_cast<std::size_t>(name.number("bytes")));
  s->ids = s->tokenizer->encode(s->text);
  return s;
}

Work describe(const std::shared_ptr<State>& s, std::function<void()> run) {
  Work work;
  work.run = std::move(run);
  work.rate = "mb_per_s";
  work.amount = static_cast<double>(s->text.size()) * 1e-6;
  work.more = [s](const std::vector<double>& seconds, Counters& counters) {
    counters["tok_per_s"] = static_cast<double>(s->ids.size()) / median(seconds);
  };
  return work;
}

Work encode(const Name& name) {
  const auto s = make_state(name);
  return describe(s, [s] {
    if (s->tokenizer->encode(s->text).size() != s->ids.size())
      fail<Error>("encode", "two calls gave two results");
  });
}

Work decode(const Name& name) {
  const auto s = make_state(name);
  return describe(s, [s] {
    if (s->tokenizer->decode(s->ids).size() != s->text.size())
      fail<Error>("decode", "the text was not restored");
  });
}

double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// A grammar and a text of it, whose tokens are masked one after the other.
struct GrammarCase {
  const char* name;
  Grammar (*make)(std::string_view);
  const char* grammar;
  const char* text;
  int times = 1;  // that the text is repeated
};
constexpr GrammarCase kGrammars[] = {
    {"schema", Grammar::from_json_schema,
     R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 120},
         "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 5},
         "address": {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
         "required": ["street", "zip"]}}, "required": ["name", "age", "tags", "address"]})",
     R"({"name": "Ada Lovelace of Ockham Park", "age": 36, "tags": ["mathematics", "poetry", "flying"], )"
     R"("address": {"street": "12 St James's Square, where the library stands", "zip": "10117"}})"},
    {"json", [](std::string_view) { return Grammar::json_object(); }, "",
     R"({"title": "Notes by the translator", "year": 1843, "parts": [{"name": "A", "pages": [1, 2, 3.5], "done": true}, )"
     R"({"name": "G", "pages": [], "note": "The engine weaves algebraical patterns.\nIt has no pretensions.", "next": null}]})"},
    {"regex", Grammar::from_regex, "([A-Z][a-z]+ ){2,5}was born on \\d{4}-\\d{2}-\\d{2}( in [\\p{L} ]+)?\\.",
     "Ada Lovelace was born on 1815-12-10 in a house on Piccadilly Terrace in London."},
    {"gbnf", Grammar::from_gbnf,
     "root ::= (expr \"=\" ws term \"\\n\")+\nexpr ::= term ([-+*/] term)*\nterm ::= ident | num | \"(\" ws "
     "expr \")\" ws\n"
     "ident ::= [a-z] [a-z0-9_]* ws\nnum ::= [0-9]+ ws\nws ::= [ \\t\\n]*",
     "(alpha +(beta *( gamma -12345 ) ) )/delta =( epsilon +67 )\nlength *width +height =volume\n"},
    {"long", Grammar::from_regex, "([A-Z][a-z ]+\\. )*", "The engine weaves algebraical patterns. ", 500}};

struct Masked {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const CompiledGrammar> grammar;
  std::unique_ptr<const GrammarConstrained> processor;
  std::vector<TokenId> tokens;  // a prompt of one, then the text's
  std::vector<double> scores;
  ProcessorScratch scratch;
  std::vector<double> seconds;  // of single masks
  double compile_s = 0;
};

Work grammar_mask(const Name& name) {
  const auto known = std::find_if(std::begin(kGrammars), std::end(kGrammars),
                                  [&](const GrammarCase& c) { return c.name == name.word(); });
  if (known == std::end(kGrammars))
    fail<ArgumentError>(name.text(), "expected schema, json, regex, gbnf or long");
  const auto s = std::make_shared<Masked>();
  s->tokenizer = load_tokenizer(tokenizer_directory);
  const auto eos = s->tokenizer->eos_token_id();
  if (!eos) fail<ArgumentError>(tokenizer_directory, "has no eos token, with which texts end");
  const auto start = std::chrono::steady_clock::now();
  s->grammar = std::make_shared<const CompiledGrammar>(known->make(known->grammar), *s->tokenizer);
  s->compile_s = since(start);
  s->processor =
      std::make_unique<const GrammarConstrained>(s->grammar, *s->tokenizer, std::vector<TokenId>{*eos});
  std::string text;
  for (int i = 0; i < known->times; ++i) text += known->text;
  s->tokens = s->tokenizer->encode(text);
  s->tokens.insert(s->tokens.begin(), *eos);
  Work work;
  work.run = [s] {
    const std::span<const TokenId> tokens = s->tokens;
    for (std::size_t length = 1; length <= tokens.size(); ++length) {
      s->scores.assign(static_cast<std::size_t>(s->tokenizer->vocab_size()), 0.0);
      const DecodingStep step{
          .history = tokens.first(length), .prompt_length = 1, .max_length = tokens.size() + 64};
      const auto begin = std::chrono::steady_clock::now();
      s->processor->process(s->scores, step, s->scratch);
      s->seconds.push_back(since(begin));
      const bool at_end = length == tokens.size();
      if (s->scores[static_cast<std::size_t>(at_end ? tokens[0] : tokens[length])] != 0.0)
        fail<Error>("grammar", "the text's own token is not admitted");
    }
  };
  work.rate = "tok_per_s";
  work.amount = static_cast<double>(s->tokens.size());
  work.more = [s](const std::vector<double>&, Counters& counters) {
    counters["mask_us"] = median(s->seconds) * 1e6;
    counters["compile_ms"] = s->compile_s * 1e3;
  };
  return work;
}

Program program() {
  Program p;
  p.about = R"(bench_text [OPTION]...

Byte-level BPE: text to ids and back. Grammars: the masks of the tokens that may follow. On one thread.

Example: bench_text --tokenizer=gpt2 --text=corpus.txt --benchmark_filter=BM_Encode)";
  p.options = {
      {"--tokenizer=DIR", "a checkpoint's tokenizer (default: the demo model's)", &tokenizer_directory},
      {"--text=FILE", "what to encode, repeated as needed (default: the tests' corpus)", &text_file}};
  p.families = {{"BM_Encode", {"", "bytes", "threads"}, encode},
                {"BM_DecodeText", {"", "bytes", "threads"}, decode},
                {"BM_GrammarMask", {"", "threads"}, grammar_mask}};
  for (const auto* family : {"BM_Encode", "BM_DecodeText"})
    for (const int bytes : {256, 1 << 20})
      p.names.push_back(concat(family, "/byte_bpe/bytes:", bytes, "/threads:1"));
  for (const GrammarCase& c : kGrammars) p.names.push_back(concat("BM_GrammarMask/", c.name, "/threads:1"));
  return p;
}

}  // namespace
}  // namespace gpt::bench

int main(int argc, char** argv) { return gpt::bench::run(argc, argv, gpt::bench::program); }
