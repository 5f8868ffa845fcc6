#include "generate/grammar/automaton.h"

#include <algorithm>
#include <deque>
#include <string>
#include <unordered_map>
#include <utility>

#include "core/quote.h"
#include "generate/grammar/nfa.h"
#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

using State = Automaton::State;
using Set = std::vector<Nfa::State>;  // in increasing order

constexpr std::size_t kMaxStates = std::size_t{1} << 16;
// States of sets that are looked at, all together: what a grammar may cost, and the numbers of its table.
constexpr std::size_t kMaxWork = 30'000'000, kMaxTable = std::size_t{1} << 23;

struct SetHash {
  std::size_t operator()(const Set& set) const noexcept {
    std::uint64_t hash = set.size();
    for (const Nfa::State state : set) hash = (hash ^ state) * 0x9E3779B97F4A7C15u ^ hash >> 29;
    return static_cast<std::size_t>(hash);
  }
};

}  // namespace

/// The subset construction, then what is on no way to an end is cut away.
class Determinizer {
 public:
  Determinizer(const Rules& rules, Automaton& out)
      : rules_(rules), nfa_(build_nfa(rules)), source_(rules.source()), out_(out) {}

  void run() {
    find_classes();
    mark_.resize(nfa_.nodes.size(), 0);
    for (const Nfa::Machine& machine : nfa_.machines) {
      end_ = machine.end;
      rule_ = static_cast<std::uint32_t>(out_.starts_.size());
      Set start{machine.start};
      out_.starts_.push_back(id_of(start));
      while (done_ < sets_.size()) expand(static_cast<State>(done_++));
    }
    check_left_recursion();
    const std::vector<bool> live = find_live();
    if (!live[out_.starts_[0]]) fail<ArgumentError>(source_, "admits no text at all", rules_.why_no_text());
    cut(live);
  }

 private:
  [[noreturn]] void too_large(const char* what) const {
    fail<ArgumentError>(source_, "is too large: ", what,
                        ". Fewer repetitions, or alternatives that differ sooner, are needed");
  }

