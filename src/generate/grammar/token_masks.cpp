#include "generate/grammar/token_masks.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <unordered_set>
#include <utility>

#include "generate/grammar/token_reach.h"
#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

using Configuration = Stacks::Configuration;

// Steps through the trie, and configurations, for the distances of all states of a grammar with calls: a second or two. The
// states that are left then have distances by tokens of one byte, which are longer but ways, too.
constexpr std::size_t kMaxVisits = 150'000'000, kMaxConfigurations = std::size_t{1} << 18;
constexpr std::size_t kMaxReached = std::size_t{1} << 24;
constexpr std::size_t kMaxRelaxations = 200'000'000;
// Of a grammar without calls.
constexpr std::size_t kMaxReachedStates = std::size_t{1} << 26;
constexpr int kMaxFollowerPasses = 50;
// Steps for the masks of all states.
constexpr std::size_t kMaxFillVisits = 60'000'000;
// Of what is kept only to save time.
constexpr std::size_t kMaxCacheBytes = std::size_t{64} << 20;

std::uint64_t key_of(std::uint32_t a, std::uint32_t b) noexcept {
  return static_cast<std::uint64_t>(a) << 32 | b;
}

}  // namespace

TokenMasks::TokenMasks(std::shared_ptr<const Automaton> automaton, TokenTrie trie)
    : automaton_(std::move(automaton)),
      trie_(std::move(trie)),
      distances_(automaton_->states(), kUnreachable),
      stacks_(*automaton_, distances_),
      path_(trie_.depth() + 1) {
  for (const TokenTrie::Node& node : trie_.nodes()) classes_.push_back(automaton_->class_of(node.byte));
  bool all_tokens = true;
  if (automaton_->has_calls())
    all_tokens = relax();
  else
    search();
  if (least_tokens() == kUnreachable)
    fail<ArgumentError>("grammar", all_tokens
                                       ? "no text of it can be put together from the tokenizer's tokens"
                                       : "is too large for a vocabulary of so many tokens");
  find_followers();
  forget();
  fill();
}

template <class Visit>
void TokenMasks::walk(std::uint32_t top, Configuration from, Visit&& visit) const {
  const auto nodes = trie_.nodes();
  const std::size_t base = nodes[top].depth;
  path_[0] = from;
  const std::uint32_t end = nodes[top].end;
  for (std::uint32_t i = top + 1; i < end; ++visits_) {
    const TokenTrie::Node& node = nodes[i];
    const std::size_t depth = node.depth - base;
    const Configuration to = stacks_.step_by_class(path_[depth - 1], classes_[i]);
    if (to == Stacks::kNone) {
      i = node.end;
      continue;
    }
    path_[depth] = to;
    visit(i, to);
    ++i;
  }
}

// Without calls a configuration is a state: breadth first, from the ends.
void TokenMasks::search() {
  TokenReach reach(*automaton_, trie_, classes_);
  std::vector<State> reached, queue;  // by one token, for every state
  std::vector<std::size_t> ends;
  for (State state = 0; state < distances_.size(); ++state) {
    if (automaton_->is_final(state)) {
      distances_[state] = 0;
      queue.push_back(state);
    } else {
      reach.find(state, reached);
      if (reached.size() > kMaxReachedStates)
        fail<ArgumentError>("grammar", "is too large for a vocabulary of so many tokens");
    }
    ends.push_back(reached.size());
  }
  std::vector<std::size_t> begins(distances_.size() + 1, 0);  // of the states before a state, below
  for (const State to : reached) ++begins[to + 1];
  std::partial_sum(begins.begin(), begins.end(), begins.begin());
  std::vector<State> before(reached.size());
  std::vector<std::size_t> next = begins;
  for (State state = 0; state < distances_.size(); ++state)
    for (std::size_t i = state == 0 ? 0 : ends[state - 1]; i < ends[state]; ++i)
      before[next[reached[i]]++] = state;
  for (std::size_t i = 0; i < queue.size(); ++i) {
    const State state = queue[i];
    for (std::size_t k = begins[state]; k < begins[state + 1]; ++k) {
      if (distances_[before[k]] != kUnreachable) continue;
      distances_[before[k]] = distances_[state] + 1;
      queue.push_back(before[k]);
    }
  }
}

