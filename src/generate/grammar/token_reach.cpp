#include "generate/grammar/token_reach.h"

#include <algorithm>
#include <utility>

#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

constexpr std::size_t kMaxSetNodes = std::size_t{1} << 25, kMaxSetVisits = 1'000'000'000;  // some seconds
constexpr std::uint32_t kNoPartition = 0xFFFFFFFF;

[[noreturn]] void fail_too_large() {
  fail<ArgumentError>("grammar", "is too large for a vocabulary of so many tokens");
}

}  // namespace

TokenReach::TokenReach(const Automaton& automaton, const TokenTrie& trie,
                       std::span<const std::uint8_t> classes)
    : automaton_(automaton),
      trie_(trie),
      classes_(classes),
      partitions_(automaton.states(), kNoPartition),
      seen_by_(automaton.states(), Automaton::kNone) {
  set_of(std::vector<std::uint32_t>(1, 0));
}

void TokenReach::find(State from, std::vector<State>& out) {
  stack_.assign(1, {0, from});
  while (!stack_.empty()) {
    const auto [set, state] = stack_.back();
    stack_.pop_back();
    for (const Branch& branch : branches(set, state)) {
      if (++visits_ > kMaxSetVisits) fail_too_large();
      const State to = automaton_.next(state, branch.byte_class);
      if (has_token_[branch.to] && seen_by_[to] != from) {
        seen_by_[to] = from;
        out.push_back(to);
      }
      stack_.emplace_back(branch.to, to);
    }
  }
}

const TokenReach::Branches& TokenReach::branches(Set set, State state) {
  const std::uint64_t key = static_cast<std::uint64_t>(set) << 32 | partition_of(state);
  const auto [place, is_new] = branches_.try_emplace(key);
  if (!is_new) return place->second;
  const auto nodes = trie_.nodes();
  struct Part {
    std::uint8_t byte_class = 0;
    std::vector<std::uint32_t> nodes = {};
  };
  std::map<State, Part> parts;  // by where they lead
  for (const std::uint32_t node : sets_[set]) {
    for (std::uint32_t child = node + 1; child < nodes[node].end; child = nodes[child].end) {
      const State to = automaton_.next(state, classes_[child]);
      if (to == Automaton::kNone) continue;
      Part& part = parts[to];
      part.byte_class = classes_[child];
      part.nodes.push_back(child);  // in order, as the set is
    }
  }
  Branches found;
  for (auto& [to, part] : parts) found.push_back({part.byte_class, set_of(std::move(part.nodes))});
  return place->second = std::move(found);
}

std::uint32_t TokenReach::partition_of(State state) {
  if (partitions_[state] != kNoPartition) return partitions_[state];
  std::vector<State> parts(automaton_.classes(), 0), targets;
  for (std::size_t c = 0; c < parts.size(); ++c) {
    const State to = automaton_.next(state, c);
    if (to == Automaton::kNone) continue;
    const auto place = std::find(targets.begin(), targets.end(), to);
    parts[c] = static_cast<State>(place - targets.begin()) + 1;
    if (place == targets.end()) targets.push_back(to);
  }
  const auto number = static_cast<std::uint32_t>(partition_ids_.size());
  return partitions_[state] = partition_ids_.try_emplace(std::move(parts), number).first->second;
}

// Equal sets have equal numbers.
TokenReach::Set TokenReach::set_of(std::vector<std::uint32_t> nodes) {
  std::uint64_t hash = nodes.size();
  for (const std::uint32_t node : nodes) {
    hash = (hash ^ node) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 32;
  }
  const auto [first, last] = set_ids_.equal_range(hash);
  for (auto known = first; known != last; ++known)
    if (sets_[known->second] == nodes) return known->second;
  nodes_ += nodes.size();
  if (nodes_ > kMaxSetNodes) fail_too_large();
  const auto id = static_cast<Set>(sets_.size());
  has_token_.push_back(std::any_of(nodes.begin(), nodes.end(), [this](std::uint32_t node) {
    return trie_.nodes()[node].token_count > 0;
  }));
  sets_.push_back(std::move(nodes));
  set_ids_.emplace(hash, id);
  return id;
}

}  // namespace gpt::generate
