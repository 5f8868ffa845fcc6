#include "generate/grammar/nfa.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

constexpr std::size_t kMaxNfaStates = std::size_t{1} << 18;
// Rules up to this size become part of their callers, or up to a smaller one where those become too many.
constexpr std::uint64_t kMaxInlined[] = {20000, 1000, 30};
// Unless that nests expressions deeper than this, which the stack of the builder has to hold.
constexpr int kMaxInlineDepth = 1500;

struct TooManyStates {};

/// Which rules stay rules: those on a cycle of calls, and those too large to be copied to every caller.
class Inlining {
 public:
  Inlining(const Rules& rules, std::uint64_t most) : rules_(rules), most_(most), info_(rules.size()) {
    for (Rules::Rule rule = 0; rule < rules.size(); ++rule) visit(rule);
    info_[rules.root()].stays = true;
  }
  bool stays(Rules::Rule rule) const noexcept { return info_[rule].stays; }

 private:
  struct Info {
    std::vector<Rules::Rule> calls;  // one for each call
    std::uint64_t size = 0;          // with what it takes in
    int depth = 0;                   // the same
    std::uint32_t number = 0, low = 0;
    bool visited = false, on_stack = false, stays = false;
  };
  struct Frame {
    Rules::Rule rule;
    std::size_t next = 0;
  };

  // Tarjan's algorithm, with a stack of its own: chains of rules may be long.
  void visit(Rules::Rule first) {
    if (info_[first].visited) return;
    std::vector<Frame> frames;
    enter(first, frames);
    while (!frames.empty()) {
      Info& info = info_[frames.back().rule];
      if (frames.back().next < info.calls.size()) {
        const Rules::Rule callee = info.calls[frames.back().next++];
        if (!info_[callee].visited)
          enter(callee, frames);
        else if (info_[callee].on_stack)
          info.low = std::min(info.low, info_[callee].number);
        continue;
      }
      const Rules::Rule rule = frames.back().rule;
      frames.pop_back();
      if (!frames.empty()) {
        Info& caller = info_[frames.back().rule];
        caller.low = std::min(caller.low, info.low);
      }
      if (info.low == info.number) leave(rule);
    }
  }

  void enter(Rules::Rule rule, std::vector<Frame>& frames) {
    Info& info = info_[rule];
    info.visited = info.on_stack = true;
    info.number = info.low = ++count_;
    component_.push_back(rule);
    scan(rules_.body(rule), info);
    frames.push_back({rule});
  }

  void leave(Rules::Rule rule) {
    const auto begin = std::find(component_.rbegin(), component_.rend(), rule).base() - 1;
    const bool is_recursive =
        component_.end() - begin > 1 ||
        std::find(info_[rule].calls.begin(), info_[rule].calls.end(), rule) != info_[rule].calls.end();
    for (auto member = begin; member != component_.end(); ++member) {
      Info& info = info_[*member];
      info.on_stack = false;
      info.stays = is_recursive;
      int depth = 0;
      for (const Rules::Rule callee : info.calls) {
        if (info_[callee].stays || is_recursive) continue;
        info.size = std::min(info.size + info_[callee].size, 2 * most_);
        depth = std::max(depth, info_[callee].depth);
      }
      info.depth += depth;
      if (info.size > most_ || info.depth > kMaxInlineDepth) info.stays = true;
    }
    component_.erase(begin, component_.end());
  }

  // Counts roughly what an expression becomes. Repetitions multiply it.
  void scan(Rules::Node root, Info& info) {
    struct Item {
      Rules::Node node;
      std::uint64_t times;
      int depth;
    };
    std::vector<Item> items{{root, 1, 1}};
    while (!items.empty()) {
      const Item item = items.back();
      items.pop_back();
      const Rules::Expression& expression = rules_.at(item.node);
      std::uint64_t times = item.times;
      info.size += times * (expression.kind == Rules::Kind::kText ? expression.text.size() + 1 : 2);
      info.size = std::min(info.size, 2 * most_);
      info.depth = std::max(info.depth, item.depth);
      if (expression.kind == Rules::Kind::kCall) info.calls.push_back(expression.index);
      if (expression.kind == Rules::Kind::kRepeat && expression.most != Rules::kNoLimit)
        times = std::min<std::uint64_t>(times * std::max<std::uint32_t>(expression.most, 1), 2 * most_);
      for (const Rules::Node part : expression.parts) items.push_back({part, times, item.depth + 1});
      if (expression.kind == Rules::Kind::kList) {
        const Rules::List& list = rules_.list_at(expression.index);
        for (const Rules::Node part : list.items) items.push_back({part, times, item.depth + 1});
        if (list.more != Rules::kNone) items.push_back({list.more, times, item.depth + 1});
      }
    }
  }

  const Rules& rules_;
  std::uint64_t most_;
  std::vector<Info> info_;
  std::vector<Rules::Rule> component_;
  std::uint32_t count_ = 0;
};

class Builder {
 public:
  Builder(const Rules& rules, std::uint64_t inlined) : rules_(rules), inlining_(rules, inlined) {}

  Nfa build() {
    machine_of(rules_.root());
    for (std::size_t i = 0; i < to_do_.size(); ++i) {  // grows
      const State start = add(), end = add();
      nfa_.machines[i].start = start;
      nfa_.machines[i].end = end;
      expression(rules_.body(to_do_[i]), start, end);
    }
    return std::move(nfa_);
  }

