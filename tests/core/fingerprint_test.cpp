#include "core/fingerprint.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace gpt {
namespace {

std::uint64_t of_bytes(std::string_view bytes) { return Fingerprint().add(bytes).value(); }

TEST(Fingerprint, NoticesEveryChangedBitAndEveryLength) {
  std::set<std::uint64_t> seen;
  std::size_t count = 0;
  for (std::size_t length = 0; length < 40; ++length) {
    std::string bytes(length, '\0');
    seen.insert(of_bytes(bytes));
    ++count;
    for (std::size_t bit = 0; bit < 8 * length; ++bit) {
      std::string changed = bytes;
      changed[bit / 8] = static_cast<char>(1 << bit % 8);
      seen.insert(of_bytes(changed));
      ++count;
    }
  }
  EXPECT_EQ(seen.size(), count);
}

TEST(Fingerprint, DependsOnTheOrderAndOnWhereBytesAreDivided) {
  EXPECT_NE(Fingerprint().add(1).add(2).value(), Fingerprint().add(2).add(1).value());
  EXPECT_NE(Fingerprint().add("ab").add("c").value(), Fingerprint().add("a").add("bc").value());
  EXPECT_NE(Fingerprint().add("").value(), Fingerprint().value());
  EXPECT_NE(Fingerprint().add(0).value(), Fingerprint().add(0).add(0).value());
}

TEST(Fingerprint, OfTheSameValuesIsTheSameWhereverTheyLie) {
  const std::string text = "somewhere over the rainbow";
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const std::string moved = std::string(shift, 'x') + text;
    EXPECT_EQ(of_bytes(std::string_view(moved).substr(shift)), of_bytes(text));
  }
}

}  // namespace
}  // namespace gpt
