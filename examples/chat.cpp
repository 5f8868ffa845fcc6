// gpt-chat: a conversation with a GPT-2 checkpoint.
#include <array>
#include <iomanip>
#include <iostream>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <gpt/gpt.h>

#include "adapter_options.h"
#include "chat_input.h"
#include "chat_session.h"
#include "generation_options.h"
#include "machine_options.h"
#include "output_place.h"
#include "program.h"

namespace {

struct Request {
  std::string model;
  std::optional<std::string> adapter;
  std::optional<std::string> system, load;
  std::string chat_template = "zephyr";
  gpt::GenerateOptions options;
  program::MachineRequest machine;
  bool verbose = false;
};

constexpr const char* kFooter = R"(Examples:
  gpt-chat --model tuned
  gpt-chat --model tuned --system "You are a pirate." --do-sample --temperature 0.8 --top-p 0.95
  printf 'Hello\nAnd then?\n' | gpt-chat --model tuned --chat-template chatml > replies

A line is a message; one that begins with """ goes on to the line that ends with """, and // stands for a / at the beginning.
Replies go to standard output as they are made, everything else to standard error. Ctrl-C stops a reply; Ctrl-D or /exit ends the
program. Options that are not given come from the checkpoint's generation_config.json. /help lists the commands.)";

constexpr const char* kHelp = R"(/reset        forget all that was said, but for the system message
/system TEXT  have another system message from now on; without TEXT none
/undo         take the last message and the reply to it back
/regenerate   reply to the last message again
/save FILE    write the conversation, as a line of JSON that --load, /load and gpt-finetune take
/load FILE    go on with the conversation of such a file
/help         this list
/exit, /quit  end, as Ctrl-D does
A message of several lines stands between """ and """; one that begins with / is written with //.
Ctrl-C stops a reply, of which stays what was said.
)";

/// Nobody reads standard output any more.
struct ReaderLeft {};

/// Standard output failed: the end of the program, where what else goes wrong is the end of a turn.
class OutputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Chat {
 public:
  Chat(const Request& request, program::ChatSession& session, program::Interrupt& interrupt)
      : verbose_(request.verbose),
        read_{request.model, request.adapter.value_or("")},
        session_(&session),
        interrupt_(&interrupt),
        reader_(interrupt) {}

  /// The exit status.
  int run() {
    if (reader_.is_terminal())
      std::cerr << "template " << session_->conversation().form().name()
                << "; /help lists the commands, Ctrl-D ends\n";
    while (!interrupt_->terminated()) {
      const program::ChatInput input = reader_.next();
      if (interrupt_->terminated()) break;
      switch (input.kind) {
        case program::ChatInput::Kind::kEnd:
          if (reader_.is_terminal()) std::cerr << '\n';
          return status();
        case program::ChatInput::Kind::kCtrlC:
          if (!reader_.is_terminal()) return program::kInterrupted;
          std::cerr << "\n(Ctrl-D or /exit ends the program)\n";
          interrupt_->renew();
          break;
        case program::ChatInput::Kind::kUnfinished:
          report("the message has no \"\"\" at its end: it was not sent");
          break;
        case program::ChatInput::Kind::kMessage: attempt([&] { say(input.text); }); break;
        case program::ChatInput::Kind::kCommand:
          if (input.name == "/exit" || input.name == "/quit") return status();
          attempt([&] { command(input.name, input.text); });
      }
    }
    return program::kInterrupted;
  }

 private:
  /// At a terminal everybody has seen what failed.
  int status() const { return failed_ && !reader_.is_terminal() ? program::kFailed : program::kDone; }

  void report(std::string_view message) {
    failed_ = true;
    program::report_error(message);
  }

  /// What fails leaves the conversation as it was, and the program goes on.
  template <class Work>
  void attempt(Work&& work) {
    try {
      work();
    } catch (const OutputError&) {
      throw;
    } catch (const std::bad_alloc&) {
      report("out of memory");
    } catch (const std::exception& error) {
      report(error.what());
    }
  }

  void write(std::string_view text) {
    bool is_read = false;
    try {
      is_read = output_.write(text);
    } catch (const gpt::IoError& error) {
      throw OutputError(error.what());
    }
    if (!is_read) throw ReaderLeft();
  }

  /// Has the session make a reply, which appears as it is made, with a line end behind it.
  template <class Work>
  void reply(Work&& work) {
    bool anything = false;
    program::TurnCallbacks callbacks;
    callbacks.on_text = [&](std::string_view text) {
      anything = true;
      write(text);
    };
    std::size_t forgotten = 0;
    callbacks.on_forget = [&forgotten](std::size_t exchanges) { forgotten = exchanges; };
    std::optional<program::Turn> turn;
    try {
      turn = work(callbacks, interrupt_->token());
    } catch (const gpt::Error&) {
      if (anything) write("\n");
      throw;
    }
    write("\n");
    if (forgotten > 0)  // behind the reply's last line
      std::cerr << "note: the context is full: the oldest "
                << (forgotten == 1 ? std::string("message and its reply are")
                                   : gpt::concat(forgotten, " messages and their replies are"))
                << " left out\n";
    if (turn->finish_reason == gpt::FinishReason::kCancelled) interrupt_->renew();
    describe(*turn);
  }

