#include "generate/grammar/stacks.h"

#include <algorithm>
#include <utility>

#include "gpt/core/error.h"

namespace gpt::generate {
namespace {

// Ways to read one text, of which a sensible grammar has a handful; and steps to find them.
constexpr std::size_t kMaxItems = 20000, kMaxSteps = 64 * kMaxItems;

std::uint64_t pair_of(std::uint32_t a, std::uint32_t b) noexcept {
  return static_cast<std::uint64_t>(a) << 32 | b;
}

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) noexcept {
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 32;
}

}  // namespace

Stacks::Stacks(const Automaton& automaton, const std::vector<Distance>& distances, std::size_t max_bytes)
    : automaton_(&automaton), distances_(&distances), max_bytes_(max_bytes) {
  clear();
}

void Stacks::clear() {
  frames_.assign(1, {});
  frame_distances_.assign(1, 0);
  parents_.clear();
  configurations_.clear();
  items_.clear();
  rows_.clear();
  frame_ids_.clear();
  configuration_ids_.clear();
  work_.clear();  // an exception may have left some
  reading_.clear();
  seen_.clear();
  fresh_.clear();
  fresh_of_.clear();
  steps_ = 0;
}

Stacks::Configuration Stacks::begin_at(State state) {
  put(state, kBottom);
  return close();
}

Stacks::Configuration Stacks::make_step(Configuration from, std::size_t byte_class) {
  for (const Item& item : items(from)) {
    const State next = automaton_->next(item.state, byte_class);
    if (next != Automaton::kNone) put(next, item.frame);
  }
  const Configuration to = work_.empty() ? kNone : close();
  rows_[from * automaton_->classes() + byte_class] = to;
  return to;
}

void Stacks::put(State state, Frame frame) {
  ++steps_;
  if (seen_.insert(pair_of(state, frame)).second) work_.push_back({state, frame});
}

void Stacks::call(const Automaton::Call& call, Frame below) {
  const State start = automaton_->start(call.rule);
  // Where nothing is left to do behind the call, the caller need not wait: lists by right recursion stay flat.
  if (automaton_->is_final(call.next) && !automaton_->reads(call.next) &&
      automaton_->calls(call.next).empty())
    return put(start, below);
  const auto [place, is_new] = fresh_of_.try_emplace(pair_of(call.rule, call.next), fresh_.size());
  if (is_new) fresh_.push_back({call.next, {}});
  Fresh& fresh = fresh_[place->second];
  fresh.parents.push_back(below);
  ++steps_;
  if (fresh.returned) put(call.next, below);
  put(start, kFresh | static_cast<Frame>(place->second));
}

void Stacks::visit(Item item) {
  if (automaton_->reads(item.state)) reading_.push_back(item);
  if (automaton_->is_final(item.state)) {
    if (item.frame == kBottom) {
      complete_ = true;
    } else if ((item.frame & kFresh) != 0) {
      Fresh& fresh = fresh_[item.frame & ~kFresh];
      if (!std::exchange(fresh.returned, true))  // later callers return at once
        for (const Frame parent : fresh.parents) put(fresh.state, parent);
    } else {
      for (const Frame parent : below(item.frame)) put(return_of(item.frame), parent);
    }
  }
  for (const Automaton::Call& edge : automaton_->calls(item.state)) call(edge, item.frame);
}