// Which configurations one token leads to, for every state; then the shortest ways backwards from the ends.
bool TokenMasks::relax() {
  std::vector<Configuration> reached;
  std::vector<std::size_t> begins{0};
  std::vector<State> seen_by;
  bool all_tokens = true;
  const auto nodes = trie_.nodes();
  for (State state = 0; state < automaton_->states(); ++state) {
    const Configuration from = stacks_.begin_at(state);
    const auto take = [&](std::uint32_t node, Configuration to) {
      if (nodes[node].token_count == 0) return;
      if (to >= seen_by.size()) seen_by.resize(to + 1, Automaton::kNone);
      if (seen_by[to] == state) return;
      seen_by[to] = state;
      reached.push_back(to);
    };
    if (stacks_.is_complete(from)) {
      distances_[state] = 0;
    } else if (visits_ < kMaxVisits && stacks_.configurations() < kMaxConfigurations &&
               reached.size() < kMaxReached) {
      walk(0, from, take);
    } else {
      all_tokens = false;
      for (std::uint32_t node = 1; node < nodes.size(); node = nodes[node].end)
        if (const Configuration to = stacks_.step(from, nodes[node].byte); to != Stacks::kNone)
          take(node, to);
    }
    begins.push_back(reached.size());
  }
  // A configuration is as far as its state and all frames below it together: what a token begins in several rules, they end one
  // by one. Repeated until nothing becomes shorter; to stop sooner leaves ways that are too long, or not found.
  const std::size_t step = reached.size() + distances_.size();
  bool changed = true;
  for (std::size_t work = 0; changed && work < kMaxRelaxations; work += step) {
    changed = false;
    stacks_.update_distances();
    for (std::size_t state = distances_.size(); state-- > 0;) {  // ends mostly have the higher numbers
      Distance least = distances_[state];
      for (std::size_t i = begins[state]; i < begins[state + 1]; ++i)
        least = std::min(least, add(stacks_.distance(reached[i]), 1));
      if (least == distances_[state]) continue;
      distances_[state] = least;
      changed = true;
    }
  }
  stacks_.update_distances();
  return all_tokens && !changed;
}

// What the callers of a rule can read behind it: where a token cannot go on so, it need not be looked at in their frames.
void TokenMasks::find_followers() {
  const std::size_t classes = automaton_->classes();
  follows_.assign(automaton_->rules() * classes, false);
  const auto add_first = [&](State state, std::uint32_t rule) {
    bool changed = false;
    const auto set = [&](std::size_t byte_class) {
      if (follows_[rule * classes + byte_class]) return;
      follows_[rule * classes + byte_class] = changed = true;
    };
    const Configuration from = stacks_.begin_at(state);
    for (const Stacks::Item& item : stacks_.items(from))
      for (std::size_t c = 0; c < classes; ++c)
        if (automaton_->next(item.state, c) != Automaton::kNone) set(c);
    if (stacks_.is_complete(from)) {
      for (std::size_t c = 0; c < classes; ++c)
        if (follows_[automaton_->rule_of(state) * classes + c]) set(c);
    }
    return changed;
  };
  std::vector<std::pair<std::uint32_t, State>> edges;  // a rule, and where a caller goes on behind it
  for (State state = 0; state < automaton_->states(); ++state)
    for (const Automaton::Call& call : automaton_->calls(state)) edges.emplace_back(call.rule, call.next);
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  bool changed = true;
  for (int pass = 0; changed && pass < kMaxFollowerPasses; ++pass) {
    changed = false;
    for (const auto& [rule, next] : edges) changed = add_first(next, rule) || changed;
  }
  if (changed) follows_.assign(follows_.size(), true);  // then every way is looked at
}

void TokenMasks::fill() {
  visits_ = 0;
  for (State state = 0; state < automaton_->states(); ++state) {
    if (visits_ > kMaxFillVisits || partial_bytes_ + stacks_.memory() > kMaxCacheBytes / 2) return;
    if (automaton_->reads(state)) partial(0, state);
  }
}

