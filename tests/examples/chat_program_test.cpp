// gpt-chat as its user meets it: replies, commands, Ctrl-C, and exit statuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "examples/process.h"
#include "examples/scripted_chat.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace gpt::test::chat_program {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// A model with random weights, and options by which it says small letters until it is stopped.
class Talker {
 public:
  explicit Talker(std::int64_t n_positions = 512, std::int64_t features = 16) {
    Gpt2Config config = tiny_config();
    config.vocab_size = 280;
    config.n_positions = n_positions;
    config.n_embd = features;
    config.bos_token_id.reset();
    config.eos_token_id.clear();
    if (features > 16) config.n_layer = 8;
    HfConfig file;
    config.to_hf(file);
    Model(random_network(config, 1), std::move(file), chat_tokenizer()).save(directory_.path());
  }

  const std::filesystem::path& path() const { return directory_.path(); }

  std::vector<std::string> command(const std::vector<std::string>& arguments = {}) const {
    // So that bytes are characters, and lines replies.
    std::string suppressed;
    for (int id = 0; id < 280; ++id)
      if (id < 'a' || id > 'z') suppressed += concat(suppressed.empty() ? "" : ",", id);
    std::vector<std::string> argv = {GPT_CHAT, "--model", path().string(), "--suppress-tokens", suppressed};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return argv;
  }

  ProcessResult talk(std::string_view input, std::vector<std::string> arguments = {}) const {
    if (arguments.empty()) arguments = {"--max-new-tokens", "8"};
    Process process(command(arguments), "", Input::kPipe);
    process.write(input);
    process.close_stdin();
    return process.wait();
  }

 private:
  TempDir directory_;
};

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t end = 0; (end = text.find('\n', begin)) != text.npos; begin = end + 1)
    lines.push_back(text.substr(begin, end - begin));
  EXPECT_EQ(begin, text.size()) << text;
  return lines;
}

Json saved(const std::filesystem::path& file) { return parse_json(read_file(file)); }

TEST(ChatProgram, PrintsRepliesAndNothingElse) {
  const Talker talker;
  const TempDir directory;
  const std::string file = (directory / "talk.json").string();
  const ProcessResult result = talker.talk("Hi\nAnd then?\n/save " + file + "\n");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err,
            "note: cut off at --max-new-tokens = 8\nnote: cut off at --max-new-tokens = 8\nsaved: 2 messages "
            "and their replies to " +
                file + "\n");
  // The library's replies to the same messages.
  const Model model = Model::load(talker.path());
  std::vector<TokenId> suppressed;
  for (TokenId id = 0; id < 280; ++id)
    if (id < 'a' || id > 'z') suppressed.push_back(id);
  program::ChatSession session(model, {}, {.max_new_tokens = 8, .suppress_tokens = suppressed});
  session.say("Hi", {});
  session.say("And then?", {});
  const auto& exchanges = session.conversation().exchanges;
  EXPECT_EQ(result.out, exchanges[0].reply + "\n" + exchanges[1].reply + "\n");
  const Json talk = saved(file);
  EXPECT_EQ(talk.at("messages").size(), 4u);
  EXPECT_EQ(talk.at("messages")[2].at("content"), "And then?");
  EXPECT_EQ(talk.at("reply_ids")[1], Json(exchanges[1].reply_ids));
}

TEST(ChatProgram, GoesOnWhereItWas) {
  const Talker talker;
  const TempDir directory;
  const std::string file = (directory / "talk.json").string();
  const std::vector<std::string> drawn = {"--max-new-tokens", "8", "--do-sample", "--seed", "3"};
  const auto whole = lines(talker.talk("One\nTwo\nThree\n", drawn).out);
  ASSERT_EQ(whole.size(), 3u);
  EXPECT_EQ(lines(talker.talk("One\nTwo\nThree\n", drawn).out), whole);
  EXPECT_EQ(lines(talker.talk("One\nTwo\n/save " + file + "\n", drawn).out).size(), 2u);
  EXPECT_EQ(lines(talker.talk("/load " + file + "\nThree\n", drawn).out)[0], whole[2]);
  std::vector<std::string> loading = drawn;
  loading.insert(loading.end(), {"--load", file});
  EXPECT_EQ(lines(talker.talk("Three\n", loading).out)[0], whole[2]);
}

