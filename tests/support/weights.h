// Weight matrices in all their forms, filled with reproducible pseudo-random elements.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "gpt/ops/weight.h"
#include "support/random_tensor.h"

namespace gpt::test {

/// A plain matrix [in, out] (kInOut) or [out, in] (kOutIn).
inline ops::Weight plain_weight(const Tensor& values, ops::WeightLayout layout) {
  const bool in_out = layout == ops::WeightLayout::kInOut;
  ops::Weight w{.in = values.dim(in_out ? 0 : 1), .out = values.dim(in_out ? 1 : 0), .layout = layout};
  w.values = values;
  return w;
}

inline ops::Weight random_weight(std::int64_t in, std::int64_t out, ops::WeightLayout layout, DType dtype,
                                 std::uint64_t seed) {
  const bool in_out = layout == ops::WeightLayout::kInOut;
  return plain_weight(random_tensor(in_out ? Shape{in, out} : Shape{out, in}, seed, dtype), layout);
}

/// Random quanta, also extreme ones, with random scales of both signs.
inline ops::Weight random_quantized(std::int64_t in, std::int64_t out, const ops::QuantizationFormat& f,
                                    std::uint64_t seed, DType scale_dtype = DType::f16) {
  const std::int64_t panels = (out + 15) / 16, steps = (in + 7) / 8;
  const std::int64_t groups = ops::groups_of(in, f.group_size);
  const bool int4 = f.format == ops::WeightFormat::int4;
  ops::Weight w{.in = in, .out = out, .layout = ops::WeightLayout::kPanels};
  w.group_size = f.group_size;
  w.weight_only = f.weight_only;
  w.scales = random_tensor({panels, groups, 16}, seed, scale_dtype, 0.01f);
  const CounterRng rng(seed, 1);
  if (int4)
    w.values = Tensor::zeros({panels, steps, 16, 4}, DType::u8);
  else
    w.values = Tensor::zeros({panels, 4 * steps, 16, 2}, DType::i8);
  for (std::int64_t n = 0; n < out; ++n)
    for (std::int64_t k = 0; k < in; ++k) {
      const std::int64_t panel = n / 16, lane = n % 16;
      const double u = rng.uniform(static_cast<std::uint64_t>(n * in + k));
      if (int4) {
        auto& two = w.values.data<std::uint8_t>()[((panel * steps + k / 8) * 16 + lane) * 4 + k % 4];
        two = static_cast<std::uint8_t>(two | static_cast<unsigned>(u * 16) << (k % 8 < 4 ? 0 : 4));
      } else {
        w.values.data<std::int8_t>()[((panel * 4 * steps + k / 2) * 16 + lane) * 2 + k % 2] =
            static_cast<std::int8_t>(static_cast<int>(u * 255) - 127);
      }
    }
  if (!f.symmetric) {
    w.zero_points = Tensor::zeros({panels, groups, 16}, DType::u8);
    std::uint64_t i = 1u << 30;
    for (auto& z : w.zero_points.span<std::uint8_t>()) z = static_cast<std::uint8_t>(rng.uniform(i++) * 16);
  }
  return w;
}

/// A name for a failing case.
inline std::string describe(const ops::Weight& w) {
  constexpr const char* kLayouts[] = {"[in, out]", "[out, in]", "panels"};
  return concat(ops::name_of(w.format()), " ", kLayouts[static_cast<int>(w.layout)], " group ", w.group_size,
                w.zero_points.empty() ? "" : " asymmetric", w.weight_only ? " weight-only" : "", " K ", w.in,
                " N ", w.out);
}

/// A quantized matrix of this size in every form there is.
inline std::vector<ops::Weight> quantized_weights(std::int64_t in, std::int64_t out, std::uint64_t seed,
                                                  bool weight_only) {
  std::vector<ops::Weight> all;
  for (const std::int64_t group_size : {0, 32, 64, 128, 256}) {
    const DType scales = group_size == 64 ? DType::f32 : DType::f16;
    const auto add = [&](ops::WeightFormat format, bool symmetric) {
      all.push_back(random_quantized(in, out, {format, group_size, symmetric, weight_only}, seed, scales));
    };
    add(ops::WeightFormat::int8, true);
    add(ops::WeightFormat::int4, true);
    add(ops::WeightFormat::int4, false);
  }
  return all;
}

/// A matrix of this size in every form there is.
inline std::vector<ops::Weight> weights_in_all_forms(std::int64_t in, std::int64_t out, std::uint64_t seed) {
  using ops::WeightLayout;
  std::vector<ops::Weight> all;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (const auto layout : {WeightLayout::kInOut, WeightLayout::kOutIn}) {
      all.push_back(random_weight(in, out, layout, dtype, seed));
      if (layout == WeightLayout::kOutIn) all.push_back(ops::pack(all.back()));
    }
  for (const bool weight_only : {false, true})
    for (ops::Weight& weight : quantized_weights(in, out, seed, weight_only))
      all.push_back(std::move(weight));
  return all;
}

}  // namespace gpt::test
