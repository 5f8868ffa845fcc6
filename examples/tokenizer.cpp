// gpt-tokenizer: trains a tokenizer, and turns text into token ids and back.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <gpt/gpt.h>

#include "output_place.h"
#include "program.h"

namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr const char* kCommands = "train, encode or decode";

constexpr const char* kFooter = R"(Commands:
  gpt-tokenizer train    learn a byte-level BPE from text files
  gpt-tokenizer encode   text to token ids
  gpt-tokenizer decode   token ids to text

Each has its own --help.)";

struct TrainRequest {
  std::vector<std::string> files;
  std::string output_dir;
  gpt::BpeTrainingOptions options;
  std::vector<std::string> special_tokens;
  bool no_special_tokens = false;
  int threads = 0;
  bool json = false;
};

/// Of encode and decode: text or ids from one place.
struct ConvertRequest {
  std::string tokenizer;
  std::optional<std::string> given, file;
  bool lines = false;
  bool no_special_tokens = false, ordinary = false, skip_special_tokens = false;
  int threads = 0;
  bool json = false;
};

constexpr const char* kTrainFooter = R"(Examples:
  gpt-tokenizer train --train-file corpus.txt --vocab-size 8000 --output-dir tokenizer
  gpt-tokenizer train --train-file a.txt --train-file b.txt --special-token '<|endoftext|>' --special-token '<pad>' \
    --output-dir tokenizer

Writes tokenizer.json, tokenizer_config.json, vocab.json and merges.txt, which transformers and libgpt load. The result does not
depend on the number of threads.)";

void add_train_options(program::App& app, TrainRequest& r) {
  app.add_texts("--train-file", r.files, "FILE",
                "A text to learn from, of any bytes; may be repeated, and a pipe (- for standard input)")
      .required()
      .is_input();
  app.add_text("--output-dir", r.output_dir, "DIR",
               "Directory to write, made if it is not there; must not hold a tokenizer")
      .required();
  app.add_setting("--vocab-size", r.options.vocab_size, "Tokens at most (30000)",
                  {.least = 256, .most = 1 << 21});
  app.add_setting("--min-frequency", r.options.min_frequency,
                  "How often a pair must occur to become a token (2)", {.least = 1});
  app.add_texts("--special-token", r.special_tokens, "TEXT",
                "A token that is found before anything else; may be repeated; they get the first ids "
                "(<|endoftext|>, which becomes bos, eos and unk token)");
  app.add_flag("--no-special-tokens", r.no_special_tokens, "Have no special token");
  app.add_number("--threads", r.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", r.json, "Print one JSON object instead of a sentence");
}

constexpr const char* kEncodeFooter = R"(Examples:
  gpt-tokenizer encode --tokenizer gpt2 --text 'Hello, world'
  gpt-tokenizer encode --tokenizer gpt2 --input-file corpus.txt --lines > ids.txt

Prints the ids with spaces between them, on one line, or a line for each text.)";

constexpr const char* kDecodeFooter = R"(Examples:
  gpt-tokenizer decode --tokenizer gpt2 --ids '15496 11 995'
  gpt-tokenizer decode --tokenizer gpt2 --input-file ids.txt --lines

Ids are decimal numbers with white space or commas between them. Prints the bytes of the text, and adds nothing unless --lines
asks for a line for each row; with --json, what is not UTF-8 becomes U+FFFD.)";

void add_convert_options(program::App& app, ConvertRequest& r, bool encode) {
  app.add_text("--tokenizer", r.tokenizer, "DIR", "Directory of a tokenizer or checkpoint").required();
  program::Option given = encode ? app.add_text("--text", r.given, "TEXT", "The text")
                                 : app.add_text("--ids", r.given, "IDS", "The ids");
  if (!encode) given.sets("[decode] token id");
  app.add_text("--input-file", r.file, "FILE",
               encode ? "Read it from a file or pipe (standard input)"
                      : "Read them from a file or pipe (standard input)")
      .excludes(given)
      .is_input();
  app.add_flag(
      "--lines", r.lines,
      encode ? "Every line is a text of its own, without its end" : "Every line is a row of ids of its own");
  if (encode) {
    app.add_flag("--no-special-tokens", r.no_special_tokens,
                 "Leave out the tokens that the tokenizer's template puts around the text");
    app.add_flag("--split-special-tokens", r.ordinary, "Take special tokens in the text for ordinary text");
  } else {
    app.add_flag("--skip-special-tokens", r.skip_special_tokens, "Leave special tokens out");
  }
  app.add_number("--threads", r.threads, "Threads at most, 0 = one per CPU (0)", 0);
  app.add_flag("--json", r.json,
               encode ? "Print one JSON object with ids and tokens" : "Print one JSON object with the text");
}

