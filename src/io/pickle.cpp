#include "io/pickle.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <set>
#include <span>

#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/core/shape.h"

namespace gpt {
namespace {

/// A value of the pickle. All of them live as long as the machine: what refers to itself is then no danger.
struct Node {
  enum class Kind : std::uint8_t {
    kOther,
    kInteger,
    kText,
    kTuple,
    kList,
    kDict,
    kGlobal,
    kStorage,
    kTensor
  };
  Kind kind = Kind::kOther;  // other: None, a bool, a float
  std::int64_t integer = 0;
  std::string text;                       // of text; "module name" of a global
  std::vector<Node*> items;               // of a dict: keys and values in turn
  const PickledTensor* tensor = nullptr;  // of a storage, and of a tensor
};
using Kind = Node::Kind;

// Few bytes can ask for many tensors of the same shape and storage: these bound the memory that all of them take.
// Likewise of a key, which two bytes recall.
constexpr std::size_t kMostAxes = Shape::kMaxRank, kMostName = 100, kMostKey = 1000;

constexpr std::string_view kOrderedDict = "collections OrderedDict";
constexpr std::string_view kTensor = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kParameter = "torch._utils _rebuild_parameter";

bool is_storage_type(std::string_view global) {
  return global.starts_with("torch ") && global.ends_with("Storage") &&
         global.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 6) ==
             global.npos;
}

/// The machine that a pickle is a program for.
class Machine {
 public:
  Machine(std::string_view pickle, std::string_view source)
      : rest_(pickle), size_(pickle.size()), source_(source) {}

  const Node& run() {
    while (true) {
      const unsigned op = read<std::uint8_t>();
      if (op == '.') break;
      step(op);
    }
    return *pop();
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail_here(const Parts&... parts) const {
    fail<FormatError>(source_, "byte ", size_ - rest_.size(), " of the pickle: ", parts...);
  }

  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) fail_here("it ends early");
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  template <class T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view read_line() {
    const std::size_t end = rest_.find('\n');
    if (end == rest_.npos) fail_here("it ends early");
    const std::string_view line = take(end);
    take(1);
    return line;
  }

  Node& push(Kind kind) {
    Node& node = nodes_.emplace_back();
    node.kind = kind;
    stack_.push_back(&node);
    return node;
  }
  void push_integer(std::int64_t value) { push(Kind::kInteger).integer = value; }
  void push_text(std::string_view text) { push(Kind::kText).text = text; }

  Node* pop() {
    if (stack_.empty() || (!marks_.empty() && stack_.size() <= marks_.back()))
      fail_here("nothing is on the stack");
    Node* const node = stack_.back();
    stack_.pop_back();
    return node;
  }
  Node& top() {
    Node* const node = pop();
    stack_.push_back(node);
    return *node;
  }
  /// Everything above the last mark.
  std::vector<Node*> pop_to_mark() {
    if (marks_.empty()) fail_here("there is no mark");
    std::vector<Node*> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::vector<Node*> items) { push(Kind::kTuple).items = std::move(items); }
  void push_last(std::size_t count) {
    std::vector<Node*> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    push_tuple(std::move(items));
  }
  void push_global(std::string_view module, std::string_view name) {
    if (module.size() + name.size() > kMostName)  // before it is copied
      fail<UnsupportedError>(source_, "its pickle asks for a global whose name has ",
                             module.size() + name.size(),
                             " bytes, which no dict of tensors needs; nothing was executed");
    const std::string global = concat(module, " ", name);
    if (global != kOrderedDict && global != kTensor && global != kParameter && !is_storage_type(global))
      fail<UnsupportedError>(source_, "its pickle asks for ", quote(concat(module, ".", name)),
                             ", which no dict of tensors needs; nothing was executed");
    push(Kind::kGlobal).text = global;
  }

  void extend(Kind kind, std::span<Node* const> items) {
    Node& to = top();
    if (to.kind != kind) fail_here("items are added to what is no ", kind == Kind::kDict ? "dict" : "list");
    if (kind == Kind::kDict && items.size() % 2 != 0) fail_here("a key of a dict has no value");
    to.items.insert(to.items.end(), items.begin(), items.end());
  }

