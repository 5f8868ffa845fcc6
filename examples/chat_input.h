// What a user types, or a pipe brings: messages and commands.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "program.h"

namespace program {

/// A command has a name, as it was typed, and the rest of its line without the blanks around it; a message has text alone.
struct ChatInput {
  enum class Kind {
    kMessage,     // never blank
    kCommand,     // name is "/save", text "talk.json"
    kUnfinished,  // the input ended inside """
    kCtrlC,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string name = {};
  std::string text = {};
};

/// Reads standard input by lines, which end in LF or CRLF, the last one also without. Lines of blanks are passed over; a line that
/// begins with """ goes on to the one that ends with it; a line that begins with / is a command, with // a message that
/// begins with /. Bytes that are not UTF-8 become U+FFFD. On a terminal it shows on standard error what it waits for.
class ChatReader {
 public:
  /// Ctrl-C and SIGTERM end a waiting; the interrupt must outlive the reader.
  explicit ChatReader(Interrupt& interrupt)
      : interrupt_(&interrupt), is_terminal_(::isatty(STDIN_FILENO) == 1) {}

  bool is_terminal() const noexcept { return is_terminal_; }

  /// Throws IoError when standard input cannot be read.
  ChatInput next();

 private:
  enum class Got { kLine, kSignal, kEnd };
  Got read_line(std::string& line, std::string_view prompt);
  Got fill();
  Got read_block(std::string& text);

  Interrupt* interrupt_;
  bool is_terminal_;
  std::string buffer_;
  std::size_t searched_ = 0;  // no LF is among so many bytes of it
};

}  // namespace program
