#include "gpt/text/byte_bpe.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <thread>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "text/pretokenizer.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::expect_error;
using test::small_bpe_model;

// The pieces that the pattern makes of a text, with "|" between them: every substring is a token here, so
// that each piece becomes one.
std::string pieces(std::string_view text) {
  ByteBpeModel model = small_bpe_model();
  std::set<std::string> known;
  for (std::size_t begin = 0; begin < text.size(); ++begin) {
    for (std::size_t length = 2; begin + length <= text.size(); ++length) {
      const std::string token = spell_bytes(text.substr(begin, length));
      if (known.insert(token).second)
        model.vocab.emplace_back(token, static_cast<TokenId>(model.vocab.size()));
    }
  }
  model.ignore_merges = true;
  const ByteBpe tokenizer(std::move(model));
  std::string out;
  for (const TokenId id : tokenizer.encode(text)) {
    if (!out.empty()) out += "|";
    out += tokenizer.bytes_of(id);
  }
  return out;
}

TEST(ByteBpe, MergesTheLowestRankFirstAndThenTheLeftmost) {
  const ByteBpe tokenizer(small_bpe_model({{"b", "c"}, {"a", "b"}, {"a", "a"}}));
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{'a', 256}));  // bc before ab
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{258, 'a'}));  // the left aa
  EXPECT_EQ(tokenizer.encode("aaaa"), (Ids{258, 258}));
  EXPECT_EQ(tokenizer.encode("abab"), (Ids{257, 257}));
  EXPECT_EQ(tokenizer.encode_piece("a b"), (Ids{'a', ' ', 'b'}));
}

TEST(ByteBpe, MergeThatAppearsLateMayHaveALowerRank) {
  // ab forms by rank 1, and only then abc (rank 0) can: it goes before the second ab.
  ByteBpeModel model = small_bpe_model({{"a", "b"}});
  model.vocab.emplace_back("abc", 257);
  model.merges.insert(model.merges.begin(), {"ab", "c"});
  EXPECT_EQ(ByteBpe(std::move(model)).encode("abcab"), (Ids{257, 256}));
}