  void memoize(std::uint64_t index) { memo_[index] = &top(); }
  void recall(std::uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail_here("the memo has no entry ", index);
    stack_.push_back(found->second);
  }

  const Node& item(const Node& tuple, std::size_t i, Kind kind, std::string_view what) const {
    if (tuple.kind != Kind::kTuple || i >= tuple.items.size() || tuple.items[i]->kind != kind)
      fail_here("a tensor has ", what, " of another kind than torch.save gives it");
    return *tuple.items[i];
  }
  std::uint64_t count(const Node& tuple, std::size_t i, std::string_view what) const {
    const std::int64_t value = item(tuple, i, Kind::kInteger, what).integer;
    if (value < 0) fail_here("a tensor has ", what, " ", value, ", expected 0 or more");
    return static_cast<std::uint64_t>(value);
  }
  std::vector<std::int64_t> counts(const Node& tuple, std::size_t i, std::string_view what) const {
    const Node& list = item(tuple, i, Kind::kTuple, what);
    if (list.items.size() > kMostAxes)
      fail_here("a tensor has ", what, " of ", list.items.size(), " axes, expected at most ", kMostAxes);
    std::vector<std::int64_t> values;
    for (std::size_t k = 0; k < list.items.size(); ++k)
      values.push_back(static_cast<std::int64_t>(count(list, k, what)));
    return values;
  }

  /// ("storage", type, key, device, size)
  void push_storage(const Node& id) {
    const Node& type = item(id, 1, Kind::kGlobal, "a storage type");
    if (item(id, 0, Kind::kText, "a storage").text != "storage" || !is_storage_type(type.text))
      fail_here("what is persistent is no storage");
    PickledTensor storage;
    storage.storage_type = type.text.substr(6);
    storage.storage = item(id, 2, Kind::kText, "a storage key").text;
    if (type.text.size() > kMostName || storage.storage.size() > kMostName)
      fail_here("a storage has a type or key of more than ", kMostName, " bytes");
    storage.storage_size = count(id, 4, "a storage size");
    push(Kind::kStorage).tensor = &tensors_.emplace_back(std::move(storage));
  }

  void reduce() {
    const Node& arguments = *pop();
    const Node& callable = *pop();
    if (callable.kind != Kind::kGlobal || arguments.kind != Kind::kTuple)
      fail_here("it calls what is no function");
    if (callable.text == kOrderedDict) {
      if (!arguments.items.empty()) fail_here("an OrderedDict is made of arguments");
      push(Kind::kDict);
    } else if (callable.text == kTensor) {
      PickledTensor tensor = *item(arguments, 0, Kind::kStorage, "a storage").tensor;
      tensor.offset = count(arguments, 1, "an offset");
      tensor.shape = counts(arguments, 2, "a size");
      tensor.stride = counts(arguments, 3, "a stride");
      push(Kind::kTensor).tensor = &tensors_.emplace_back(std::move(tensor));
    } else if (callable.text == kParameter) {
      push(Kind::kTensor).tensor = item(arguments, 0, Kind::kTensor, "data").tensor;
    } else {
      fail_here("it makes a storage of its own");
    }
  }

  void step_long(std::size_t size) {
    const std::string_view bytes = take(size);
    if (size > 8) fail_here("a number of ", size, " bytes, expected at most 8");
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i)
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << (8 * i);
    if (size > 0 && size < 8 && (static_cast<unsigned char>(bytes.back()) & 0x80) != 0)
      value |= ~std::uint64_t{0} << (8 * size);
    push_integer(static_cast<std::int64_t>(value));
  }

