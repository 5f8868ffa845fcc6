#include "generate/prefix_cache.h"

#include <utility>

namespace gpt::generate {

PrefixCache::Children& PrefixCache::children_of(Node* parent) noexcept {
  return parent == nullptr ? first_ : parent->children;
}

const nn::KvPage& PrefixCache::page_of(const Node& node) noexcept { return node.page; }

PrefixCache::Node* PrefixCache::parent_of(const Node& node) noexcept { return node.parent; }

std::int64_t PrefixCache::unused() const noexcept {
  return std::count_if(nodes_.begin(), nodes_.end(),
                       [](const Node& node) { return node.page.use_count() == 1; });
}

void PrefixCache::touch(Node* node) noexcept {
  for (; node != nullptr; node = node->parent) nodes_.splice(nodes_.end(), nodes_, node->itself);
}

std::vector<nn::KvPage> PrefixCache::find(std::span<const TokenId> tokens, Node*& last) {
  std::vector<nn::KvPage> pages;
  last = nullptr;
  for (; tokens.size() >= page_tokens_; tokens = tokens.subspan(page_tokens_)) {
    Children& children = children_of(last);
    const auto child = children.find(tokens.first(page_tokens_));
    if (child == children.end()) break;
    last = child->second;
    pages.push_back(last->page);
  }
  touch(last);
  return pages;
}

PrefixCache::Node* PrefixCache::insert(Node* parent, std::span<const TokenId> tokens,
                                       const nn::KvPage& page) {
  Children& children = children_of(parent);
  if (const auto child = children.find(tokens); child != children.end()) {
    touch(child->second);
    return child->second;
  }
  std::list<Node> made;
  Node& node = made.emplace_back();
  node.parent = parent;
  node.page = page;
  node.place = children.emplace(std::vector<TokenId>(tokens.begin(), tokens.end()), &node).first;
  node.itself = made.begin();
  nodes_.splice(nodes_.end(), made);
  touch(&node);
  return &node;
}

bool PrefixCache::evict() {
  const auto found = std::find_if(nodes_.begin(), nodes_.end(), [](const Node& node) {
    return node.children.empty() && node.page.use_count() == 1;
  });
  if (found == nodes_.end()) return false;
  children_of(found->parent).erase(found->place);
  nodes_.erase(found);
  return true;
}

}  // namespace gpt::generate