TEST(ByteBpe, LongPiecesMergeAsShortOnes) {
  const ByteBpe tokenizer(
      small_bpe_model({{"a", "b"}, {"b", "a"}, {"ab", "ab"}, {"abab", "a"}, {"a", "a"}, {"ba", "b"}}));
  // Definition: search everything for the lowest rank each time.
  const ByteBpeModel model = tokenizer.model();
  const auto reference = [&](const std::string& piece) {
    std::vector<std::string> symbols;
    for (const char c : piece) symbols.emplace_back(1, c);
    for (;;) {
      std::size_t best = model.merges.size(), at = 0;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
        for (std::size_t rank = 0; rank < best; ++rank)
          if (model.merges[rank] == std::pair(symbols[i], symbols[i + 1])) best = rank, at = i;
      if (best == model.merges.size()) break;
      symbols[at] += symbols[at + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    Ids ids;
    for (const std::string& symbol : symbols) ids.push_back(*tokenizer.id_of(symbol));
    return ids;
  };
  std::uint32_t state = 7;
  for (std::size_t length = 1; length < 200; length += 3) {
    std::string piece;
    for (std::size_t i = 0; i < length; ++i) {
      state = state * 1664525u + 1013904223u;
      piece += (state >> 24) % 3 == 0 ? 'a' : 'b';
    }
    EXPECT_EQ(tokenizer.encode_piece(piece), reference(piece)) << piece;
  }
}

TEST(ByteBpe, TakesAMillionLettersInOnePiece) {
  const ByteBpe tokenizer(small_bpe_model({{"a", "a"}, {"aa", "aa"}}));
  EXPECT_EQ(tokenizer.encode(std::string(1 << 20, 'a')), Ids((1 << 20) / 4, 257));
}

TEST(ByteBpe, SplitsTextByThePattern) {
  EXPECT_EQ(pieces("Hello world"), "Hello| world");
  EXPECT_EQ(pieces("it's they'll I'LL"), "it|'s| they|'ll| I|'|LL");
  EXPECT_EQ(pieces("'sabc ''s 's"), "'s|abc| ''|s| '|s");
  EXPECT_EQ(pieces("ab12 34"), "ab|12| 34");
  EXPECT_EQ(pieces("a  b"), "a| | b");
  EXPECT_EQ(pieces("a\n\nb"), "a|\n|\n|b");
  EXPECT_EQ(pieces("a \n "), "a| \n ");
  EXPECT_EQ(pieces("x!? y"), "x|!?| y");
  EXPECT_EQ(pieces("a\u00A0b"), "a|\u00A0|b");  // white space, but not the space that joins a word
  EXPECT_EQ(pieces("a\u200Bb"), "a|\u200B|b");
  EXPECT_EQ(pieces("é1½"), "é|1½");
}

TEST(ByteBpe, KeepsInvalidUtf8BytesLossless) {
  const ByteBpe tokenizer(small_bpe_model({{"a", "b"}}));
  std::string all(256, '\0');
  std::iota(all.begin(), all.end(), '\0');
  for (const std::string& text :
       {all, std::string("ab\xFF\xFE"), std::string("\xF0\x9F ab\xED\xA0\x80"), std::string("\0\0", 2)})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_EQ(pieces("a\xFF\xC3 \x80"), "a|\xFF\xC3| \x80");
}

TEST(ByteBpe, AddsThePrefixSpaceToEveryStretch) {
  ByteBpeModel model = small_bpe_model({{" ", "a"}});
  model.added_tokens.push_back({.content = "<x>"});  // 257
  model.add_prefix_space = true;
  const ByteBpe tokenizer(std::move(model));
  EXPECT_EQ(tokenizer.encode("a"), (Ids{256}));
  EXPECT_EQ(tokenizer.encode(" a"), (Ids{256}));
  EXPECT_EQ(tokenizer.encode("a<x>a"), (Ids{256, 257, 256}));
  EXPECT_EQ(tokenizer.encode("\na"), (Ids{' ', '\n', 'a'}));
  EXPECT_EQ(tokenizer.encode(""), Ids{});
}

TEST(ByteBpe, WithoutRegexAStretchIsOnePiece) {
  ByteBpeModel model = small_bpe_model({{"a", " "}, {"a ", "b"}});
  model.use_regex = false;
  EXPECT_EQ(ByteBpe(std::move(model)).encode("a b"), (Ids{257}));
}

TEST(ByteBpe, IgnoreMergesTakesWholeTokensFirst) {
  ByteBpeModel model = small_bpe_model({{"b", "c"}});
  model.vocab.emplace_back("abc", 257);  // no merge leads to it
  EXPECT_EQ(ByteBpe(model).encode("abc abc"), (Ids{'a', 256, ' ', 'a', 256}));
  model.ignore_merges = true;
  EXPECT_EQ(ByteBpe(model).encode("abc abc"), (Ids{257, ' ', 'a', 256}));
}

TEST(ByteBpe, PutsTemplateTokensAroundTheText) {
  ByteBpeModel model = small_bpe_model();
  model.added_tokens = {{.content = "<s>"}, {.content = "</s>"}};
  model.prefix_tokens = {"<s>"};
  model.suffix_tokens = {"</s>", "</s>"};
  const ByteBpe tokenizer(std::move(model));
  EXPECT_EQ(tokenizer.encode("a"), (Ids{256, 'a', 257, 257}));
  EXPECT_EQ(tokenizer.encode(""), (Ids{256, 257, 257}));
  EXPECT_EQ(tokenizer.encode("a", {.add_special_tokens = false}), (Ids{'a'}));
}

TEST(ByteBpe, NamesAByteThatTheVocabularyLacks) {
  ByteBpeModel model = small_bpe_model();
  model.vocab.erase(model.vocab.begin() + 'q');
  const ByteBpe tokenizer(model);
  EXPECT_EQ(tokenizer.encode("p"), (Ids{'p'}));
  expect_error<ArgumentError>([&] { tokenizer.encode("pq"); }, {"encode", "byte 113", "unk_token"});
  model.unk_symbol = "u";
  EXPECT_EQ(ByteBpe(model).encode("pqq"), (Ids{'p', 'u', 'u'}));
  model.unk_symbol = "nothing";
  expect_error<FormatError>([&] { ByteBpe{model}; }, {"vocab", "unk_token", "nothing"});
}

TEST(ByteBpe, KnowsItsTokens) {
  ByteBpeModel model = small_bpe_model({{" ", "a"}});
  model.added_tokens.push_back({.content = "<x>", .id = 300});
  model.eos_token = "<x>";
  const ByteBpe tokenizer(std::move(model));
  EXPECT_EQ(tokenizer.vocab_size(), 301);
  EXPECT_EQ(tokenizer.bytes_of(256), " a");
  EXPECT_EQ(tokenizer.token_of(256), "Ġa");
  EXPECT_EQ(tokenizer.id_of("Ġa"), 256);
  EXPECT_EQ(tokenizer.id_of(" a"), std::nullopt);
  EXPECT_EQ(tokenizer.id_of("<x>"), 300);
  EXPECT_TRUE(tokenizer.is_special(300));
  EXPECT_FALSE(tokenizer.is_special(256));
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.is_special(270));
  EXPECT_EQ(tokenizer.eos_token_id(), 300);
  EXPECT_EQ(tokenizer.bos_token_id(), std::nullopt);
  EXPECT_EQ(tokenizer.decode(Ids{'x', 300, 256}), "x<x> a");
  EXPECT_EQ(tokenizer.decode(Ids{'x', 300, 256}, {.skip_special_tokens = true}), "x a");
}

TEST(ByteBpe, RefusesIdsOutsideTheVocabulary) {
  ByteBpeModel model = small_bpe_model();
  model.vocab.emplace_back("zz", 300);
  const ByteBpe tokenizer(std::move(model));
  expect_error<ArgumentError>([&] { tokenizer.decode(Ids{1, -1}); }, {"decode", "-1", "0 to 300"});
  expect_error<ArgumentError>([&] { tokenizer.bytes_of(301); }, {"decode", "301", "0 to 300"});
  expect_error<ArgumentError>([&] { tokenizer.token_of(299); }, {"token_of", "299", "no token"});
  expect_error<ArgumentError>([&] { tokenizer.decode(Ids{299}, {.skip_special_tokens = true}); }, {"299"});
}

TEST(ByteBpe, RefusesAContradictoryVocabulary) {
  const auto with = [](auto change) {
    ByteBpeModel model = small_bpe_model({{"a", "b"}});
    change(model);
    return [model] { ByteBpe{model}; };
  };
  expect_error<FormatError>(with([](auto& m) { m.vocab.emplace_back("ab", 300); }),
                            {"vocab", "\"ab\"", "twice"});
  expect_error<FormatError>(with([](auto& m) { m.vocab.emplace_back("zz", 256); }),
                            {"\"ab\"", "\"zz\"", "same id 256"});
  expect_error<FormatError>(with([](auto& m) { m.vocab.emplace_back("zz", -1); }), {"\"zz\"", "-1"});
  expect_error<FormatError>(with([](auto& m) { m.vocab.emplace_back("zz", 2147483647); }),
                            {"\"zz\"", "2147483647"});
  expect_error<FormatError>(with([](auto& m) { m.vocab.emplace_back("\xFF", 300); }), {"UTF-8"});
  expect_error<FormatError>(with([](auto& m) { m.merges.emplace_back("ab", "zz"); }),
                            {"merges", "merge 2", "\"ab\"", "\"zz\"", "not in vocab"});
  expect_error<FormatError>(with([](auto& m) { m.merges.emplace_back("a", "c"); }), {"merge 2", "\"ac\""});
  expect_error<FormatError>(with([](auto& m) { m.added_tokens.push_back({.content = "<x>", .id = 5}); }),
                            {"\"<x>\"", "id 5"});
  expect_error<FormatError>(with([](auto& m) { m.added_tokens.push_back({.content = "ab", .id = 5}); }),
                            {"\"ab\"", "5", "256"});
  expect_error<FormatError>(with([](auto& m) { m.added_tokens.push_back({.content = "<x>", .id = -4}); }),
                            {"-4"});
  expect_error<FormatError>(with([](auto& m) { m.added_tokens.push_back({.content = ""}); }), {"empty"});
  expect_error<FormatError>(
      with([](auto& m) { m.added_tokens.push_back({.content = std::string(2000, 'x')}); }), {"2000 bytes"});
  expect_error<FormatError>(with([](auto& m) { m.eos_token = "<none>"; }), {"eos_token", "<none>"});
  expect_error<FormatError>(with([](auto& m) { m.prefix_tokens = {"<none>"}; }), {"prefix_tokens", "<none>"});
}

TEST(ByteBpe, FingerprintChangesWithAllThatTokensDependOn) {
  const auto with = [](auto change) {
    ByteBpeModel model = small_bpe_model({{"a", "b"}, {"b", "c"}});
    model.added_tokens = {{.content = "<x>"}, {.content = "<y>"}};
    change(model);
    return ByteBpe(std::move(model)).fingerprint();
  };
  const auto same = [](ByteBpeModel&) {};
  EXPECT_EQ(with(same), with(same));
  EXPECT_EQ(with([](auto& m) { m.merges_source = "elsewhere", m.files.emplace_back("f", ""); }), with(same));
  std::set<std::uint64_t> seen = {with(same),
                                  with([](auto& m) { std::swap(m.vocab['x'].second, m.vocab['y'].second); }),
                                  with([](auto& m) { m.vocab.emplace_back("zz", 400); }),
                                  with([](auto& m) { std::swap(m.merges[0], m.merges[1]); }),
                                  with([](auto& m) { m.merges.pop_back(); }),
                                  with([](auto& m) { m.added_tokens.pop_back(); }),
                                  with([](auto& m) { m.added_tokens[0].id = 300; }),
                                  with([](auto& m) { m.added_tokens[0].special = false; }),
                                  with([](auto& m) { m.added_tokens[0].lstrip = true; }),
                                  with([](auto& m) { m.added_tokens[0].rstrip = true; }),
                                  with([](auto& m) { m.added_tokens[0].single_word = true; }),
                                  with([](auto& m) { m.added_tokens[0].normalized = true; }),
                                  with([](auto& m) { m.unk_symbol = "u"; }),
                                  with([](auto& m) { m.add_prefix_space = true; }),
                                  with([](auto& m) { m.use_regex = false; }),
                                  with([](auto& m) { m.ignore_merges = true; }),
                                  with([](auto& m) { m.prefix_tokens = {"<x>"}; }),
                                  with([](auto& m) { m.suffix_tokens = {"<x>"}; })};
  EXPECT_EQ(seen.size(), 18u);
}

TEST(ByteBpe, TakesAnEmptyModelForWhatItIs) {
  const ByteBpe tokenizer{ByteBpeModel{}};
  EXPECT_EQ(tokenizer.vocab_size(), 0);
  EXPECT_EQ(tokenizer.encode(""), Ids{});
  expect_error<ArgumentError>([&] { tokenizer.encode("a"); }, {"byte 97"});
  expect_error<ArgumentError>([&] { tokenizer.decode(Ids{0}); }, {"0"});
}

TEST(ByteBpe, OfEqualMergesTheLastCounts) {
  ByteBpeModel model = small_bpe_model({{"a", "b"}, {"b", "c"}});
  model.merges.emplace_back("a", "b");
  EXPECT_EQ(ByteBpe(std::move(model)).encode("abc"), (Ids{'a', 257}));
}

TEST(ByteBpe, IsSharedBetweenThreads) {
  const ByteBpe tokenizer(small_bpe_model({{"a", "b"}, {"ab", "c"}}));
  const std::string text = "abc ab é 世 \xFF abcabc";
  const Ids expected = tokenizer.encode(text);
  std::vector<Ids> results(4);
  {
    std::vector<std::thread> threads;
    for (Ids& result : results)
      threads.emplace_back([&] {
        for (int i = 0; i < 200; ++i) result = tokenizer.encode(text);
      });
    for (std::thread& thread : threads) thread.join();
  }
  for (const Ids& result : results) EXPECT_EQ(result, expected);
}

// Long texts take a way of their own: pieces that were merged before are looked up.
TEST(ByteBpe, EncodesALongTextAsItsPieces) {
  std::string text;
  std::uint32_t state = 1;
  while (text.size() < 200000) {
    text += ' ';
    state = state * 1664525u + 1013904223u;
    for (std::uint32_t n = 0; n < 1 + (state >> 29); ++n)
      text += static_cast<char>('a' + (state >> (8 + 2 * n)) % 3);
  }
  for (const bool add_prefix_space : {false, true}) {
    ByteBpeModel model =
        test::small_bpe_model({{"a", "b"}, {"b", "c"}, {"ab", "c"}, {" ", "a"}, {"bc", "a"}});
    model.add_prefix_space = add_prefix_space;
    model.added_tokens = {{.content = "<end>"}};
    const ByteBpe tokenizer(std::move(model));
    for (const std::string& whole : {text, text.substr(1) + "<end>" + text.substr(1)}) {
      Ids expected;
      for (std::string_view rest = whole; !rest.empty();) {
        if (rest.starts_with("<end>")) {
          expected.push_back(*tokenizer.id_of("<end>"));
          rest.remove_prefix(5);
          continue;
        }
        const bool begins = rest.data() == whole.data() || expected.back() == *tokenizer.id_of("<end>");
        const std::size_t length = next_piece_length(rest);
        const std::string piece =
            (begins && add_prefix_space && rest[0] != ' ' ? " " : "") + std::string(rest.substr(0, length));
        const Ids ids = tokenizer.encode_piece(piece);
        expected.insert(expected.end(), ids.begin(), ids.end());
        rest.remove_prefix(length);
      }
      EXPECT_EQ(tokenizer.encode(whole), expected);
    }
  }
}

}  // namespace
}  // namespace gpt
