#include "text/char_class.h"

#include <gtest/gtest.h>

#include "support/json.h"
#include "text/golden_files.h"

namespace gpt {
namespace {

TEST(CharClass, KnowsWhiteSpaceAsTheUnicodeProperty) {
  const auto& table = CharClassTable::instance();
  for (char32_t c : {0x09u, 0x0Du, 0x20u, 0x85u, 0xA0u, 0x1680u, 0x2000u, 0x200Au, 0x2028u, 0x2029u, 0x202Fu,
                     0x205Fu, 0x3000u})
    EXPECT_EQ(table.of(c), CharClass::kSpace) << static_cast<unsigned>(c);
  for (char32_t c : {0x08u, 0x1Cu, 0x1Fu, 0x200Bu, 0x180Eu, 0xFEFFu})
    EXPECT_EQ(table.of(c), CharClass::kOther) << static_cast<unsigned>(c);
}

TEST(CharClass, KnowsLettersAndNumbersOfAllPlanes) {
  const auto& table = CharClassTable::instance();
  for (char32_t c :
       {U'a', U'Z', U'é', U'ª', U'世', U'ǅ', U'ʰ', char32_t{0x20000}, char32_t{0x1D400}, char32_t{0x10FFu}})
    EXPECT_EQ(table.of(c), CharClass::kLetter) << static_cast<unsigned>(c);
  for (char32_t c : {U'0', U'½', U'Ⅷ', U'①', U'٥', char32_t{0x1D7CE}})
    EXPECT_EQ(table.of(c), CharClass::kNumber) << static_cast<unsigned>(c);
  for (char32_t c :
       {U'_', U'!', U'\u0301', U'😀', char32_t{0}, char32_t{0xE000}, char32_t{0xE0100}, char32_t{0x10FFFF}})
    EXPECT_EQ(table.of(c), CharClass::kOther) << static_cast<unsigned>(c);
}

TEST(CharClass, AgreesWithGoldenRanges) {
  bool found = false;
  for (const auto& folder : test::tokenizer_goldens()) {
    if (!std::filesystem::exists(folder.path / "char_classes.json")) continue;
    found = true;
    const auto golden = test::parse_json(test::read_file(folder.path / "char_classes.json"));
    std::vector<CharClass> expected(0x110000, CharClass::kOther);
    std::vector<bool> skipped(0x110000);
    const auto each = [&](const char* key, auto&& apply) {
      for (const auto& range : golden.at(key))
        for (auto c = range[0].get<std::size_t>(); c <= range[1].get<std::size_t>(); ++c) apply(c);
    };
    each("S", [&](std::size_t c) { expected[c] = CharClass::kSpace; });
    each("L", [&](std::size_t c) { expected[c] = CharClass::kLetter; });
    each("N", [&](std::size_t c) { expected[c] = CharClass::kNumber; });
    each("unassigned", [&](std::size_t c) { skipped[c] = true; });
    for (std::size_t c = 0; c < expected.size(); ++c) {
      if (skipped[c]) continue;
      ASSERT_EQ(CharClassTable::instance().of(static_cast<char32_t>(c)), expected[c]) << c;
    }
  }
  if (!found) GTEST_SKIP() << "no char_classes.json in GPT_GOLDENS";
}

TEST(CharClass, WordCharactersAreThoseOfRegularExpressions) {
  for (char32_t c : {U'a', U'Z', U'7', U'_', U'é', U'世', U'\u0301', U'Ⅷ', U'Ⓐ', U'\u200d', U'٥'})
    EXPECT_TRUE(is_word_char(c)) << static_cast<unsigned>(c);
  for (char32_t c : {U' ', U'-', U'!', U'½', U'①', U'😀', U'\u200b', U'\n'})
    EXPECT_FALSE(is_word_char(c)) << static_cast<unsigned>(c);
}

}  // namespace
}  // namespace gpt