/// The lines of a text without their ends; a last line needs none.
std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int train(TrainRequest& r) {
  gpt::BpeTrainingOptions& options = r.options;
  if (r.no_special_tokens && !r.special_tokens.empty())
    throw program::UsageError("--special-token and --no-special-tokens are both given: expected one");
  if (r.no_special_tokens || !r.special_tokens.empty()) options.special_tokens = r.special_tokens;
  // The options are judged before a file is read.
  program::check_usage([&] { gpt::train_byte_bpe({}, options); });
  gpt::set_num_threads(r.threads);
  program::require_no_tokenizer("--output-dir", r.output_dir);
  const program::Interrupt interrupt;
  std::vector<std::string> texts;
  for (const std::string& file : r.files) texts.push_back(program::read_all(file));
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  std::uint64_t bytes = 0;
  for (const std::string_view text : views) bytes += text.size();
  // Of bytes and special tokens alone a tokenizer can be made without a text.
  if (bytes == 0 && options.vocab_size > 256 + std::ssize(options.special_tokens))
    gpt::fail<gpt::FormatError>(program::input_name(r.files.front()),
                                r.files.size() == 1 ? "is empty" : "and the others are empty",
                                ": there is nothing to learn from");
  options.stop = interrupt.token();
  if (::isatty(STDERR_FILENO) != 0)
    options.on_progress = [](const gpt::BpeTrainingProgress& p) {
      const bool counting = p.phase == gpt::BpeTrainingProgress::Phase::kCounting;
      std::cerr << '\r' << (counting ? "bytes counted: " : "tokens made: ") << p.done << " of " << p.total
                << (counting && p.done == p.total ? "\n" : "");
    };
  auto start = Clock::now();
  const gpt::ByteBpe tokenizer(gpt::train_byte_bpe(views, options));
  const double train_s = seconds_since(start);
  if (options.on_progress) std::cerr << '\n';
  std::error_code error;
  std::filesystem::create_directories(r.output_dir, error);
  if (error) gpt::fail<gpt::IoError>(r.output_dir, "cannot make the directory: ", error.message());
  tokenizer.save(r.output_dir);
  const auto merges = tokenizer.model().merges.size();
  std::ostringstream out;
  if (r.json)
    out << Json{{"vocab_size", tokenizer.vocab_size()},
                {"merges", merges},
                {"bytes", bytes},
                {"timing", {{"train_s", train_s}}},
                {"peak_rss_bytes", program::peak_rss_bytes()}}
               .dump()
        << '\n';
  else
    out << tokenizer.vocab_size() << " tokens, "
        << program::counted(std::ssize(tokenizer.model().merges), "merge") << ", from " << bytes
        << (bytes == 1 ? " byte in " : " bytes in ") << std::fixed << std::setprecision(2) << train_s
        << " s\n";
  program::Output().write(out.str());
  return program::kDone;
}

std::string input_of(const ConvertRequest& r) {
  return r.given ? *r.given : program::read_all(r.file.value_or("-"));
}

std::vector<std::string_view> rows_of(const ConvertRequest& r, std::string_view input) {
  return r.lines ? lines_of(input) : std::vector<std::string_view>{input};
}

int encode(const ConvertRequest& r) {
  gpt::set_num_threads(r.threads);
  const auto tokenizer = gpt::load_tokenizer(r.tokenizer);
  const std::string input = input_of(r);
  const auto rows = tokenizer->encode_batch(
      rows_of(r, input), {.parse_special_tokens = !r.ordinary, .add_special_tokens = !r.no_special_tokens});
  if (r.json) {
    Json ids = rows, tokens = Json::array();
    for (const auto& row : rows) {
      Json spelled = Json::array();
      for (const gpt::TokenId id : row) spelled.push_back(tokenizer->token_of(id));
      tokens.push_back(std::move(spelled));
    }
    const Json object{{"ids", r.lines ? ids : ids[0]}, {"tokens", r.lines ? tokens : tokens[0]}};
    program::Output().write(object.dump() + "\n");
    return program::kDone;
  }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) out += gpt::concat(i > 0 ? " " : "", row[i]);
    out += '\n';
  }
  program::Output().write(out);
  return program::kDone;
}

