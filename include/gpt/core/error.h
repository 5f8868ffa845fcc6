// Every failure that input, a file, memory or the environment can cause is one of these exceptions. The
// message names the operation or file in brackets, then what was found and what was expected:
//   [layer_norm] gamma has 767 elements, expected C = 768
#pragma once

#include <charconv>
#include <concepts>
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

/// The caller's stop_token was triggered. Objects stay valid; the unfinished step left no trace in them.
class CancelledError : public Error {
 public:
  using Error::Error;
};

namespace detail {

inline void append(std::string& out, std::string_view text) { out += text; }
template <class T>
requires std::is_arithmetic_v<T>
void append(std::string& out, T value) {
  if constexpr (std::same_as<T, bool>) {
    out += value ? "true" : "false";
  } else if constexpr (std::same_as<T, char>) {
    out += value;
  } else {  // to_chars: the same text in every locale
    char buffer[64];
    out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
  }
}

}  // namespace detail

/// Joins strings, characters and numbers into one string, independent of the global locale.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

/// Throws E with the message "[where] parts...".
template <class E, class... Parts>
[[noreturn]] void fail(std::string_view where, const Parts&... parts) {
  throw E(concat("[", where, "] ", parts...));
}

}  // namespace gpt
