// Rules over characters compiled to machines over bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "generate/grammar/rules.h"

namespace gpt::generate {

/// A deterministic machine for every rule that recursion needs, over bytes and calls of rules; all other rules are part of the
/// machines of those that call them, so that a grammar without recursion is one machine, as far as it does not become too
/// large. Every state is on a way from its rule's beginning to its end.
class Automaton {
 public:
  using State = std::uint32_t;
  static constexpr State kNone = 0xFFFFFFFF;
  struct Call {
    std::uint32_t rule = 0;
    State next = kNone;  // where it goes on behind the rule
  };

  /// Throws ArgumentError naming the grammar's source: left recursion with the rule's name, no text at all, a grammar that
  /// needs more states than the limit, or more work to find them.
  explicit Automaton(const Rules& rules);

  std::size_t states() const noexcept { return flags_.size(); }
  std::size_t classes() const noexcept { return classes_; }
  /// Bytes of one class are never told apart.
  std::uint8_t class_of(std::uint8_t byte) const noexcept { return class_of_[byte]; }
  State next(State state, std::size_t byte_class) const noexcept {
    return next_[state * classes_ + byte_class];
  }
  std::span<const Call> calls(State state) const noexcept {
    return std::span(calls_).subspan(calls_begin_[state], calls_begin_[state + 1] - calls_begin_[state]);
  }
  bool has_calls() const noexcept { return !calls_.empty(); }
  bool is_final(State state) const noexcept { return (flags_[state] & kFinal) != 0; }
  bool reads(State state) const noexcept { return (flags_[state] & kReads) != 0; }
  /// Where a rule begins, and the root.
  State start(std::uint32_t rule) const noexcept { return starts_[rule]; }
  State start() const noexcept { return starts_[0]; }
  std::size_t rules() const noexcept { return starts_.size(); }
  std::uint32_t rule_of(State state) const noexcept { return rules_of_[state]; }

 private:
  friend class Determinizer;
  Automaton() = default;
  static constexpr std::uint8_t kFinal = 1, kReads = 2;

  std::array<std::uint8_t, 256> class_of_{};
  std::size_t classes_ = 0;
  std::vector<State> next_;  // [states, classes]
  std::vector<Call> calls_;
  std::vector<std::size_t> calls_begin_;  // [states + 1]
  std::vector<std::uint8_t> flags_;
  std::vector<State> starts_;  // by rule; the root is rule 0
  std::vector<std::uint32_t> rules_of_;
};

}  // namespace gpt::generate