  void find_classes() {
    std::array<bool, 257> begins{};
    begins[0] = true;
    for (const Nfa::Node& node : nfa_.nodes) {
      for (const Nfa::ByteEdge& edge : node.bytes) {
        begins[edge.range.first] = true;
        begins[edge.range.last + 1u] = true;
      }
    }
    std::size_t count = 0;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      if (begins[byte]) ++count;
      out_.class_of_[byte] = static_cast<std::uint8_t>(count - 1);
    }
    out_.classes_ = count;
  }

  // Everything that can be reached without reading, sorted; the set is the states to begin with.
  void close(Set& set) {
    ++stamp_;
    for (const Nfa::State state : set) mark_[state] = stamp_;
    for (std::size_t i = 0; i < set.size(); ++i) {
      for (const Nfa::State next : nfa_.nodes[set[i]].empty) {
        if (mark_[next] == stamp_) continue;
        mark_[next] = stamp_;
        set.push_back(next);
      }
    }
    work_ += set.size();
    if (work_ > kMaxWork) too_large("the search for its states takes too long");
    std::sort(set.begin(), set.end());
    // What only leads on says nothing of a state's future.
    std::erase_if(set, [this](Nfa::State state) {
      const Nfa::Node& node = nfa_.nodes[state];
      return state != end_ && node.bytes.empty() && node.calls.empty();
    });
  }

  State id_of(Set& begin) {
    std::sort(begin.begin(), begin.end());
    begin.erase(std::unique(begin.begin(), begin.end()), begin.end());
    if (const auto known = closed_.find(begin); known != closed_.end()) return known->second;
    Set set = begin;
    close(set);
    const auto [place, is_new] = ids_.try_emplace(set, static_cast<State>(sets_.size()));
    if (is_new) {
      if (sets_.size() == kMaxStates) too_large("it needs more states than 65536");
      if ((sets_.size() + 1) * out_.classes_ > kMaxTable) too_large("its states tell too many bytes apart");
      out_.flags_.push_back(std::binary_search(set.begin(), set.end(), end_) ? Automaton::kFinal : 0);
      out_.rules_of_.push_back(rule_);
      sets_.push_back(std::move(set));
    }
    if (closed_.size() > kMaxStates) closed_.clear();
    closed_[std::move(begin)] = place->second;
    return place->second;
  }

  void expand(State state) {
    std::vector<Set> targets(out_.classes_);
    std::vector<std::pair<std::uint32_t, Set>> calls;
    for (const Nfa::State member : sets_[state]) {
      for (const Nfa::ByteEdge& edge : nfa_.nodes[member].bytes) {
        const std::size_t last = out_.class_of_[edge.range.last];
        for (std::size_t c = out_.class_of_[edge.range.first]; c <= last; ++c) targets[c].push_back(edge.to);
        work_ += last - out_.class_of_[edge.range.first] + 1;
      }
      for (const Nfa::CallEdge& call : nfa_.nodes[member].calls) {
        const auto same = std::find_if(calls.begin(), calls.end(),
                                       [&](const auto& entry) { return entry.first == call.rule; });
        if (same != calls.end())
          same->second.push_back(call.to);
        else
          calls.emplace_back(call.rule, Set{call.to});
        work_ += calls.size();
      }
      if (work_ > kMaxWork) too_large("the search for its states takes too long");
    }
    std::vector<State> row(out_.classes_, Automaton::kNone);
    for (std::size_t c = 0; c < row.size(); ++c)
      if (!targets[c].empty()) row[c] = id_of(targets[c]);
    out_.next_.insert(out_.next_.end(), row.begin(), row.end());
    std::sort(calls.begin(), calls.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    out_.calls_begin_.push_back(out_.calls_.size());
    for (auto& [rule, set] : calls) out_.calls_.push_back({rule, id_of(set)});
  }

  std::span<const Automaton::Call> calls_of(State state) const {
    const std::size_t begin = out_.calls_begin_[state];
    const std::size_t end =
        state + 1 < out_.calls_begin_.size() ? out_.calls_begin_[state + 1] : out_.calls_.size();
    return std::span(out_.calls_).subspan(begin, end - begin);
  }

  // The states that a rule can be in before it has read anything, where `nullable` rules may read nothing.
  std::vector<State> first_states(std::size_t rule, const std::vector<bool>& nullable) {
    std::vector<State> states{out_.starts_[rule]};
    ++stamp_;
    state_mark_[states[0]] = stamp_;
    for (std::size_t i = 0; i < states.size(); ++i) {
      for (const Automaton::Call& call : calls_of(states[i])) {
        if (!nullable[call.rule] || state_mark_[call.next] == stamp_) continue;
        state_mark_[call.next] = stamp_;
        states.push_back(call.next);
      }
    }
    work_ += states.size();
    if (work_ > kMaxWork) too_large("the search for its states takes too long");
    return states;
  }

  // A rule that can come back to itself before it has read anything would be entered without end.
  void check_left_recursion() {
    const std::size_t rules = out_.starts_.size();
    state_mark_.assign(out_.flags_.size(), 0);
    stamp_ = 0;
    std::vector<bool> nullable(rules, false);
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t rule = rules; rule-- > 0;) {
        if (nullable[rule]) continue;
        const std::vector<State> states = first_states(rule, nullable);
        if (std::none_of(states.begin(), states.end(), [this](State state) { return out_.is_final(state); }))
          continue;
        nullable[rule] = changed = true;
      }
    }
    std::vector<std::vector<std::uint32_t>> begins_with(rules);
    for (std::size_t rule = 0; rule < rules; ++rule)
      for (const State state : first_states(rule, nullable))
        for (const Automaton::Call& call : calls_of(state)) begins_with[rule].push_back(call.rule);
    // Depth first: a rule that is met again while it is open is on a cycle.
    enum : std::uint8_t { kNew, kOpen, kClosed };
    std::vector<std::uint8_t> color(rules, kNew);
    for (std::uint32_t first = 0; first < rules; ++first) {
      if (color[first] != kNew) continue;
      std::vector<std::pair<std::uint32_t, std::size_t>> stack{{first, 0}};
      color[first] = kOpen;
      while (!stack.empty()) {
        const std::uint32_t rule = stack.back().first;
        if (stack.back().second == begins_with[rule].size()) {
          color[rule] = kClosed;
          stack.pop_back();
          continue;
        }
        const std::uint32_t next = begins_with[rule][stack.back().second++];
        if (color[next] == kOpen)
          fail<UnsupportedError>(source_, "the rule ", quote(nfa_.machines[next].name),
                                 " can begin with itself: left recursion is not supported");
        if (color[next] == kClosed) continue;
        color[next] = kOpen;
        stack.push_back({next, 0});
      }
    }
  }

  // The states from which their rule's end can be reached: backwards from the ends, again with every rule that is found to
  // have one.
  std::vector<bool> find_live() {
    const std::size_t states = out_.flags_.size();
    std::vector<std::vector<State>> before(states);
    std::vector<std::vector<std::pair<State, State>>> callers(out_.starts_.size());  // state, behind the call
    std::vector<std::vector<std::uint32_t>> rules_of(states);                        // that begin here
    for (State state = 0; state < states; ++state) {
      State last = Automaton::kNone;
      for (std::size_t c = 0; c < out_.classes_; ++c) {
        const State next = out_.next(state, c);
        if (next != Automaton::kNone && next != last) before[next].push_back(state);
        last = next;
      }
      for (const Automaton::Call& call : calls_of(state)) callers[call.rule].emplace_back(state, call.next);
    }
    for (std::uint32_t rule = 0; rule < out_.starts_.size(); ++rule)
      rules_of[out_.starts_[rule]].push_back(rule);
    std::vector<bool> live(states, false), has_end(out_.starts_.size(), false);
    std::vector<std::vector<State>> through(states);  // calls of rules that have an end
    std::deque<State> work;
    const auto put = [&](State state) {
      if (live[state]) return;
      live[state] = true;
      work.push_back(state);
    };
    for (State state = 0; state < states; ++state)
      if (out_.is_final(state)) put(state);
    while (!work.empty()) {
      const State state = work.front();
      work.pop_front();
      for (const State previous : before[state]) put(previous);
      for (const State previous : through[state]) put(previous);
      for (const std::uint32_t rule : rules_of[state]) {
        if (has_end[rule]) continue;
        has_end[rule] = true;
        for (const auto& [caller, behind] : callers[rule]) {
          through[behind].push_back(caller);
          if (live[behind]) put(caller);
        }
      }
    }
    has_end_ = std::move(has_end);
    return live;
  }

  void cut(const std::vector<bool>& live) {
    std::vector<State> renamed(live.size(), Automaton::kNone);
    State count = 0;
    for (State state = 0; state < live.size(); ++state)
      if (live[state]) renamed[state] = count++;
    Automaton out;
    out.class_of_ = out_.class_of_;
    out.classes_ = out_.classes_;
    for (State state = 0; state < live.size(); ++state) {
      if (!live[state]) continue;
      std::uint8_t flags = out_.flags_[state];
      for (std::size_t c = 0; c < out_.classes_; ++c) {
        const State next = out_.next(state, c);
        out.next_.push_back(next == Automaton::kNone ? next : renamed[next]);
        if (out.next_.back() != Automaton::kNone) flags |= Automaton::kReads;
      }
      out.flags_.push_back(flags);
      out.rules_of_.push_back(out_.rules_of_[state]);
      out.calls_begin_.push_back(out.calls_.size());
      for (const Automaton::Call& call : calls_of(state))
        if (has_end_[call.rule] && live[call.next]) out.calls_.push_back({call.rule, renamed[call.next]});
    }
    out.calls_begin_.push_back(out.calls_.size());
    for (const State start : out_.starts_) out.starts_.push_back(renamed[start]);
    out_ = std::move(out);
  }

  const Rules& rules_;
  const Nfa nfa_;
  const std::string source_;
  Automaton& out_;
  Nfa::State end_ = 0;  // of the machine at work
  std::uint32_t rule_ = 0;
  std::vector<Set> sets_;
  std::size_t done_ = 0;
  std::unordered_map<Set, State, SetHash> ids_;     // machines share no states, so these are of all
  std::unordered_map<Set, State, SetHash> closed_;  // before they are closed, to close them once
  std::vector<std::uint32_t> mark_, state_mark_;
  std::uint32_t stamp_ = 0;
  std::size_t work_ = 0;
  std::vector<bool> has_end_;
};

Automaton::Automaton(const Rules& rules) { Determinizer(rules, *this).run(); }

}  // namespace gpt::generate