  void step(unsigned op) {
    switch (op) {
      case 0x80: read<std::uint8_t>(); return;   // PROTO
      case 0x95: read<std::uint64_t>(); return;  // FRAME
      case '(': marks_.push_back(stack_.size()); return;
      case '0': pop(); return;
      case 'N':
      case 0x88:                                      // NEWTRUE
      case 0x89: push(Kind::kOther); return;          // NEWFALSE
      case 'G': take(8), push(Kind::kOther); return;  // BINFLOAT
      case 'J': push_integer(read<std::int32_t>()); return;
      case 'K': push_integer(read<std::uint8_t>()); return;
      case 'M': push_integer(read<std::uint16_t>()); return;
      case 0x8a: step_long(read<std::uint8_t>()); return;  // LONG1
      case 'X': push_text(take(read<std::uint32_t>())); return;
      case 0x8c: push_text(take(read<std::uint8_t>())); return;   // SHORT_BINUNICODE
      case 0x8d: push_text(take(read<std::uint64_t>())); return;  // BINUNICODE8
      case ')': push(Kind::kTuple); return;
      case 't': push_tuple(pop_to_mark()); return;
      case 0x85: push_last(1); return;  // TUPLE1, 2, 3
      case 0x86: push_last(2); return;
      case 0x87: push_last(3); return;
      case ']': push(Kind::kList); return;
      case '}': push(Kind::kDict); return;
      case 'a': return extend_by(Kind::kList, {pop()});
      case 'e': return extend_by(Kind::kList, pop_to_mark());
      case 's': {
        Node* const value = pop();
        return extend_by(Kind::kDict, {pop(), value});
      }
      case 'u': return extend_by(Kind::kDict, pop_to_mark());
      case 'q': return memoize(read<std::uint8_t>());
      case 'r': return memoize(read<std::uint32_t>());
      case 0x94: return memoize(memo_.size());  // MEMOIZE
      case 'h': return recall(read<std::uint8_t>());
      case 'j': return recall(read<std::uint32_t>());
      case 'c': {
        const std::string_view module = read_line();
        return push_global(module, read_line());
      }
      case 0x93: {  // STACK_GLOBAL
        const Node &name = *pop(), &module = *pop();
        if (name.kind != Kind::kText || module.kind != Kind::kText) fail_here("a global has no name");
        return push_global(module.text, name.text);
      }
      case 'Q': return push_storage(*pop());  // BINPERSID
      case 'R': return reduce();
      case 'b':
        pop();
        return;  // BUILD: the attributes of a state dict, _metadata, say nothing about its tensors
      default:
        fail<UnsupportedError>(source_, "its pickle has the opcode ", op, " at byte ",
                               size_ - rest_.size() - 1, ", which no dict of tensors needs");
    }
  }
  void extend_by(Kind kind, std::vector<Node*> items) { extend(kind, items); }

  std::string_view rest_;
  std::size_t size_;
  std::string_view source_;
  std::deque<Node> nodes_;
  std::deque<PickledTensor> tensors_;
  std::vector<Node*> stack_;
  std::vector<std::size_t> marks_;
  std::map<std::uint64_t, Node*> memo_;  // no hash of numbers that the file chooses
};

}  // namespace

std::vector<std::pair<std::string, PickledTensor>> read_state_dict(std::string_view pickle,
                                                                   std::string_view source) {
  Machine machine(pickle, source);
  const Node& dict = machine.run();
  if (dict.kind != Kind::kDict) fail<FormatError>(source, "its pickle is no dict of tensors");
  std::vector<std::pair<std::string, PickledTensor>> tensors;
  std::set<std::string_view> names;
  for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
    const Node &name = *dict.items[i], &value = *dict.items[i + 1];
    if (name.kind != Kind::kText) fail<FormatError>(source, "a key of its dict is no text");
    if (name.text.size() > kMostKey)
      fail<FormatError>(source, "a key of its dict has ", name.text.size(), " bytes, expected at most ",
                        kMostKey);
    if (!names.insert(name.text).second)
      fail<FormatError>(source, "its pickle has the key ", quote(name.text), " twice");
    if (value.kind != Kind::kTensor)
      fail<FormatError>(source, "its dict holds ", quote(name.text), ", which is no tensor");
    tensors.emplace_back(name.text, *value.tensor);
  }
  return tensors;
}

}  // namespace gpt
