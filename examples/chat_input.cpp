#include "chat_input.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iostream>
#include <system_error>
#include <utility>

#include <gpt/core/error.h>
#include <gpt/text/utf8.h>

namespace program {
namespace {

constexpr std::string_view kBlanks = " \t\r\n\v\f";
constexpr std::string_view kQuotes = "\"\"\"";

std::string_view without_blanks(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

ChatInput to_input(std::string_view line) {
  if (!line.starts_with('/')) return {.kind = ChatInput::Kind::kMessage, .text = std::string(line)};
  if (line.starts_with("//")) return {.kind = ChatInput::Kind::kMessage, .text = std::string(line.substr(1))};
  const std::size_t end = std::min(line.size(), line.find_first_of(kBlanks));
  return {.kind = ChatInput::Kind::kCommand,
          .name = std::string(line.substr(0, end)),
          .text = std::string(without_blanks(line.substr(end)))};
}

}  // namespace

ChatReader::Got ChatReader::fill() {
  for (;;) {
    pollfd waiting[] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                        {.fd = interrupt_->descriptor(), .events = POLLIN, .revents = 0}};
    if (::poll(waiting, 2, -1) < 0) {
      if (errno == EINTR) continue;
      gpt::fail<gpt::IoError>("standard input", "cannot wait: ", std::generic_category().message(errno));
    }
    if (waiting[1].revents != 0) return Got::kSignal;
    char bytes[1 << 16];
    const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0)
      gpt::fail<gpt::IoError>("standard input", "cannot read: ", std::generic_category().message(errno));
    if (got == 0) return Got::kEnd;
    buffer_.append(bytes, static_cast<std::size_t>(got));
    return Got::kLine;
  }
}

ChatReader::Got ChatReader::read_line(std::string& line, std::string_view prompt) {
  if (is_terminal_) std::cerr << prompt << std::flush;
  std::size_t end = 0;
  while ((end = buffer_.find('\n', searched_)) == buffer_.npos) {
    searched_ = buffer_.size();
    const Got got = fill();
    if (got == Got::kSignal) {
      // What was typed of the line is dropped, as a terminal drops it.
      buffer_.clear();
      searched_ = 0;
      return got;
    }
    if (got == Got::kLine) continue;
    if (buffer_.empty()) return got;
    break;
  }
  line = buffer_.substr(0, end);
  buffer_.erase(0, end == buffer_.npos ? end : end + 1);
  searched_ = 0;
  if (line.ends_with('\r')) line.pop_back();
  line = gpt::replace_invalid_utf8(line);
  return Got::kLine;
}

// `text` is what stands behind the first """. Line ends next to the """ do not belong to the message.
ChatReader::Got ChatReader::read_block(std::string& text) {
  std::string line = std::exchange(text, {});
  for (bool is_first = true;; is_first = false) {
    const bool is_last = line.ends_with(kQuotes);
    if (is_last) line.erase(line.size() - kQuotes.size());
    text += line;
    if (is_last) {
      if (line.empty() && text.ends_with('\n')) text.pop_back();
      return Got::kLine;
    }
    if (!is_first || !line.empty()) text += '\n';
    if (const Got got = read_line(line, "... "); got != Got::kLine) return got;
  }
}

ChatInput ChatReader::next() {
  for (;;) {
    std::string line;
    Got got = read_line(line, "> ");
    const bool is_block = got == Got::kLine && line.starts_with(kQuotes);
    if (is_block) {
      line.erase(0, kQuotes.size());
      got = read_block(line);
    }
    if (got == Got::kSignal) return {.kind = ChatInput::Kind::kCtrlC};
    if (got == Got::kEnd) return {.kind = is_block ? ChatInput::Kind::kUnfinished : ChatInput::Kind::kEnd};
    if (without_blanks(line).empty()) continue;
    if (is_block) return {.kind = ChatInput::Kind::kMessage, .text = std::move(line)};
    return to_input(line);
  }
}

}  // namespace program
