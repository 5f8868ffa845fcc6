#include "gpt/train/augmentation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/rng.h"
#include "gpt/text/utf8.h"
#include "text/char_class.h"

namespace gpt {
namespace {

constexpr std::string_view kAugmentation = "augmentation";
constexpr std::string_view kThesaurus = "thesaurus";

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

bool is_capital(char c) noexcept { return c >= 'A' && c <= 'Z'; }

std::string in_small_letters(std::string_view word) {
  std::string small(word);
  for (char& c : small)
    if (is_capital(c)) c = static_cast<char>(c - 'A' + 'a');
  return small;
}

/// Of scripts that put no blanks between words.
bool is_unspaced(char32_t c) noexcept {
  constexpr std::pair<char32_t, char32_t> kRanges[] = {{0x3040, 0x30FF}, {0x31F0, 0x31FF},
                                                       {0x3400, 0x4DBF}, {0x4E00, 0x9FFF},
                                                       {0xF900, 0xFAFF}, {0x20000, 0x3FFFF}};
  return std::ranges::any_of(kRanges,
                             [c](const auto& range) { return c >= range.first && c <= range.second; });
}

/// A text as its words, and what stands before each, and behind the last.
struct Words {
  struct Word {
    std::string before, text;
    bool unspaced = false;
  };
  std::vector<Word> words;
  std::string end;

  std::string joined() const {
    std::string text;
    for (const Word& word : words) text += word.before + word.text;
    return text + end;
  }
};

/// How many bytes a word takes that the text begins with; 0: it begins with none.
std::size_t word_at(std::string_view text, const Thesaurus& thesaurus, bool& unspaced) {
  const Utf8Prefix first = read_utf8(text);
  unspaced = false;
  if (first.kind != Utf8Prefix::Kind::kCharacter) return 0;
  if (is_unspaced(first.code_point)) {
    unspaced = true;
    return std::max<std::size_t>(first.length, thesaurus.longest_prefix(text).size());
  }
  std::size_t end = 0, at = 0;  // end: of what is part of the word for sure
  while (at < text.size()) {
    const Utf8Prefix c = read_utf8(text.substr(at));
    if (c.kind != Utf8Prefix::Kind::kCharacter || is_unspaced(c.code_point)) break;
    const bool joins = c.code_point == '\'' || c.code_point == '-' || c.code_point == 0x2019;
    if (joins && (at == 0 || at != end)) break;
    if (!joins && !is_word_char(c.code_point)) break;
    at += c.length;
    if (!joins) end = at;
  }
  return end;
}

Words words_of(std::string_view text, const Thesaurus& thesaurus) {
  Words all;
  std::string before;
  while (!text.empty()) {
    bool unspaced = false;
    const std::size_t length = word_at(text, thesaurus, unspaced);
    if (length > 0) {
      all.words.push_back({std::exchange(before, {}), std::string(text.substr(0, length)), unspaced});
      text.remove_prefix(length);
    } else {
      const std::size_t other = read_utf8(text).length;
      before += text.substr(0, other);
      text.remove_prefix(other);
    }
  }
  all.end = std::move(before);
  return all;
}

/// Random numbers, one after another.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : rng_(seed) {}
  /// 0 to n - 1.
  std::size_t below(std::size_t n) {
    return std::min(n - 1, static_cast<std::size_t>(unit() * static_cast<double>(n)));
  }
  double unit() { return rng_.uniform(next_++); }

