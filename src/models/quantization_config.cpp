#include "models/quantization_config.h"

#include <algorithm>
#include <cmath>

#include "gpt/core/error.h"
#include "gpt/ops/quantize.h"

namespace gpt {
namespace {

constexpr std::string_view kKey = "quantization_config";
constexpr std::string_view kMethod = "libgpt";
constexpr std::int64_t kVersion = 2;  // 1 had other panels of int4
constexpr std::string_view kSuffix = ".weight";

template <class T>
T require(const HfConfig& file, std::string_view key, std::optional<T> value) {
  if (!value) fail<FormatError>(file.source(), key, " is missing");
  return std::move(*value);
}

/// A key that is not known might change the result.
void refuse_unread(const HfConfig& file) {
  const std::vector<std::string> keys = file.unread_keys();
  if (!keys.empty()) fail<UnsupportedError>(file.source(), "key \"", keys.front(), "\" is not known");
}

ops::QuantizationFormat read_format(const HfConfig& file) {
  ops::QuantizationFormat f;
  const std::int64_t bits = require(file, "bits", file.get_int("bits"));
  if (bits != 4 && bits != 8) fail<ArgumentError>(file.source(), "bits is ", bits, ", expected 4 or 8");
  f.format = bits == 8 ? ops::WeightFormat::int8 : ops::WeightFormat::int4;
  f.group_size = require(file, "group_size", file.get_int("group_size"));
  f.symmetric = require(file, "symmetric", file.get_bool("symmetric"));
  f.weight_only = require(file, "weight_only", file.get_bool("weight_only"));
  refuse_unread(file);
  try {
    ops::check(f);
  } catch (const ArgumentError& e) {
    fail<ArgumentError>(file.source(), e.what());
  }
  return f;
}

HfConfig format_object(const ops::QuantizationFormat& f) {
  HfConfig object;
  object.set_int("bits", f.format == ops::WeightFormat::int8 ? 8 : 4);
  object.set_int("group_size", f.group_size);
  object.set_bool("symmetric", f.symmetric);
  object.set_bool("weight_only", f.weight_only);
  return object;
}

/// The tensor, which the format wants to have one of these types.
Tensor tensor_of(const Checkpoint& file, const std::string& name, std::initializer_list<DType> types,
                 std::string_view expected, std::string_view why) {
  if (!file.contains(name)) fail<FormatError>(file.source(), "tensor ", name, " is missing: ", why);
  const TensorInfo& info = file.info(name);
  if (!info.dtype || std::find(types.begin(), types.end(), *info.dtype) == types.end())
    fail<FormatError>(file.source(), "tensor ", name, " is ", info.stored_dtype, ", expected ", expected);
  return file.tensor(name);
}

void require_finite(const Checkpoint& file, const std::string& name, const Tensor& scales) {
  for (std::int64_t i = 0; i < scales.numel(); ++i) {
    const float scale = scales.dtype() == DType::f32 ? scales.data<float>()[i]
                                                     : static_cast<float>(scales.data<Float16>()[i]);
    if (!std::isfinite(scale))
      fail<FormatError>(file.source(), "tensor ", name, " holds ", scale, " at element ", i,
                        ", expected finite scales");
  }
}

void require_nibbles(const Checkpoint& file, const std::string& name, const Tensor& zero_points) {
  for (const std::uint8_t zero : zero_points.span<std::uint8_t>())
    if (zero > 15)
      fail<FormatError>(file.source(), "tensor ", name, " holds the zero point ", int{zero},
                        ", expected 0 to 15");
}

}  // namespace

QuantizedMatrices read_quantization(const HfConfig& file) {
  const std::optional<HfConfig> config = file.get_object(kKey);
  if (!config) return {};
  const std::string method = config->get_string("quant_method").value_or("");
  if (method != kMethod)
    fail<UnsupportedError>(config->source(), "quant_method is \"", method,
                           "\": quantized checkpoints of other libraries than ", kMethod,
                           " are not supported");
  if (const std::int64_t version = require(*config, "version", config->get_int("version"));
      version != kVersion)
    fail<UnsupportedError>(config->source(), "version is ", version, ", expected ", kVersion,
                           ": quantize the original checkpoint again");
  const HfConfig modules = require(*config, "modules", config->get_object("modules"));
  refuse_unread(*config);
  QuantizedMatrices matrices;
  for (const std::string& name : modules.keys())
    matrices.emplace(concat(name, kSuffix), read_format(require(modules, name, modules.get_object(name))));
  return matrices;
}

void write_quantization(const QuantizedMatrices& matrices, HfConfig& file) {
  if (matrices.empty()) return file.erase(kKey);
  HfConfig modules;
  for (const auto& [name, format] : matrices)
    modules.set_object(name.substr(0, name.size() - kSuffix.size()), format_object(format));
  HfConfig config;
  config.set_string("quant_method", kMethod);
  config.set_int("version", kVersion);
  config.set_object("modules", modules);
  file.set_object(kKey, config);
}

std::string scales_of(std::string_view name) { return concat(name, ".scales"); }
std::string zero_points_of(std::string_view name) { return concat(name, ".zero_points"); }

void load_quantized(const Checkpoint& file, const std::string& name, const ops::QuantizationFormat& format,
                    ops::Weight& weight) {
  const bool int8 = format.format == ops::WeightFormat::int8;
  ops::Weight loaded{.in = weight.in,
                     .out = weight.out,
                     .layout = ops::WeightLayout::kPanels,
                     .file_layout = weight.file_layout,
                     .group_size = format.group_size,
                     .weight_only = format.weight_only};
  const std::string why = concat("config.json says that ", name, " is ", name_of(format.format));
  loaded.values = int8 ? tensor_of(file, name, {DType::i8}, "I8, as config.json says", why)
                       : tensor_of(file, name, {DType::u8}, "U8, as config.json says", why);
  loaded.scales = tensor_of(file, scales_of(name), {DType::f16, DType::f32}, "F16 or F32", why);
  const std::string zero_points = zero_points_of(name);
  if (!format.symmetric)
    loaded.zero_points = tensor_of(file, zero_points, {DType::u8}, "U8", concat(why, ", asymmetric"));
  else if (file.contains(zero_points))
    fail<FormatError>(file.source(), "holds ", zero_points, ", but config.json says that ", name,
                      " is symmetric");
  try {
    loaded.check(name);
  } catch (const ShapeError& e) {
    fail<ShapeError>(file.source(), e.what());
  }
  require_finite(file, scales_of(name), loaded.scales);
  if (!format.symmetric) require_nibbles(file, zero_points, loaded.zero_points);
  weight = std::move(loaded);
}

}  // namespace gpt