std::vector<gpt::TokenId> ids_of(const ConvertRequest& r, std::string_view text) {
  constexpr std::string_view kBetween = " \t\r\n,";
  std::vector<gpt::TokenId> ids;
  for (;;) {
    text.remove_prefix(std::min(text.find_first_not_of(kBetween), text.size()));
    if (text.empty()) return ids;
    const std::string_view word = text.substr(0, text.find_first_of(kBetween));
    gpt::TokenId id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size()) {
      const std::string what =
          gpt::concat(program::in_quotes(word), " is no token id, expected a decimal number");
      if (r.given) throw program::UsageError("--ids: " + what);
      gpt::fail<gpt::FormatError>(program::input_name(r.file.value_or("-")), what);
    }
    ids.push_back(id);
    text.remove_prefix(word.size());
  }
}

/// An id that is no token's is the command line's fault, or that of the file.
std::vector<std::string> decoded(const gpt::Tokenizer& tokenizer,
                                 const std::vector<std::vector<gpt::TokenId>>& rows,
                                 const ConvertRequest& r) {
  try {
    return tokenizer.decode_batch(rows, {.skip_special_tokens = r.skip_special_tokens});
  } catch (const gpt::ArgumentError& error) {
    if (r.given) throw;
    std::string_view message = error.what();  // "[decode] token id ..."
    message.remove_prefix(message.find("] ") + 2);
    gpt::fail<gpt::FormatError>(program::input_name(r.file.value_or("-")), message);
  }
}

int decode(const ConvertRequest& r) {
  gpt::set_num_threads(r.threads);
  std::vector<std::vector<gpt::TokenId>> rows;
  const auto read = [&] {
    const std::string input = input_of(r);
    for (const std::string_view row : rows_of(r, input)) rows.push_back(ids_of(r, row));
  };
  if (r.given) read();  // the command line is judged before a file is read
  const auto tokenizer = gpt::load_tokenizer(r.tokenizer, program::warn);
  if (!r.given) read();
  const auto texts = decoded(*tokenizer, rows, r);
  std::string out;
  if (r.json) {
    Json list = Json::array();
    for (const std::string& text : texts) list.push_back(gpt::replace_invalid_utf8(text));
    out = Json{{"text", r.lines ? list : list[0]}}.dump() + "\n";
  } else {
    for (const std::string& text : texts) out.append(text).append(r.lines ? "\n" : "");
  }
  program::Output().write(out);
  return program::kDone;
}

int run_convert(int argc, char** argv, bool is_encode) {
  ConvertRequest r;
  program::App app(is_encode ? "gpt-tokenizer encode" : "gpt-tokenizer decode",
                   is_encode ? "Turns text into token ids." : "Turns token ids into text.",
                   is_encode ? kEncodeFooter : kDecodeFooter);
  add_convert_options(app, r, is_encode);
  return program::run(app, argc, argv, [&] { return is_encode ? encode(r) : decode(r); });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "train") {
    TrainRequest r;
    program::App app("gpt-tokenizer train", "Learns a byte-level BPE tokenizer from text.", kTrainFooter);
    add_train_options(app, r);
    return program::run(app, argc - 1, argv + 1, [&r] { return train(r); });
  }
  if (command == "encode" || command == "decode") return run_convert(argc - 1, argv + 1, command == "encode");
  program::App app("gpt-tokenizer", "Trains a tokenizer, and turns text into token ids and back.", kFooter);
  const bool is_option = command.starts_with('-');
  return program::run(app, is_option ? argc : 1, argv, [&]() -> int {
    throw program::UsageError(command.empty() || is_option
                                  ? gpt::concat("a command is missing, expected ", kCommands, ": see --help")
                                  : gpt::concat(program::in_quotes(command), " is no command, expected ",
                                                kCommands, ": see --help"));
  });
}
