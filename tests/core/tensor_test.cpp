#include "gpt/core/tensor.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;

static_assert(std::is_convertible_v<TensorView, ConstTensorView>);
static_assert(!std::is_convertible_v<ConstTensorView, TensorView>);
static_assert(!std::is_constructible_v<TensorView, const float*, Shape>, "a view cannot cast const away");
static_assert(!std::is_convertible_v<const Tensor&, TensorView>);

bool is_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 64 == 0; }

TEST(Tensor, DefaultIsEmpty) {
  const Tensor t;
  EXPECT_TRUE(t.empty());
  EXPECT_EQ(t.shape(), Shape{0});
  EXPECT_EQ(t.nbytes(), 0u);
  EXPECT_TRUE(t.clone().empty());
}

TEST(Tensor, AllocatesAlignedMemory) {
  for (const std::int64_t n : {0, 1, 15, 16, 1000}) {
    const Tensor empty = Tensor::empty({n}, DType::f16), zeros = Tensor::zeros({n}, DType::f64);
    EXPECT_TRUE(is_aligned(empty.view().raw()));
    EXPECT_TRUE(is_aligned(zeros.view().raw()));
    EXPECT_EQ(empty.nbytes(), static_cast<std::size_t>(2 * n));
    for (const double x : zeros.span<double>()) EXPECT_EQ(x, 0.0);
  }
}

TEST(Tensor, CopiesShareAndClonesDoNot) {
  Tensor a = Tensor::zeros({3});
  Tensor shared = a;
  const Tensor cloned = a.clone();
  a.data<float>()[1] = 7.0f;
  EXPECT_EQ(shared.data<float>()[1], 7.0f);
  EXPECT_EQ(cloned.data<float>()[1], 0.0f);
  EXPECT_EQ(cloned.shape(), a.shape());
}

TEST(Tensor, KeepsWhatItBorrowsAlive) {
  auto owner = std::make_shared<std::vector<float>>(4, 2.5f);
  const std::weak_ptr<std::vector<float>> watch = owner;
  float* data = owner->data();
  Tensor t = Tensor::borrow(std::move(owner), data, {2, 2}, DType::f32);
  Tensor copy = t;
  t = Tensor();
  ASSERT_FALSE(watch.expired());
  EXPECT_EQ(copy.data<float>()[3], 2.5f);
  copy = Tensor();
  EXPECT_TRUE(watch.expired());
}

TEST(Tensor, RefusesToBorrowMisalignedElements) {
  alignas(8) std::byte bytes[16];
  expect_error<ArgumentError>([&] { Tensor::borrow(nullptr, bytes + 2, {1}, DType::f32); },
                              {"aligned", "4 bytes"});
  EXPECT_NO_THROW(Tensor::borrow(nullptr, bytes + 2, {1}, DType::f16));
}

TEST(Tensor, RefusesAccessAsAnotherType) {
  Tensor t = Tensor::zeros({2}, DType::bf16);
  EXPECT_EQ(t.span<BFloat16>().size(), 2u);
  expect_error<ShapeError>([&] { t.data<float>(); }, {"bfloat16", "float32"});
  expect_error<ShapeError>([&] { t.data<Float16>(); }, {"bfloat16", "float16"});
  expect_error<ShapeError>([&] { t.view().span<std::int16_t>(); }, {"bfloat16", "int16"});
}

TEST(Tensor, MemoryThatCannotBeHadIsAnError) {
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  expect_error<MemoryError>([] { Tensor::empty({kMax}, DType::f64); }, {"[tensor]", "9223372036854775807"});
  expect_error<MemoryError>([] { Tensor::zeros({kMax / 2}, DType::u8); }, {"[tensor]", "cannot allocate"});
  expect_error<MemoryError>([] { Tensor::empty({kMax / 2}, DType::u8); }, {"[tensor]", "cannot allocate"});
}

TEST(Tensor, ConvertsBetweenWeightTypesElementByElement) {
  const std::vector<float> values = {0.0f, -0.0f, 1.0f, 0.1f, 65504.0f, 1e-8f, -3.14159f};
  const Tensor f32 = Tensor::borrow(nullptr, const_cast<float*>(values.data()), {7}, DType::f32);
  const Tensor f16 = f32.to(DType::f16), bf16 = f32.to(DType::bf16);
  for (std::size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(f16.data<Float16>()[i].bits, Float16(values[i]).bits);
    EXPECT_EQ(bf16.data<BFloat16>()[i].bits, BFloat16(values[i]).bits);
    EXPECT_EQ(f16.to(DType::f32).data<float>()[i], static_cast<float>(Float16(values[i])));
    EXPECT_EQ(bf16.to(DType::f16).data<Float16>()[i].bits,
              Float16(static_cast<float>(BFloat16(values[i]))).bits);
  }
  EXPECT_EQ(f16.to(DType::f16).view().raw(), f16.view().raw());
}

TEST(Tensor, IsEmptyAfterItWasMovedFrom) {
  Tensor a = Tensor::zeros({1000});
  const Tensor b = std::move(a);
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(a.view().raw(), nullptr);
  EXPECT_EQ(b.numel(), 1000);
}

TEST(Tensor, ConvertsOnlyWeightTypes) {
  expect_error<UnsupportedError>([] { Tensor::zeros({1}, DType::i64).to(DType::f32); }, {"int64", "float32"});
  expect_error<UnsupportedError>([] { Tensor::zeros({1}).to(DType::f64); }, {"float32", "float64"});
}

}  // namespace
}  // namespace gpt
