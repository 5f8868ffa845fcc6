// Where an automaton can be in the middle of a text: states, and what waits for their rules to end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "generate/grammar/automaton.h"

namespace gpt::generate {

/// Numbers of tokens; more than any text has where there is no way.
using Distance = std::uint32_t;
inline constexpr Distance kUnreachable = std::numeric_limits<Distance>::max();
inline Distance add(Distance a, Distance b) noexcept {
  return a > kUnreachable - b ? kUnreachable : a + b;  // so that unreachable stays so
}

/// Configurations of an automaton: sets of a state and a frame, found out as texts reach them. A frame says where its caller
/// goes on, and which frames may be below it, so that many stacks with the same top are one (Tomita's graph-structured
/// stack). Equal ones have equal numbers. Not for several threads at once.
class Stacks {
 public:
  using State = Automaton::State;
  using Frame = std::uint32_t;
  using Configuration = std::uint32_t;
  static constexpr Frame kBottom = 0;  // below it there is nothing that this object knows of
  static constexpr Configuration kNone = std::numeric_limits<Configuration>::max();
  struct Item {
    State state = 0;
    Frame frame = kBottom;
    friend bool operator==(const Item&, const Item&) = default;
    friend auto operator<=>(const Item&, const Item&) = default;
  };

  /// Both must outlive the object. `distances` are those of the states to the end of their rules. `max_bytes` bounds what all
  /// configurations take, for callers that forget them far below.
  Stacks(const Automaton& automaton, const std::vector<Distance>& distances,
         std::size_t max_bytes = std::size_t{256} << 20);

  /// In this state, with the bottom below. Throws as step.
  Configuration begin_at(State state);
  /// After one more byte; kNone where no text goes on so. Throws ArgumentError for a grammar that is too ambiguous: in this place,
  /// or in all together.
  Configuration step(Configuration from, std::uint8_t byte) {
    return step_by_class(from, automaton_->class_of(byte));
  }
  Configuration step_by_class(Configuration from, std::size_t byte_class) {
    const Configuration known = rows_[from * automaton_->classes() + byte_class];
    return known == kUnknown ? make_step(from, byte_class) : known;
  }

  /// The states that read a byte, in order.
  std::span<const Item> items(Configuration configuration) const noexcept {
    const Range range = configurations_[configuration];
    return std::span(items_).subspan(range.begin, range.size);
  }
  /// Whether the bottom is reached.
  bool is_complete(Configuration configuration) const noexcept {
    return configurations_[configuration].complete;
  }
  State return_of(Frame frame) const noexcept { return frames_[frame].state; }
  std::span<const Frame> below(Frame frame) const noexcept {
    const Range range = frames_[frame].parents;
    return std::span(parents_).subspan(range.begin, range.size);
  }
  /// From the return of a frame to the bottom.
  Distance distance_of(Frame frame) const noexcept { return frame_distances_[frame]; }
  /// From a configuration to the bottom.
  Distance distance(Configuration configuration) const noexcept;

  std::size_t configurations() const noexcept { return configurations_.size(); }
  /// Follows a change of the distances.
  void update_distances();
  /// Bytes, roughly.
  std::size_t memory() const noexcept;
  /// Forgets all configurations; also what an exception left half done.
  void clear();

 private:
  static constexpr Configuration kUnknown = kNone - 1;
  struct Range {
    std::size_t begin = 0;
    std::uint32_t size = 0;
    bool complete = false;
  };
  struct FrameData {
    State state = 0;
    Range parents;
  };
  /// A frame of the closure at work: what is below may still grow. One for each rule that is called and each place to go on
  /// behind it: what the rule reads does not depend on who called it, so that its callers can share it.
  struct Fresh {
    State state = 0;
    std::vector<Frame> parents;
    bool returned = false;
    Frame frozen = kBottom;  // kBottom: not yet
  };
  static constexpr Frame kFresh = Frame{1} << 31;  // marks the index of a fresh one

  Configuration make_step(Configuration from, std::size_t byte_class);
  Configuration close();  // of work_
  void put(State state, Frame frame);
  void visit(Item item);
  void call(const Automaton::Call& call, Frame below);
  Frame freeze(std::size_t fresh);
  Frame intern(State state, std::vector<Frame>& parents);
  void set_distance(Frame frame) noexcept;

  const Automaton* automaton_;
  const std::vector<Distance>* distances_;
  std::size_t max_bytes_;
  std::vector<FrameData> frames_;
  std::vector<Frame> parents_;
  std::vector<Distance> frame_distances_;
  std::vector<Range> configurations_;
  std::vector<Item> items_;
  std::vector<Configuration> rows_;  // [configurations, classes]
  std::unordered_multimap<std::uint64_t, Frame> frame_ids_;
  std::unordered_multimap<std::uint64_t, Configuration> configuration_ids_;

  // Of one closure.
  std::vector<Item> work_, reading_;
  std::unordered_set<std::uint64_t> seen_;
  std::vector<Fresh> fresh_;
  std::unordered_map<std::uint64_t, std::size_t> fresh_of_;  // by rule and state
  std::size_t steps_ = 0;
  bool complete_ = false;
};

}  // namespace gpt::generate
