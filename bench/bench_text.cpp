// The tokenizer: text to ids and back.
#include <fstream>
#include <iterator>
#include <memory>

#include "bench/support/runner.h"
#include "gpt/core/error.h"
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

Program program() {
  Program p;
  p.about = R"(bench_text [OPTION]...

Byte-level BPE: text to ids and back, on one thread.

Example: bench_text --tokenizer=gpt2 --text=corpus.txt --benchmark_filter=BM_Encode)";
  p.options = {
      {"--tokenizer=DIR", "a checkpoint's tokenizer (default: the demo model's)", &tokenizer_directory},
      {"--text=FILE", "what to encode, repeated as needed (default: the tests' corpus)", &text_file}};
  p.families = {{"BM_Encode", {"", "bytes", "threads"}, encode},
                {"BM_DecodeText", {"", "bytes", "threads"}, decode}};
  for (const auto* family : {"BM_Encode", "BM_DecodeText"})
    for (const int bytes : {256, 1 << 20})
      p.names.push_back(concat(family, "/byte_bpe/bytes:", bytes, "/threads:1"));
  return p;
}

}  // namespace
}  // namespace gpt::bench

int main(int argc, char** argv) { return gpt::bench::run(argc, argv, gpt::bench::program); }