TEST(ChatProgram, SavesASystemMessageThatIsNoUtf8) {
  const Talker talker;
  const TempDir directory;
  const std::string file = (directory / "talk.json").string();
  const ProcessResult result =
      talker.talk("A\n/save " + file + "\n", {"--max-new-tokens", "2", "--system", "caf\xe9"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(saved(file).at("messages")[0].at("content"), "caf\xef\xbf\xbd");
}

TEST(ChatProgram, TakesCommands) {
  const Talker talker;
  const TempDir directory;
  const std::string file = (directory / "a talk.json").string();
  const auto contents = [&](const std::string& input) {
    const ProcessResult result = talker.talk(input + "/save " + file + " \n");
    EXPECT_EQ(result.status, 0) << result.err;
    std::vector<std::string> texts;
    const Json talk = saved(file);
    for (const Json& message : talk.at("messages"))
      if (message.at("role") != "assistant") texts.push_back(message.at("content"));
    return texts;
  };
  using Texts = std::vector<std::string>;
  EXPECT_EQ(contents("/system Be brief.\nA\n/reset\nB\n"), (Texts{"Be brief.", "B"}));
  EXPECT_EQ(contents("/system Be brief.\n/system\nA\n"), Texts{"A"});
  EXPECT_EQ(contents("A\nB\n/undo\nC\n"), (Texts{"A", "C"}));
  EXPECT_EQ(contents("A\n/regenerate\n"), Texts{"A"});
  EXPECT_EQ(contents("//reset\n///\n"), (Texts{"/reset", "//"}));
  EXPECT_EQ(contents("\"\"\"One\n/two\n\nthree\"\"\"\n\"\"\"\nx\n\"\"\"\n\"\"\"y\"\"\"\n"),
            (Texts{"One\n/two\n\nthree", "x", "y"}));
  const ProcessResult help = talker.talk("/help\n");
  EXPECT_THAT(help.err, ::testing::AllOf(HasSubstr("/reset "), HasSubstr("/regenerate "), HasSubstr("//")));
  EXPECT_EQ(help.out, "");
  EXPECT_EQ(talker.talk("/quit\nA\n").out, "");
  EXPECT_EQ(lines(talker.talk("A\n/exit\nB\n").out).size(), 1u);
}

TEST(ChatProgram, ReportsWhatGoesWrongAndGoesOn) {
  const Talker talker(128);
  const auto expect_report = [&](const std::string& line, const std::string& part) {
    const ProcessResult result = talker.talk(line + "\nHi\n");
    SCOPED_TRACE(line.substr(0, 40));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(lines(result.out).size(), 1u);
    EXPECT_THAT(result.err, StartsWith("error: "));
    EXPECT_THAT(result.err, HasSubstr(part));
  };
  expect_report("/what", "\"/what\" is no command");
  expect_report("/", "\"/\" is no command");
  expect_report("/Reset", "\"/Reset\" is no command");
  expect_report("/reset all", "/reset takes nothing behind it, found \"all\"");
  expect_report("/save", "/save needs the name of a file");
  expect_report("/load  ", "/load needs the name of a file");
  expect_report("/load /nonexistent", "[/nonexistent] cannot open");
  expect_report("/save /nonexistent/file", "/nonexistent/file");
  expect_report(concat("/save ", talker.path().string(), "/config.json"),
                "config.json would be replaced, which is read");
  expect_report("/undo", "nothing was said yet");
  expect_report(std::string(200, 'x'), "n_positions = 128");
  const ProcessResult unfinished = talker.talk("Hi\n\"\"\"and\n");
  EXPECT_EQ(unfinished.status, 1);
  EXPECT_THAT(unfinished.err, HasSubstr("the message has no \"\"\" at its end"));
  EXPECT_EQ(lines(unfinished.out).size(), 1u);
}

TEST(ChatProgram, TakesAnyBytes) {
  const Talker talker(4096);
  const TempDir directory;
  const std::string file = (directory / "talk.json").string();
  const std::string big(3000, 'y');
  using namespace std::string_literals;
  const ProcessResult result =
      talker.talk("\r\n  \t\nA\r\nB\0C\n\xff\xe2\x82\n"s + big + "\n/save " + file + "\r\nlast");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(lines(result.out).size(), 5u);
  const Json messages = saved(file).at("messages");
  ASSERT_EQ(messages.size(), 8u);
  EXPECT_EQ(messages[0].at("content"), "A");
  EXPECT_EQ(messages[2].at("content"), "B\0C"s);
  EXPECT_EQ(messages[4].at("content"), "\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(messages[6].at("content"), big);
  EXPECT_EQ(talker.talk("").out, "");
}

TEST(ChatProgram, SaysWhatDoesNotFitAnyMore) {
  const Talker talker(80);
  const ProcessResult result = talker.talk("One\nTwo\nThree\n");
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(lines(result.out).size(), 3u);
  EXPECT_THAT(result.err,
              HasSubstr("note: the context is full: the oldest message and its reply are left out\n"));
  // Where both go to one place, on a line of its own.
  std::vector<std::string> argv = {"/bin/sh", "-c", "printf 'One\\nTwo\\nThree\\n' | \"$@\" 2>&1", "sh"};
  const auto program = talker.command({"--max-new-tokens", "8"});
  argv.insert(argv.end(), program.begin(), program.end());
  EXPECT_THAT(Process(argv).wait().out, HasSubstr("\nnote: the context is full"));
}

TEST(ChatProgram, SaysWhatItComputed) {
  const Talker talker;
  const ProcessResult result =
      talker.talk("A first message of some length.\nAnother one\n", {"--max-new-tokens", "8", "--verbose"});
  // "th" is one token; 48 of the 62 that were fed fill pages.
  EXPECT_THAT(result.err, HasSubstr("prompt: 55 tokens, 0 of them in the cache"));
  EXPECT_THAT(result.err, HasSubstr("tokens, 48 of them in the cache"));
  EXPECT_THAT(result.err, HasSubstr("; ended by length"));
}

// A model whose replies take long enough to be stopped.
constexpr std::int64_t kLongContext = 16384;
const std::vector<std::string>& endless() {
  static const std::vector<std::string> options = {"--max-new-tokens", "16000", "--eos-token-id", "none",
                                                   "--no-pack"};
  return options;
}

TEST(ChatProgram, CtrlCStopsTheReplyAndNotTheProgram) {
  const Talker talker(kLongContext, 128);
  const TempDir directory;
  const std::string file = (directory / "talk.json").string();
  Process process(talker.command(endless()), "", Input::kPipe);
  process.write("One\n");
  EXPECT_FALSE(process.read_some().empty());
  process.send(SIGINT);
  EXPECT_TRUE(process.read_until("\n"));
  EXPECT_TRUE(process.await_error("note: stopped\n"));
  process.write("Two\n");
  EXPECT_FALSE(process.read_some().empty());
  process.send(SIGINT);
  EXPECT_TRUE(process.read_until("\n"));
  process.write("/save " + file + "\n");
  process.close_stdin();
  const ProcessResult result = process.wait();
  EXPECT_EQ(result.status, 0) << result.err;
  const auto replies = lines(result.out);
  ASSERT_EQ(replies.size(), 2u);
  const Json talk = saved(file);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(talk.at("messages")[2 * i + 1].at("content"), replies[i]);
    EXPECT_LT(replies[i].size(), 16000u);
    EXPECT_EQ(talk.at("reply_ids")[i].back(), 259) << "ended as a reply of the form";
  }
}

TEST(ChatProgram, SigtermEndsItAndCtrlCAPipeThatIsWaitedFor) {
  const Talker talker(kLongContext, 128);
  Process replying(talker.command(endless()), "", Input::kPipe);
  replying.write("One\n");
  EXPECT_FALSE(replying.read_some().empty());
  replying.send(SIGTERM);
  EXPECT_EQ(replying.wait().status, 130);
  for (const int signal : {SIGTERM, SIGINT}) {
    Process waiting(talker.command({"--max-new-tokens", "1"}), "", Input::kPipe);
    waiting.write("One\n");
    EXPECT_TRUE(waiting.read_until("\n"));
    EXPECT_TRUE(waiting.await_error("cut off"));
    waiting.send(signal);
    EXPECT_EQ(waiting.wait().status, 130);
  }
}

TEST(ChatProgram, TalksOnATerminal) {
  const Talker talker(kLongContext, 128);
  Process process(talker.command(endless()), "", Input::kTerminal);
  EXPECT_TRUE(process.await_error("/help lists the commands, Ctrl-D ends\n> "));
  // Ctrl-C drops the line that was begun, and asks again.
  process.write("half a line\x03");
  EXPECT_TRUE(process.await_error("(Ctrl-D or /exit ends the program)\n> "));
  process.write("\"\"\"a\n");
  EXPECT_TRUE(process.await_error("... "));
  std::size_t seen = process.errors().size();
  process.write("\x03");
  EXPECT_TRUE(process.await_error("ends the program)\n> ", seen));
  process.write("Hi\n");
  EXPECT_FALSE(process.read_some().empty());
  seen = process.errors().size();
  process.write("\x03");
  EXPECT_TRUE(process.read_until("\n"));
  EXPECT_TRUE(process.await_error("note: stopped\n> ", seen));
  seen = process.errors().size();
  process.write("/what\n");
  EXPECT_TRUE(process.await_error("is no command", seen));
  process.write("\x04");
  const ProcessResult result = process.wait();
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(lines(result.out).size(), 1u);
  EXPECT_THAT(result.out, Not(HasSubstr("half a line")));
}

TEST(ChatProgram, RefusesAWrongCommandLine) {
  const Talker talker;
  const auto refuse = [&](int status, const std::vector<std::string>& arguments, const std::string& part) {
    expect_failure(status, talker.command(arguments), part);
  };
  refuse(2, {"--chat-template", "jinja"}, "--chat-template is \"jinja\", expected one of zephyr");
  refuse(2, {"--num-beams", "2"}, "\"--num-beams\" is no option");
  refuse(2, {"--system", "a", "--load", "b"}, "--system and --load are both given");
  refuse(2, {"--max-new-tokens", "0"}, "--max-new-tokens is 0");
  refuse(2, {"--do-sample", "--temperature", "0"}, "--temperature is 0");
  refuse(2, {"--kv-dtype", "int3"}, "--kv-dtype");
  refuse(1, {"--max-new-tokens", "513"},
         "error: --max-new-tokens is 513, expected at most n_positions = 512");
  refuse(1, {"--temperature", "0.5"}, "--temperature is set but --do-sample is off");
  refuse(1, {"--load", "/nonexistent"}, "[/nonexistent] cannot open");
  expect_failure(2, {GPT_CHAT}, "--model");
  expect_failure(1, {GPT_CHAT, "--model", "/nonexistent"}, "/nonexistent");
  write_file(talker.path() / "generation_config.json", R"({"num_beams": 4})");
  refuse(1, {}, "num_beams");
}

TEST(ChatProgram, TakesWhatTheCheckpointSaysAndOptions) {
  const Talker talker;
  write_file(talker.path() / "generation_config.json", R"({"max_new_tokens": 3})");
  const auto reply = [&](std::vector<std::string> arguments) {
    arguments.push_back("--verbose");
    return talker.talk("Hi\n", arguments);
  };
  EXPECT_THAT(reply({}).err, HasSubstr("reply: 3 tokens"));
  EXPECT_THAT(reply({"--max-new-tokens", "5"}).err, HasSubstr("reply: 5 tokens"));
  const std::string plain = reply({"--max-new-tokens", "5"}).out;
  for (const auto& same : std::vector<std::vector<std::string>>{{"--threads", "1"},
                                                                {"--no-pack"},
                                                                {"--no-mmap"},
                                                                {"--dtype", "float32"},
                                                                {"--kv-dtype", "float32"}}) {
    std::vector<std::string> arguments = same;
    arguments.insert(arguments.end(), {"--max-new-tokens", "5"});
    EXPECT_EQ(reply(arguments).out, plain);
  }
  EXPECT_EQ(reply({"--max-new-tokens", "5", "--stop", plain.substr(2, 1)}).out,
            plain.substr(0, plain.find(plain[2])) + "\n");
}

TEST(ChatProgram, EndsQuietlyWhenNobodyReadsAndLoudlyWhenTheDiskIsFull) {
  const Talker talker;
  Process process(talker.command({"--max-new-tokens", "8"}), "", Input::kPipe);
  process.close_stdout();
  process.write("Hi\nHo\n");
  process.close_stdin();
  const ProcessResult result = process.wait();
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, Not(HasSubstr("error")));
  Process full(talker.command({"--max-new-tokens", "8"}), "/dev/full", Input::kPipe);
  full.write("Hi\nHo\n");
  full.close_stdin();
  const ProcessResult failed = full.wait();
  EXPECT_EQ(failed.status, 1);
  EXPECT_EQ(failed.err, "error: cannot write to standard output: No space left on device\n");
}

TEST(ChatProgram, HelpsOnRequestAndTellsItsVersion) {
  const ProcessResult help = Process({GPT_CHAT, "--help"}).wait();
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.out, HasSubstr("--chat-template"));
  EXPECT_THAT(help.out, Not(HasSubstr("--num-beams")));
  EXPECT_EQ(help.err, "");
  EXPECT_EQ(Process({GPT_CHAT, "--version"}).wait().out, "gpt-chat " GPT_TEST_VERSION "\n");
}

}  // namespace
}  // namespace gpt::test::chat_program