  void describe(const program::Turn& turn) const {
    if (!turn.was_answered)
      std::cerr << "note: stopped before anything was said: the conversation is as it was\n";
    else if (turn.finish_reason == gpt::FinishReason::kCancelled)
      std::cerr << "note: stopped\n";
    else if (turn.finish_reason == gpt::FinishReason::kLength)
      std::cerr << "note: cut off at --max-new-tokens = " << session_->max_new_tokens() << '\n';
    if (!verbose_) return;
    std::ostringstream out;
    out << std::fixed << std::setprecision(3) << "prompt: " << program::counted(turn.prompt_tokens, "token")
        << ", " << turn.cached_tokens << " of them in the cache, the others computed in "
        << turn.timing.prefill_s << " s; reply: " << program::counted(turn.reply_tokens, "token");
    if (turn.timing.decode_s > 0.0)
      out << " (" << static_cast<double>(turn.timing.decode_tokens) / turn.timing.decode_s << "/s)";
    out << "; ended by " << gpt::name_of(turn.finish_reason) << '\n';
    std::cerr << out.str();
  }

  void say(const std::string& message) {
    reply([&](const program::TurnCallbacks& callbacks, std::stop_token stop) {
      return session_->say(message, callbacks, std::move(stop));
    });
  }

  void command(std::string_view name, const std::string& text) {
    struct Entry {
      std::string_view name;
      bool wants_file, takes_text;
      void (Chat::*run)(const std::string& text);
    };
    static constexpr std::array<Entry, 7> kCommands = {{{"/help", false, false, &Chat::help},
                                                        {"/reset", false, false, &Chat::reset},
                                                        {"/system", false, true, &Chat::set_system},
                                                        {"/undo", false, false, &Chat::undo},
                                                        {"/regenerate", false, false, &Chat::regenerate},
                                                        {"/save", true, true, &Chat::save},
                                                        {"/load", true, true, &Chat::load}}};
    for (const Entry& entry : kCommands) {
      if (entry.name != name) continue;
      if (entry.wants_file && text.empty()) return report(gpt::concat(name, " needs the name of a file"));
      if (!entry.takes_text && !text.empty())
        return report(gpt::concat(name, " takes nothing behind it, found ", program::in_quotes(text)));
      return (this->*entry.run)(text);
    }
    report(gpt::concat(program::in_quotes(name),
                       " is no command: see /help, and write // for a / that begins a message"));
  }

  void help(const std::string&) { std::cerr << kHelp; }
  void reset(const std::string&) { session_->reset(); }
  void undo(const std::string&) { session_->undo(); }
  void set_system(const std::string& text) {
    session_->set_system(text.empty() ? std::nullopt : std::optional(text));
  }
  void regenerate(const std::string&) {
    reply([&](const program::TurnCallbacks& callbacks, std::stop_token stop) {
      return session_->regenerate(callbacks, std::move(stop));
    });
  }
  void save(const std::string& path) {
    program::require_not_read("/save", path, read_);
    session_->save(path);
    std::cerr << "saved: " << size_text() << " to " << program::one_line(path) << '\n';
  }
  void load(const std::string& path) {
    session_->load(path);
    std::cerr << "loaded: " << size_text() << " from " << program::one_line(path) << '\n';
  }
  std::string size_text() const {
    const std::size_t count = session_->conversation().exchanges.size();
    return gpt::concat(count, count == 1 ? " message and its reply" : " messages and their replies");
  }

  bool verbose_;
  std::array<std::string, 2> read_;  // which /save does not replace
  program::ChatSession* session_;
  program::Interrupt* interrupt_;
  program::ChatReader reader_;
  program::Output output_;
  bool failed_ = false;
};

void add_chat_options(program::App& app, Request& request) {
  app.add_text("--model", request.model, "PATH", "Hugging Face directory or GGUF file of a GPT-2 checkpoint")
      .required();
  program::add_adapter_option(app, request.adapter);
  app.add_text(
      "--chat-template", request.chat_template, "NAME",
      "The form in which the model was tuned: " + program::listed(gpt::ChatTemplate::names()) + " (zephyr)");
  app.add_text("--system", request.system, "TEXT", "What the conversation begins with, as instructions");
  app.add_text("--load", request.load, "FILE", "Go on with the conversation that /save wrote");
  app.add_flag("--verbose", request.verbose, "Say after each reply what was computed for it, and how fast");
}

int chat(Request& request) {
  if (request.system && request.load)
    throw program::UsageError(
        "--system and --load are both given: a conversation that is loaded has its own");
  program::check_usage([&] { request.options.validate(); });
  std::optional<gpt::ChatTemplate> form;
  program::check_usage([&] { form = gpt::ChatTemplate::by_name(request.chat_template); });
  program::Interrupt interrupt(program::Interrupt::CtrlC::kAgainAndAgain);
  gpt::set_num_threads(request.machine.threads);
  gpt::LoadOptions& load = request.machine.load;
  load.stop = interrupt.token();
  load.on_warning = program::warn;
  load.pack = request.machine.pack.value_or(true);
  gpt::Model model = gpt::Model::load(request.model, load);
  program::attach_adapter(model, request.adapter);
  program::ChatSession session(model, *form, request.options, program::warn);
  if (request.system) session.set_system(gpt::replace_invalid_utf8(*request.system));
  if (request.load) session.load(*request.load);
  try {
    return Chat(request, session, interrupt).run();
  } catch (const ReaderLeft&) {
    return program::kDone;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Request request;
  program::App app("gpt-chat", "Talks with a GPT-2 checkpoint that was tuned on conversations.", kFooter);
  add_chat_options(app, request);
  program::add_reply_options(app, request.options,
                             "the checkpoint's, or 256, or half of its context where that is less");
  program::add_machine_options(app, request.machine, request.options, "always");
  return program::run(app, argc, argv, [&request] { return chat(request); });
}
