#include "support/weights.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "support/random_tensor.h"

namespace gpt::test {
namespace {

/// Knuth's generator. CounterRng's numbers, without optimization and instrumented, take longer than the products that they are for.
using QuickRandom =
    std::linear_congruential_engine<std::uint64_t, 6364136223846793005u, 1442695040888963407u, 0>;

}  // namespace

ops::Weight plain_weight(const Tensor& values, ops::WeightLayout layout) {
  const bool in_out = layout == ops::WeightLayout::kInOut;
  ops::Weight w{.in = values.dim(in_out ? 0 : 1), .out = values.dim(in_out ? 1 : 0), .layout = layout};
  w.values = values;
  return w;
}

ops::Weight random_weight(std::int64_t in, std::int64_t out, ops::WeightLayout layout, DType dtype,
                          std::uint64_t seed) {
  const bool in_out = layout == ops::WeightLayout::kInOut;
  return plain_weight(random_tensor(in_out ? Shape{in, out} : Shape{out, in}, seed, dtype), layout);
}

ops::Weight random_quantized(std::int64_t in, std::int64_t out, const ops::QuantizationFormat& f,
                             std::uint64_t seed, DType scale_dtype) {
  const std::int64_t panels = (out + 15) / 16, steps = (in + 7) / 8;
  const std::int64_t groups = ops::groups_of(in, f.group_size);
  const bool int4 = f.format == ops::WeightFormat::int4;
  ops::Weight w{.in = in, .out = out, .layout = ops::WeightLayout::kPanels};
  w.group_size = f.group_size;
  w.weight_only = f.weight_only;
  w.scales = random_tensor({panels, groups, 16}, seed, scale_dtype, 0.01f);
  w.values = int4 ? Tensor::zeros({panels, steps, 16, 4}, DType::u8)
                  : Tensor::zeros({panels, 4 * steps, 16, 2}, DType::i8);
  const auto quanta = static_cast<std::uint8_t*>(static_cast<void*>(w.values.view().raw()));
  QuickRandom random(seed);
  const auto next_byte = [&random] { return static_cast<unsigned>(random() >> 56); };
  for (std::int64_t n = 0; n < out; ++n)
    for (std::int64_t k = 0; k < in; ++k) {
      const std::int64_t panel = n / 16, lane = n % 16;
      const unsigned byte = next_byte();
      if (int4) {
        std::uint8_t& two = quanta[((panel * steps + k / 8) * 16 + lane) * 4 + k % 4];
        two = static_cast<std::uint8_t>(two | byte >> 4 << (k % 8 < 4 ? 0 : 4));
      } else {  // -127 .. 127
        quanta[((panel * 4 * steps + k / 2) * 16 + lane) * 2 + k % 2] =
            static_cast<std::uint8_t>(std::min(byte, 254u) - 127u);
      }
    }
  if (!f.symmetric) {
    w.zero_points = Tensor::zeros({panels, groups, 16}, DType::u8);
    for (auto& z : w.zero_points.span<std::uint8_t>()) z = static_cast<std::uint8_t>(next_byte() >> 4);
  }
  return w;
}

std::string describe(const ops::Weight& w) {
  constexpr const char* kLayouts[] = {"[in, out]", "[out, in]", "panels"};
  return concat(ops::name_of(w.format()), " ", kLayouts[static_cast<int>(w.layout)], " group ", w.group_size,
                w.zero_points.empty() ? "" : " asymmetric", w.weight_only ? " weight-only" : "", " K ", w.in,
                " N ", w.out);
}

std::vector<ops::Weight> quantized_weights(std::int64_t in, std::int64_t out, std::uint64_t seed,
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

std::vector<ops::Weight> weights_in_all_forms(std::int64_t in, std::int64_t out, std::uint64_t seed) {
  using ops::WeightLayout;
  std::vector<ops::Weight> all;
  for (const auto layout : {WeightLayout::kInOut, WeightLayout::kOutIn}) {
    const Tensor values = random_weight(in, out, layout, DType::f32, seed).values;
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      all.push_back(plain_weight(values.to(dtype), layout));
      if (layout == WeightLayout::kOutIn) all.push_back(ops::pack(all.back()));
    }
  }
  for (const bool weight_only : {false, true})
    for (ops::Weight& weight : quantized_weights(in, out, seed, weight_only))
      all.push_back(std::move(weight));
  return all;
}

}  // namespace gpt::test