 private:
  CounterRng rng_;
  std::uint64_t next_ = 0;
};

std::size_t part_of(double alpha, std::size_t words) {
  return std::max<std::size_t>(1, static_cast<std::size_t>(alpha * static_cast<double>(words)));
}

/// The numbers of words that have synonyms.
std::vector<std::size_t> replaceable(const Words& text, const Thesaurus& thesaurus) {
  std::vector<std::size_t> numbers;
  for (std::size_t i = 0; i < text.words.size(); ++i)
    if (!thesaurus.synonyms(text.words[i].text).empty()) numbers.push_back(i);
  return numbers;
}

/// One of the synonyms of a word that has some.
const std::string& synonym_of(const std::string& word, const Thesaurus& thesaurus, Draws& draws) {
  const std::span<const std::string> others = thesaurus.synonyms(word);
  return others[draws.below(others.size())];
}

void replace_words(Words& text, std::size_t count, const Thesaurus& thesaurus, Draws& draws) {
  std::vector<std::size_t> left = replaceable(text, thesaurus);
  for (; count > 0 && !left.empty(); --count) {
    const std::size_t drawn = draws.below(left.size());
    std::string& word = text.words[left[drawn]].text;
    const bool begins_with_capital = is_capital(word.front());
    word = synonym_of(word, thesaurus, draws);
    if (begins_with_capital && word.front() >= 'a' && word.front() <= 'z')
      word.front() = static_cast<char>(word.front() - 'a' + 'A');
    left.erase(left.begin() + static_cast<std::ptrdiff_t>(drawn));
  }
}

void insert_words(Words& text, std::size_t count, const Thesaurus& thesaurus, Draws& draws) {
  const std::vector<std::size_t> of = replaceable(text, thesaurus);
  std::vector<Words::Word> more;
  for (std::size_t i = 0; i < count; ++i) {
    const Words::Word& word = text.words[of[draws.below(of.size())]];
    more.push_back({word.unspaced ? "" : " ", synonym_of(word.text, thesaurus, draws), word.unspaced});
  }
  for (Words::Word& word : more)  // behind another word, so that the text begins as it did
    text.words.insert(text.words.begin() + 1 + static_cast<std::ptrdiff_t>(draws.below(text.words.size())),
                      std::move(word));
}

void swap_words(Words& text, std::size_t count, Draws& draws) {
  for (; count > 0; --count) {
    const std::size_t a = draws.below(text.words.size()), b = draws.below(text.words.size() - 1);
    std::swap(text.words[a].text, text.words[b < a ? b : b + 1].text);
  }
}

void delete_words(Words& text, double probability, Draws& draws) {
  const std::size_t survivor = draws.below(text.words.size());
  Words left;
  std::string before;
  bool after_gap = false;
  for (std::size_t i = 0; i < text.words.size(); ++i) {
    const bool goes = draws.unit() < probability && i != survivor;
    // Of the blanks around a word that is gone one is enough, and none at the beginning.
    std::string& own = text.words[i].before;
    if (after_gap && own.starts_with(' ') && (before.empty() || before.back() == ' ')) own.erase(0, 1);
    before += own;
    after_gap = goes;
    if (goes) continue;
    left.words.push_back({std::exchange(before, {}), std::move(text.words[i].text), text.words[i].unspaced});
  }
  if (!before.empty() && before.back() == ' ') before.pop_back();
  left.end = before + text.end;
  text = std::move(left);
}

}  // namespace

Thesaurus Thesaurus::from_file(const std::filesystem::path& path) {
  return with_memory_errors(kThesaurus, [&] {
    const std::string content = read_text_file(path);
    std::string_view text = content;
    Thesaurus thesaurus;
    for (std::int64_t number = 1; !text.empty(); ++number) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      const std::string_view line = without_blanks(text.substr(0, end));
      text.remove_prefix(std::min(text.size(), end + 1));
      if (line.empty() || line.starts_with('#')) continue;
      if (!is_valid_utf8(line)) fail<FormatError>(path.string(), "line ", number, " is not UTF-8");
      const char delimiter = line.find('\t') != std::string_view::npos ? '\t' : ',';
      std::vector<std::string> fields;
      for (std::string_view rest = line;;) {
        const std::size_t at = rest.find(delimiter);
        if (const std::string_view field = without_blanks(rest.substr(0, at)); !field.empty())
          fields.emplace_back(field);
        if (at == std::string_view::npos) break;
        rest.remove_prefix(at + 1);
      }
      if (fields.size() < 2)
        fail<FormatError>(path.string(), "line ", number, " has ", fields.size(),
                          " words, expected one and what may stand for it, with tabs or commas between them");
      thesaurus.add(fields.front(), std::span<const std::string>(fields).subspan(1));
    }
    if (thesaurus.size() == 0) fail<FormatError>(path.string(), "has no words");
    return thesaurus;
  });
}