// The tokens below the tops, read from the state on, by their distances.
TokenMasks::Partial TokenMasks::make_partial(std::uint32_t tops, State state) const {
  const auto nodes = trie_.nodes();
  const std::size_t words = (trie_.vocab_size() + 63) / 64;
  struct Collected {
    Level level;
    std::size_t count = 0;
  };
  std::vector<Collected> levels;
  std::unordered_map<Distance, std::size_t> level_of;
  Distance last = kUnreachable;
  Collected* collected = nullptr;
  std::vector<std::uint32_t> returns;
  const std::size_t classes = automaton_->classes(), first_follower = automaton_->rule_of(state) * classes;
  const auto can_follow = [&](std::uint32_t node) {
    for (std::uint32_t child = node + 1; child < nodes[node].end; child = nodes[child].end)
      if (follows_[first_follower + classes_[child]]) return true;
    return false;
  };
  const Configuration from = stacks_.begin_at(state);
  const auto visit = [&](std::uint32_t node, Configuration to) {
    if (stacks_.is_complete(to) && trie_.has_children(node) && can_follow(node)) returns.push_back(node);
    if (nodes[node].token_count == 0) return;
    const Distance distance = stacks_.distance(to);
    if (distance == kUnreachable) return;
    if (distance != last) {
      last = distance;
      const auto [place, is_new] = level_of.try_emplace(distance, levels.size());
      if (is_new) levels.push_back({{.distance = distance, .words = std::vector<std::uint64_t>(words, 0)}});
      collected = &levels[place->second];
    }
    for (const TokenId id : trie_.tokens_at(node)) {
      const auto bit = static_cast<std::size_t>(id);
      collected->level.words[bit / 64] |= std::uint64_t{1} << bit % 64;
      ++collected->count;
    }
  };
  for (const std::uint32_t top : node_sets_[tops]) {
    if (top != 0 && stacks_.is_complete(from) && can_follow(top)) returns.push_back(top);
    walk(top, from, visit);
  }
  std::sort(levels.begin(), levels.end(),
            [](const Collected& x, const Collected& y) { return x.level.distance < y.level.distance; });
  Partial partial;
  for (Collected& entry : levels) {
    Level& level = entry.level;
    if (entry.count <= words) {  // few
      for (std::size_t word = 0; word < words; ++word)
        for (std::uint64_t rest = level.words[word]; rest != 0; rest &= rest - 1)
          level.ids.push_back(
              static_cast<TokenId>(64 * word + static_cast<std::size_t>(std::countr_zero(rest))));
      level.words = {};
      level.ids.shrink_to_fit();
    }
    partial_bytes_ += level.words.size() * sizeof(std::uint64_t) + level.ids.size() * sizeof(TokenId);
    partial.levels.push_back(std::move(level));
  }
  partial_bytes_ += 200;
  std::sort(returns.begin(), returns.end());
  returns.erase(std::unique(returns.begin(), returns.end()), returns.end());
  partial.returns = set_of(std::move(returns));
  return partial;
}

// Equal sets have equal numbers; the root alone is 0, none kNoNodes.
std::uint32_t TokenMasks::set_of(std::vector<std::uint32_t> nodes) const {
  if (nodes.empty()) return kNoNodes;
  const auto [place, is_new] =
      node_set_ids_.try_emplace(nodes, static_cast<std::uint32_t>(node_sets_.size()));
  if (is_new) {
    partial_bytes_ += 2 * nodes.size() * sizeof(std::uint32_t) + 150;
    node_sets_.push_back(std::move(nodes));
  }
  return place->second;
}

const TokenMasks::Partial& TokenMasks::partial(std::uint32_t tops, State state) const {
  const std::uint64_t key = key_of(tops, state);
  if (const auto known = partials_.find(key); known != partials_.end()) return known->second;
  return partials_.emplace(key, make_partial(tops, state)).first->second;
}

void TokenMasks::forget() const {
  stacks_.clear();
  partials_.clear();
  partial_bytes_ = 0;
  node_sets_.assign(1, std::vector<std::uint32_t>(1, 0));
  node_set_ids_.clear();
  node_set_ids_.emplace(node_sets_[0], 0);
}

void TokenMasks::mask(const Stacks& stacks, Configuration at, Distance left,
                      std::vector<std::uint64_t>& words) const {
  words.assign((trie_.vocab_size() + 63) / 64, 0);
  struct Visit {
    std::uint32_t tops;
    State state;
    Stacks::Frame frame;
    bool operator==(const Visit&) const = default;
  };
  struct Hash {
    std::size_t operator()(const Visit& visit) const noexcept {
      const std::uint64_t a = key_of(visit.tops, visit.state) * 0x9E3779B97F4A7C15u;
      return static_cast<std::size_t>((a ^ a >> 32 ^ visit.frame) * 0x9E3779B97F4A7C15u >> 7);
    }
  };
  const std::lock_guard lock(mutex_);
  // Also where an exception left something half done.
  if (is_open_ || partial_bytes_ > kMaxCacheBytes || stacks_.memory() > kMaxCacheBytes) forget();
  is_open_ = true;
  std::vector<Visit> visits;
  std::unordered_set<Visit, Hash> seen;  // below the items, where different ways may meet
  for (const Stacks::Item& item : stacks.items(at)) visits.push_back({0, item.state, item.frame});
  while (!visits.empty()) {
    const Visit visit = visits.back();
    visits.pop_back();
    const Distance below = stacks.distance_of(visit.frame);
    const Partial& found = partial(visit.tops, visit.state);
    for (const Level& level : found.levels) {
      if (add(level.distance, below) > left)
        break;  // what a token does in the frames below may still be short
      for (std::size_t i = 0; i < level.words.size(); ++i) words[i] |= level.words[i];
      for (const TokenId id : level.ids) {
        const auto bit = static_cast<std::size_t>(id);
        words[bit / 64] |= std::uint64_t{1} << bit % 64;
      }
    }
    if (visit.frame == Stacks::kBottom || found.returns == kNoNodes) continue;
    for (const Stacks::Frame frame : stacks.below(visit.frame)) {
      const Visit next{found.returns, stacks.return_of(visit.frame), frame};
      if (seen.insert(next).second) visits.push_back(next);
    }
  }
  is_open_ = false;
}

}  // namespace gpt::generate
