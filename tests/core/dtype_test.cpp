#include "gpt/core/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace gpt {
namespace {

// The value of a small float by the definition of the format, in arithmetic that is exact here.
float value_by_definition(std::uint32_t bits, int exponent_bits, int fraction_bits) {
  const bool negative = (bits >> (exponent_bits + fraction_bits)) & 1u;
  const auto exponent = static_cast<int>((bits >> fraction_bits) & ((1u << exponent_bits) - 1));
  const auto fraction = static_cast<double>(bits & ((1u << fraction_bits) - 1));
  const int bias = (1 << (exponent_bits - 1)) - 1;
  double value = 0;
  if (exponent == (1 << exponent_bits) - 1) {
    value = fraction == 0 ? HUGE_VAL : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(fraction, 1 - bias - fraction_bits);
  } else {
    value = std::ldexp(fraction + std::ldexp(1.0, fraction_bits), exponent - bias - fraction_bits);
  }
  return static_cast<float>(negative ? -value : value);
}

template <class T>
struct Format;
template <>
struct Format<Float16> {
  static constexpr int kExponentBits = 5, kFractionBits = 10;
};
template <>
struct Format<BFloat16> {
  static constexpr int kExponentBits = 8, kFractionBits = 7;
};

template <class T>
T from_bits(std::uint32_t bits) {
  T t;
  t.bits = static_cast<std::uint16_t>(bits);
  return t;
}

template <class T>
double magnitude_of(std::uint32_t bits) {  // infinity continues the scale: it stands where 2^(max + 1) would
  constexpr std::uint32_t infinity = ((1u << Format<T>::kExponentBits) - 1) << Format<T>::kFractionBits;
  if (bits == infinity) return std::ldexp(1.0, 1 << (Format<T>::kExponentBits - 1));
  return static_cast<double>(value_by_definition(bits, Format<T>::kExponentBits, Format<T>::kFractionBits));
}

// Nearest, ties to even, by bisecting all values of the format.
template <class T>
std::uint32_t rounded_by_definition(float x) {
  const std::uint32_t sign = std::signbit(x) ? 0x8000u : 0u;
  const double magnitude = std::fabs(static_cast<double>(x));
  std::uint32_t low = 0, high = ((1u << Format<T>::kExponentBits) - 1) << Format<T>::kFractionBits;
  if (magnitude >= magnitude_of<T>(high)) return sign | high;
  while (high - low > 1) {
    const std::uint32_t middle = (low + high) / 2;
    (magnitude_of<T>(middle) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - magnitude_of<T>(low), above = magnitude_of<T>(high) - magnitude;
  return sign | (below < above || (below == above && low % 2 == 0) ? low : high);
}

template <class T>
class SmallFloat : public testing::Test {};
using SmallFloats = testing::Types<Float16, BFloat16>;
TYPED_TEST_SUITE(SmallFloat, SmallFloats);

TYPED_TEST(SmallFloat, EveryPatternWidensExactlyAndComesBack) {
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float expected =
        value_by_definition(bits, Format<TypeParam>::kExponentBits, Format<TypeParam>::kFractionBits);
    const auto widened = static_cast<float>(from_bits<TypeParam>(bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(widened)) << bits;
      ASSERT_TRUE(std::isnan(static_cast<float>(TypeParam(widened)))) << bits;
      ASSERT_EQ(TypeParam(widened).bits & 0x8000u, bits & 0x8000u) << bits;
    } else {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(widened), std::bit_cast<std::uint32_t>(expected)) << bits;
      ASSERT_EQ(TypeParam(widened).bits, bits);
    }
  }
}

TYPED_TEST(SmallFloat, RoundsToNearestEvenAroundEveryValueAndEveryTie) {
  for (std::uint32_t bits = 0; bits < 0x7fffu; ++bits) {
    const double here = magnitude_of<TypeParam>(bits), next = magnitude_of<TypeParam>(bits + 1);
    if (std::isnan(here) || std::isnan(next)) break;
    const auto tie = static_cast<float>((here + next) / 2);  // exact, save beyond the largest bfloat16
    for (const float center : {static_cast<float>(here), tie}) {
      for (const float x : {std::nextafter(center, 0.0f), center,
                            std::nextafter(center, std::numeric_limits<float>::infinity())}) {
        ASSERT_EQ(TypeParam(x).bits, rounded_by_definition<TypeParam>(x)) << x;
        ASSERT_EQ(TypeParam(-x).bits, rounded_by_definition<TypeParam>(-x)) << -x;
      }
    }
  }
}

TYPED_TEST(SmallFloat, RoundsRandomFloatsToNearestEven) {
  std::mt19937 random(1);
  for (int i = 0; i < 100'000; ++i) {
    const auto x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isnan(x)) continue;
    ASSERT_EQ(TypeParam(x).bits, rounded_by_definition<TypeParam>(x)) << x;
  }
}

TYPED_TEST(SmallFloat, EveryKindOfNaNStaysOne) {
  for (const std::uint32_t bits :
       {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu, 0x7f80ffffu})
    EXPECT_TRUE(std::isnan(static_cast<float>(TypeParam(std::bit_cast<float>(bits))))) << bits;
}

constexpr DType kAll[] = {DType::f32, DType::f16, DType::bf16,   DType::f64, DType::i8,
                          DType::i16, DType::i32, DType::i64,    DType::u8,  DType::u16,
                          DType::u32, DType::u64, DType::boolean};

TEST(DType, NamesComeBack) {
  for (const DType dtype : kAll) EXPECT_EQ(dtype_from_name(name_of(dtype)), dtype) << name_of(dtype);
  EXPECT_EQ(dtype_from_name("bf16"), DType::bf16);
  EXPECT_EQ(dtype_from_name("f16"), DType::f16);
  EXPECT_EQ(dtype_from_name("f32"), DType::f32);
  for (const char* unknown : {"", "float", "FLOAT32", "float32 ", "torch.float32"})
    EXPECT_EQ(dtype_from_name(unknown), std::nullopt) << unknown;
}

TEST(DType, SizesAreThoseOfTheElementTypes) {
  EXPECT_EQ(size_of(dtype_of<float>), sizeof(float));
  EXPECT_EQ(size_of(dtype_of<Float16>), sizeof(Float16));
  EXPECT_EQ(size_of(dtype_of<BFloat16>), sizeof(BFloat16));
  EXPECT_EQ(size_of(dtype_of<double>), sizeof(double));
  EXPECT_EQ(size_of(dtype_of<std::int8_t>), 1u);
  EXPECT_EQ(size_of(dtype_of<std::uint16_t>), 2u);
  EXPECT_EQ(size_of(dtype_of<std::int32_t>), 4u);
  EXPECT_EQ(size_of(dtype_of<std::uint64_t>), 8u);
  EXPECT_EQ(size_of(dtype_of<bool>), sizeof(bool));
}

TEST(DType, OnlyTheFloatsUpTo32BitsAreForWeights) {
  int count = 0;
  for (const DType dtype : kAll) count += is_weight_dtype(dtype);
  EXPECT_EQ(count, 3);
  EXPECT_TRUE(is_weight_dtype(DType::f32) && is_weight_dtype(DType::f16) && is_weight_dtype(DType::bf16));
}

}  // namespace
}  // namespace gpt