void Thesaurus::add(std::string word, std::span<const std::string> synonyms) {
  if (word.empty() || std::ranges::any_of(synonyms, [](const std::string& s) { return s.empty(); }))
    fail<ArgumentError>(kThesaurus, "an empty word, or one that an empty text may stand for");
  with_memory_errors(kThesaurus, [&] {
    longest_ = std::max(longest_, word.size());
    std::vector<std::string>& all = words_[std::move(word)];
    all.insert(all.end(), synonyms.begin(), synonyms.end());
  });
}

std::span<const std::string> Thesaurus::synonyms(std::string_view word) const {
  return with_memory_errors(kThesaurus, [&]() -> std::span<const std::string> {
    auto found = words_.find(word);
    if (found == words_.end() && std::ranges::any_of(word, is_capital))
      found = words_.find(in_small_letters(word));
    if (found == words_.end()) return {};
    return found->second;
  });
}

std::string_view Thesaurus::longest_prefix(std::string_view text) const noexcept {
  for (std::size_t length = std::min(longest_, text.size()); length > 0; --length)
    if (words_.contains(text.substr(0, length))) return text.substr(0, length);
  return {};
}

EdaAugmenter::EdaAugmenter(Thesaurus thesaurus, const EdaOptions& options)
    : thesaurus_(std::move(thesaurus)), options_(options) {
  bool any = false;
  for (const auto& [name, value] : {std::pair("alpha_sr", options.alpha_sr),
                                    {"alpha_ri", options.alpha_ri},
                                    {"alpha_rs", options.alpha_rs},
                                    {"p_rd", options.p_rd}}) {
    if (!(value >= 0 && value <= 1))
      fail<ArgumentError>(kAugmentation, name, " is ", value, ", expected 0 to 1");
    any = any || value > 0;
  }
  if (!any) fail<ArgumentError>(kAugmentation, "alpha_sr, alpha_ri, alpha_rs and p_rd are all 0");
}

std::string EdaAugmenter::operator()(std::string_view text, std::uint64_t seed) const {
  const DefaultFloatEnvironment environment;
  return with_memory_errors(kAugmentation, [&] {
    Words words = words_of(text, thesaurus_);
    const std::size_t n = words.words.size();
    const bool has_synonyms = !replaceable(words, thesaurus_).empty();
    enum class Operation : std::uint8_t { kReplace, kInsert, kSwap, kDelete };
    std::vector<Operation> possible;
    if (options_.alpha_sr > 0 && has_synonyms) possible.push_back(Operation::kReplace);
    if (options_.alpha_ri > 0 && has_synonyms) possible.push_back(Operation::kInsert);
    if (options_.alpha_rs > 0 && n > 1) possible.push_back(Operation::kSwap);
    if (options_.p_rd > 0 && n > 1) possible.push_back(Operation::kDelete);
    if (possible.empty()) return std::string(text);
    Draws draws(seed);
    switch (possible[draws.below(possible.size())]) {
      case Operation::kReplace: replace_words(words, part_of(options_.alpha_sr, n), thesaurus_, draws); break;
      case Operation::kInsert: insert_words(words, part_of(options_.alpha_ri, n), thesaurus_, draws); break;
      case Operation::kSwap: swap_words(words, part_of(options_.alpha_rs, n), draws); break;
      case Operation::kDelete: delete_words(words, options_.p_rd, draws); break;
    }
    return words.joined();
  });
}

std::vector<LabelledRow> augmented(std::span<const LabelledRow> rows, const TextAugmenter& augmenter,
                                   std::int64_t copies, std::uint64_t seed, const std::stop_token& stop) {
  if (copies < 0 || copies > kMostCopies)
    fail<ArgumentError>(kAugmentation, "copies is ", copies, ", expected 0 to ", kMostCopies);
  return with_memory_errors(kAugmentation, [&] {
    std::vector<LabelledRow> all(rows.begin(), rows.end());
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (std::int64_t copy = 0; copy < copies; ++copy) {
        if (stop.stop_requested()) fail<CancelledError>(kAugmentation, "augmentation was stopped");
        const CounterRng rng(seed, static_cast<std::uint64_t>(copy));
        std::string text = augmenter(rows[i].text, rng.bits(i));
        if (text != rows[i].text) all.push_back({std::move(text), rows[i].labels, rows[i].line});
      }
    return all;
  });
}

}  // namespace gpt