// Follows calls and returns until every state that can be reached without reading is there.
Stacks::Configuration Stacks::close() {
  complete_ = false;
  bool too_many = false;
  for (std::size_t i = 0; i < work_.size() && !too_many; ++i) {
    visit(work_[i]);
    too_many = work_.size() > kMaxItems || steps_ > kMaxSteps;
  }
  if (!too_many)
    for (Item& item : reading_)
      if ((item.frame & kFresh) != 0) item.frame = freeze(item.frame & ~kFresh);
  work_.clear();
  seen_.clear();
  fresh_.clear();
  fresh_of_.clear();
  steps_ = 0;
  std::vector<Item> reading = std::exchange(reading_, {});
  if (too_many)
    fail<ArgumentError>("grammar", "is too ambiguous: there are more than ", kMaxItems,
                        " ways to read a text");
  std::sort(reading.begin(), reading.end());
  reading.erase(std::unique(reading.begin(), reading.end()), reading.end());

  std::uint64_t hash = complete_ ? 1 : 0;
  for (const Item& item : reading) hash = mix(hash, pair_of(item.state, item.frame));
  const auto [first, last] = configuration_ids_.equal_range(hash);
  for (auto known = first; known != last; ++known) {
    const auto same = items(known->second);
    if (is_complete(known->second) == complete_ &&
        std::equal(same.begin(), same.end(), reading.begin(), reading.end()))
      return known->second;
  }
  const auto id = static_cast<Configuration>(configurations_.size());
  if (id >= kUnknown) fail<MemoryError>("grammar", "out of memory");
  configurations_.push_back({items_.size(), static_cast<std::uint32_t>(reading.size()), complete_});
  items_.insert(items_.end(), reading.begin(), reading.end());
  rows_.resize(rows_.size() + automaton_->classes(), kUnknown);
  configuration_ids_.emplace(hash, id);
  if (memory() > max_bytes_)
    fail<ArgumentError>("grammar", "is too ambiguous: the ways to read its texts take more than ", max_bytes_,
                        " bytes");
  return id;
}

// The frames below come first. They make no cycle, since no rule begins with itself.
Stacks::Frame Stacks::freeze(std::size_t fresh) {
  std::vector<std::size_t> stack{fresh};
  while (!stack.empty()) {
    Fresh& top = fresh_[stack.back()];
    const std::size_t before = stack.size();
    for (const Frame parent : top.parents)
      if ((parent & kFresh) != 0 && fresh_[parent & ~kFresh].frozen == kBottom)
        stack.push_back(parent & ~kFresh);
    if (stack.size() > before) continue;
    stack.pop_back();
    if (top.frozen != kBottom) continue;
    std::vector<Frame> parents = top.parents;
    for (Frame& parent : parents)
      if ((parent & kFresh) != 0) parent = fresh_[parent & ~kFresh].frozen;
    top.frozen = intern(top.state, parents);
  }
  return fresh_[fresh].frozen;
}

Stacks::Frame Stacks::intern(State state, std::vector<Frame>& parents) {
  std::sort(parents.begin(), parents.end());
  parents.erase(std::unique(parents.begin(), parents.end()), parents.end());
  std::uint64_t hash = state;
  for (const Frame parent : parents) hash = mix(hash, parent);
  const auto [first, last] = frame_ids_.equal_range(hash);
  for (auto known = first; known != last; ++known) {
    const auto same = below(known->second);
    if (return_of(known->second) == state &&
        std::equal(same.begin(), same.end(), parents.begin(), parents.end()))
      return known->second;
  }
  const auto id = static_cast<Frame>(frames_.size());
  if (id >= kFresh) fail<MemoryError>("grammar", "out of memory");
  frames_.push_back({state, {parents_.size(), static_cast<std::uint32_t>(parents.size())}});
  parents_.insert(parents_.end(), parents.begin(), parents.end());
  frame_distances_.push_back(kUnreachable);
  set_distance(id);
  frame_ids_.emplace(hash, id);
  return id;
}

void Stacks::set_distance(Frame frame) noexcept {
  Distance least = kUnreachable;
  for (const Frame parent : below(frame)) least = std::min(least, frame_distances_[parent]);
  frame_distances_[frame] = add((*distances_)[return_of(frame)], least);
}

void Stacks::update_distances() {
  for (Frame frame = 1; frame < frames_.size(); ++frame) set_distance(frame);  // those below come before
}

Distance Stacks::distance(Configuration configuration) const noexcept {
  if (is_complete(configuration)) return 0;
  Distance least = kUnreachable;
  for (const Item& item : items(configuration))
    least = std::min(least, add((*distances_)[item.state], distance_of(item.frame)));
  return least;
}

std::size_t Stacks::memory() const noexcept {
  return rows_.size() * sizeof(Configuration) + items_.size() * sizeof(Item) +
         configurations_.size() * (sizeof(Range) + 48) + frames_.size() * (sizeof(FrameData) + 64) +
         parents_.size() * sizeof(Frame);
}

}  // namespace gpt::generate
