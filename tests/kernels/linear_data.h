// Matrix products for tests of kernels: operands, the kernel's arguments, and the definition of every element.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "kernels/kernels.h"
#include "ops/checks.h"
#include "support/random_tensor.h"
#include "support/weights.h"

namespace gpt::kernels {

struct LinearCase {
  std::int64_t m, k, n;
};
inline constexpr LinearCase kLinearCases[] = {{1, 1, 1},
                                              {1, 17, 16},
                                              {1, 255, 33},
                                              {1, 520, 80},
                                              {2, 256, 100},
                                              {3, 257, 15},
                                              {4, 3, 1040},
                                              {5, 600, 17},
                                              {6, 16, 31},
                                              {7, 64, 64},
                                              {11, 33, 48},
                                              {13, 31, 1},
                                              {95, 20, 18},
                                              {97, 300, 19},
                                              {193, 7, 40},
                                              {17, 300, 40},
                                              {29, 520, 40},
                                              {60, 300, 130},
                                              {3, 0, 17},
                                              {20, 0, 17},
                                              {48, 264, 112},
                                              {49, 264, 100},
                                              {60, 0, 70},
                                              // few rows against several panels and one left over
                                              {5, 40, 80},
                                              {6, 40, 80},
                                              {8, 72, 112},
                                              {9, 40, 48},
                                              {10, 40, 48},
                                              {12, 33, 50}};

/// A product of random operands; its memory and the arguments of the kernel.
struct LinearData {
  LinearData(const LinearCase& c, ops::Weight w, ops::Activation f = ops::Activation::kNone)
      : x(gpt::test::random_tensor({c.m, c.k}, 1)),
        weight(std::move(w)),
        bias(gpt::test::random_tensor({c.n}, 3, DType::bf16)),
        residual(gpt::test::random_tensor({c.m, c.n}, 4)),
        y(Tensor::zeros({c.m, c.n})) {
    static_cast<Matrix&>(args) = ops::matrix(weight);
    args.x = x.data<float>();
    args.x_stride = c.k;
    args.bias = Weights{bias.view().raw(), bias.dtype()};
    args.activation = f;
    args.residual = residual.data<float>();
    args.y = y.data<float>();
    args.m = c.m;
    if (!integer()) return;
    const std::int64_t spans = args.spans();
    x_quanta = filled(c.m * PackedRows::row_bytes(weight.format(), c.k) + kPackedSlack, DType::i8);
    x_scales = filled(c.m * spans + kPackedSlack / 4);
    x_sums = filled(c.m * spans * 2 + kPackedSlack / 2, DType::i16);
    args.packed.x = x_quanta.data<std::int8_t>();
    args.packed.minus_sums = x_sums.data<std::int16_t>();
    args.packed.scales = x_scales.data<float>();
  }
  bool integer() const { return weight.quantized() && !weight.weight_only; }
  void run(const KernelTable& table, std::int64_t begin, std::int64_t end) {
    if (!integer()) {
      copies = filled(args.copied_floats());
      sums = filled(args.sum_floats());
      args.space = {copies.data<float>(), sums.data<float>()};
      return table.linear(args, begin, end);
    }
    table.integer.pack_rows(args, 0, args.m);
    table.integer.linear(args, begin, end);
  }
  void run(const KernelTable& table) { run(table, 0, args.tasks()); }

  /// What nobody may read before it is written: of floats, all NaN.
  static Tensor filled(std::int64_t n, DType dtype = DType::f32) {
    Tensor t = Tensor::empty({n}, dtype);
    std::memset(t.view().raw(), 0xff, t.nbytes());
    return t;
  }

  Tensor x;
  ops::Weight weight;
  Tensor bias, residual, y, x_quanta, x_scales, x_sums, copies, sums;
  LinearArgs args;
};

/// Of a matrix beside its place in a failure's message.
inline std::string describe(const LinearCase& c, const ops::Weight& w) {
  return concat("M ", c.m, " ", gpt::test::describe(w));
}

/// The definition of a row's integers: one scale for each `span` of inputs.
struct RoundedRow {
  RoundedRow(const float* x, std::int64_t count, std::int64_t span) {
    constexpr float most = 127.0f;
    for (std::int64_t begin = 0; begin < count; begin += span) {
      const std::int64_t end = std::min(begin + span, count);
      float largest = 0;
      for (std::int64_t k = begin; k < end; ++k) largest = std::max(largest, std::abs(x[k]));
      scales.push_back(largest / most);
      for (std::int64_t k = begin; k < end; ++k) q.push_back(std::lrint(x[k] * (most / largest)));
    }
  }
  std::vector<std::int64_t> q;
  std::vector<float> scales;
};

/// The definition of the product, term by term.
inline float expected_sum(const LinearData& d, const Tensor& dequantized, std::int64_t m, std::int64_t n) {
  const ops::Weight& w = d.weight;
  const float* x = d.x.data<float>() + m * w.in;
  float sum = 0;
  if (!d.integer()) {
    for (std::int64_t k = 0; k < w.in; ++k)
      sum = std::fma(x[k], dequantized.data<float>()[k * w.out + n], sum);
    return sum;
  }
  if (w.in == 0) return 0;
  const bool int8 = w.format() == ops::WeightFormat::int8;
  const std::int64_t span = w.group_size == 32 || !w.zero_points.empty() ? 32 : 64;
  const RoundedRow row(x, w.in, span);
  const std::int64_t groups = ops::groups_of(w.in, w.group_size), panel = n / 16, lane = n % 16;
  const std::int64_t steps = (w.in + 7) / 8;
  for (std::int64_t begin = 0; begin < w.in; begin += span) {
    const std::int64_t group = w.group_size == 0 ? 0 : begin / w.group_size;
    const std::int64_t place = (panel * groups + group) * 16 + lane;
    const int zero = !w.zero_points.empty() ? w.zero_points.data<std::uint8_t>()[place] : int8 ? 0 : 8;
    std::int64_t exact = 0;
    for (std::int64_t k = begin; k < std::min(begin + span, w.in); ++k) {
      const int q = int8 ? w.values.data<std::int8_t>()[((panel * 4 * steps + k / 2) * 16 + lane) * 2 + k % 2]
                         : w.values.data<std::uint8_t>()[((panel * steps + k / 8) * 16 + lane) * 4 + k % 4] >>
                                   (k % 8 < 4 ? 0 : 4) &
                               15;
      exact += row.q[static_cast<std::size_t>(k)] * (q - zero);
    }
    const float scale =
        gpt::test::widened(w.scales, place) * row.scales[static_cast<std::size_t>(begin / span)];
    sum = std::fma(static_cast<float>(exact), scale, sum);
  }
  return sum;
}

inline float expected_element(const LinearData& d, const Tensor& dequantized, std::int64_t m,
                              std::int64_t n) {
  return d.residual.data<float>()[m * d.weight.out + n] +
         (expected_sum(d, dequantized, m, n) + gpt::test::widened(d.bias, n));
}

}  // namespace gpt::kernels
