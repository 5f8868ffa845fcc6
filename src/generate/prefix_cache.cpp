#include "generate/prefix_cache.h"

#include <utility>

namespace gpt::generate {

const nn::KvPage& PrefixCache::page_of(const Node& node) noexcept { return node.page; }

void PrefixCache::use_one(Node& node) noexcept {
  if (node.users++ == 0) used_.splice(used_.end(), unused_, node.itself);
}

void PrefixCache::use(Node* last) noexcept {
  for (; last != nullptr; last = last->parent) use_one(*last);
}

PrefixCache::Node* PrefixCache::leave(Node& last) noexcept {
  if (--last.users == 0) unused_.splice(unused_.end(), used_, last.itself);
  return last.parent;
}

PrefixCache::Node* PrefixCache::find(const nn::Adapter* adapter, std::span<const TokenId> tokens) noexcept {
  const auto first = first_.find(adapter);
  if (first == first_.end()) return nullptr;
  Node* last = nullptr;
  for (; tokens.size() >= page_tokens_; tokens = tokens.subspan(page_tokens_)) {
    Children& children = last == nullptr ? first->second : last->children;
    const auto child = children.find(tokens.first(page_tokens_));
    if (child == children.end()) break;
    last = child->second;
  }
  return last;
}

std::int64_t PrefixCache::count_to(const Node* last) noexcept { return last == nullptr ? 0 : last->count; }

std::vector<nn::KvPage> PrefixCache::pages_to(const Node* last) {
  std::vector<nn::KvPage> pages(static_cast<std::size_t>(count_to(last)));
  for (auto page = pages.rbegin(); last != nullptr; last = last->parent) *page++ = last->page;
  return pages;
}

PrefixCache::Node* PrefixCache::insert(Node* parent, const std::shared_ptr<const nn::Adapter>& adapter,
                                       std::span<const TokenId> tokens, const nn::KvPage& page) {
  Children& children = parent == nullptr ? first_[adapter.get()] : parent->children;
  auto child = children.find(tokens);
  if (child == children.end()) {
    std::list<Node> made;
    Node& node = made.emplace_back();
    node.parent = parent;
    node.adapter = adapter;
    node.count = count_to(parent) + 1;
    node.page = page;
    child = children.emplace(std::vector<TokenId>(tokens.begin(), tokens.end()), &node).first;
    node.place = child;
    node.itself = made.begin();
    unused_.splice(unused_.end(), made);
  }
  use_one(*child->second);
  return child->second;
}

bool PrefixCache::evict() noexcept {
  if (unused_.empty()) return false;
  const Node& node = unused_.front();
  if (node.parent != nullptr) {
    node.parent->children.erase(node.place);
  } else if (const auto first = first_.find(node.adapter.get()); first != first_.end()) {
    first->second.erase(node.place);
    if (first->second.empty()) first_.erase(first);  // before the adapter's address may be another's
  }
  unused_.pop_front();
  return true;
}

}  // namespace gpt::generate
