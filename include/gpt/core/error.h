// Every failure that input, a file, memory or the environment can cause is one of these exceptions. The
// message names the operation or file in brackets, then what was found and what was expected:
//   [layer_norm] gamma has 767 elements, expected C = 768
#pragma once

#include <concepts>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace gpt {

/// The base of all exceptions thrown by libgpt.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument or option whose value is impossible by itself: a negative count, a token id out of range.
class ArgumentError : public Error {
 public:
  using Error::Error;
};

/// Operands whose shapes or element types do not fit together.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A file or text that is not what its format demands.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// The operating system refused: a missing file, no permission, a full disk.
class IoError : public Error {
 public:
  using Error::Error;
};

/// A valid request for something that this library (or this build, or this CPU) cannot do.
class UnsupportedError : public Error {
 public:
  using Error::Error;
};

/// Memory for a tensor, cache or buffer could not be had.
class MemoryError : public Error {
 public:
  using Error::Error;
};

/// A result is not a finite number (NaN or infinite weights, overflow).
class NumericError : public Error {
 public:
  using Error::Error;
};

/// A limit on what may wait or be at work at once is reached, or another run has what this one needs: the same request may
/// succeed later.
class BusyError : public Error {
 public:
  using Error::Error;
};

/// The caller's stop_token was triggered. Objects stay valid; the unfinished step left no trace in them.
class CancelledError : public Error {
 public:
  using Error::Error;
};

namespace detail {

/// One part of a message, as text. Numbers read the same in every locale.
class MessagePart {
 public:
  explicit MessagePart(std::string_view text) noexcept : text_(text) {}
  template <class T>
  requires std::is_arithmetic_v<T>
  explicit MessagePart(T value) noexcept {
    if constexpr (std::same_as<T, bool>) {
      text_ = value ? "true" : "false";
    } else if constexpr (std::same_as<T, char>) {
      buffer_[0] = value;
      text_ = {buffer_, 1};
    } else if constexpr (std::floating_point<T>) {
      print(value);
    } else if constexpr (std::signed_integral<T>) {
      print(static_cast<long long>(value));
    } else {
      print(static_cast<unsigned long long>(value));
    }
  }
  MessagePart(const MessagePart&) = delete;
  MessagePart& operator=(const MessagePart&) = delete;

  std::string_view text() const noexcept { return text_; }

 private:
  void print(long long value) noexcept;
  void print(unsigned long long value) noexcept;
  void print(float value) noexcept;
  void print(double value) noexcept;

  std::string_view text_;
  char buffer_[32];
};

/// Throws MemoryError.
std::string join(std::span<const MessagePart> parts);

/// Throws a MemoryError that was made when the program began, for which no memory is needed now.
[[noreturn, gnu::cold]] void fail_without_memory();

}  // namespace detail

/// Joins strings, characters and numbers into one string, independent of the global locale. Throws MemoryError.
template <class... Parts>
std::string concat(const Parts&... parts) {
  const detail::MessagePart list[] = {detail::MessagePart(parts)...};
  return detail::join(list);
}

/// Throws E with the message "[where] parts..."; an empty name or path is shown as [""]. Where there is no memory for the message:
/// MemoryError.
template <class E, class... Parts>
[[noreturn, gnu::cold]] void fail(std::string_view where, const Parts&... parts) {
  try {
    throw E(concat("[", where.empty() ? "\"\"" : where, "] ", parts...));
  } catch (const std::bad_alloc&) {
    detail::fail_without_memory();
  }
}

}  // namespace gpt