 private:
  using State = Nfa::State;

  State add() {
    if (nfa_.nodes.size() == kMaxNfaStates) throw TooManyStates();
    nfa_.nodes.emplace_back();
    return static_cast<State>(nfa_.nodes.size() - 1);
  }
  void link(State from, State to) { nfa_.nodes[from].empty.push_back(to); }

  std::uint32_t machine_of(Rules::Rule rule) {
    const auto [place, is_new] = machines_.try_emplace(rule, static_cast<std::uint32_t>(to_do_.size()));
    if (is_new) {
      to_do_.push_back(rule);
      nfa_.machines.push_back({rules_.name(rule)});
    }
    return place->second;
  }

  void expression(Rules::Node node, State from, State to) {
    const Rules::Expression& e = rules_.at(node);
    switch (e.kind) {
      case Rules::Kind::kText: return text(e.text, from, to);
      case Rules::Kind::kSet: return set(rules_.set_at(e.index), from, to);
      case Rules::Kind::kSequence: {
        if (e.parts.empty()) return link(from, to);
        for (std::size_t i = 0; i < e.parts.size(); ++i) {
          const State next = i + 1 == e.parts.size() ? to : add();
          expression(e.parts[i], from, next);
          from = next;
        }
        return;
      }
      case Rules::Kind::kChoice:
        for (const Rules::Node part : e.parts) {
          const State begin = add();  // of its own: a loop at its beginning must not reach the others
          link(from, begin);
          expression(part, begin, to);
        }
        return;
      case Rules::Kind::kRepeat: return repeat(e, from, to);
      case Rules::Kind::kCall:
        if (inlining_.stays(e.index)) {
          nfa_.nodes[from].calls.push_back({machine_of(e.index), to});
        } else {
          expression(rules_.body(e.index), from, to);
        }
        return;
      case Rules::Kind::kList: return list(rules_.list_at(e.index), from, to);
    }
  }

  void text(const std::string& bytes, State from, State to) {
    if (bytes.empty()) return link(from, to);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const State next = i + 1 == bytes.size() ? to : add();
      const auto byte = static_cast<std::uint8_t>(bytes[i]);
      nfa_.nodes[from].bytes.push_back({{byte, byte}, next});
      from = next;
    }
  }

  // Characters that end alike share the states of their ends.
  void set(const CharSet& characters, State from, State to) {
    std::map<std::string, State> tails;  // by the ranges of their bytes
    for (const CharSet::Range range : characters.ranges()) {
      for (const ByteRanges& utf8 : utf8_sequences(range)) {
        State next = to;
        std::string tail;
        for (unsigned i = utf8.size; i-- > 1;) {
          tail.push_back(static_cast<char>(utf8.bytes[i].first));
          tail.push_back(static_cast<char>(utf8.bytes[i].last));
          const auto [place, is_new] = tails.try_emplace(tail, 0);
          if (is_new) {
            place->second = add();
            nfa_.nodes[place->second].bytes.push_back({utf8.bytes[i], next});
          }
          next = place->second;
        }
        nfa_.nodes[from].bytes.push_back({utf8.bytes[0], next});
      }
    }
  }

  void repeat(const Rules::Expression& e, State from, State to) {
    for (std::uint32_t i = 0; i < e.least; ++i) {
      const State next = add();
      expression(e.parts[0], from, next);
      from = next;
    }
    if (e.most == Rules::kNoLimit) {
      const State loop = add();
      link(from, loop);
      expression(e.parts[0], loop, loop);
      return link(loop, to);
    }
    for (std::uint32_t i = e.least; i < e.most; ++i) {
      link(from, to);
      const State next = add();
      expression(e.parts[0], from, next);
      from = next;
    }
    link(from, to);
  }

  // Before an element, either nothing stands there yet or a separator is due.
  void list(const Rules::List& list, State from, State to) {
    State empty = from, behind = add();
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      const State begin = add(), end = add();
      link(empty, begin);
      if (i > 0) expression(list.separator, behind, begin);
      expression(list.items[i], begin, end);
      const State next_empty = add(), next_behind = add();
      link(end, next_behind);
      if (!list.required[i] && list.is_prefix) {
        link(empty, to);
        link(behind, to);
      } else if (!list.required[i]) {
        link(empty, next_empty);
        link(behind, next_behind);
      }
      empty = next_empty;
      behind = next_behind;
    }
    if (list.more != Rules::kNone) {
      const State begin = add();
      link(empty, begin);
      expression(list.separator, behind, begin);
      expression(list.more, begin, behind);
    }
    link(empty, to);
    link(behind, to);
  }

  const Rules& rules_;
  Inlining inlining_;
  Nfa nfa_;
  std::map<Rules::Rule, std::uint32_t> machines_;
  std::vector<Rules::Rule> to_do_;
};

}  // namespace

Nfa build_nfa(const Rules& rules) {
  for (const std::uint64_t inlined : kMaxInlined) {
    try {
      return Builder(rules, inlined).build();
    } catch (const TooManyStates&) {
    }
  }
  fail<ArgumentError>(rules.source(), "needs more than ", kMaxNfaStates,
                      " states, which is the limit: fewer repetitions are needed");
}

}  // namespace gpt::generate
