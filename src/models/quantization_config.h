// Quantized matrices in checkpoints: what config.json says of them, and their tensors in the safetensors file.
//
//   config.json    "quantization_config": {"quant_method": "libgpt", "version": 2, "modules": {
//                     "h.0.attn.c_attn": {"bits": 4, "group_size": 64, "symmetric": true, "weight_only": false}, ...}}
//                  Every quantized matrix is listed, without ".weight"; "wte" is the embedding, and with it a tied head.
//   safetensors    <name>.weight              I8 or U8: the panels of gpt/ops/weight.h, as they lie in memory
//                  <name>.weight.scales       F16 or F32 [P, G, 16]
//                  <name>.weight.zero_points  U8 [P, G, 16], of an asymmetric matrix
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "gpt/io/hf_config.h"
#include "gpt/io/safetensors.h"
#include "gpt/ops/weight.h"

namespace gpt {

/// Formats by the names of matrices: "h.0.attn.c_attn.weight".
using QuantizedMatrices = std::map<std::string, ops::QuantizationFormat, std::less<>>;

/// Empty when the file has no quantization_config. Throws UnsupportedError naming another library's quant_method, an
/// unknown version or key; FormatError for what is missing or of the wrong type; ArgumentError for a format that does not
/// exist.
QuantizedMatrices read_quantization(const HfConfig& file);

/// Sets quantization_config, or takes it out when there are no quantized matrices.
void write_quantization(const QuantizedMatrices& matrices, HfConfig& file);

/// The names of a quantized matrix' tensors beside its values.
std::string scales_of(std::string_view name);
std::string zero_points_of(std::string_view name);

/// Reads the tensors of the matrix `name` into a weight that has its extents, without a copy. Scales and zero points are
/// read through and checked, values are not. Throws FormatError, ShapeError naming file and tensor.
void load_quantized(const Checkpoint& file, const std::string& name, const ops::QuantizationFormat& format,
                    ops::Weight& weight);

}  // namespace gpt
