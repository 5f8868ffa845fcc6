// The numbers of the GGUF format.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "gpt/io/gguf.h"

namespace gpt::gguf {

inline constexpr std::string_view kMagic = "GGUF";
inline constexpr std::uint64_t kAlignment = 32;  // where the metadata name no other
inline constexpr std::size_t kMaxName = 63;      // ggml's GGML_MAX_NAME without the zero
inline constexpr std::uint32_t kMaxDimensions = 4;

/// Types of metadata.
enum ValueType : std::uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};
inline constexpr std::array<std::string_view, 13> kValueNames = {
    "uint8", "int8", "uint16", "int16",  "uint32", "int32",  "float32",
    "bool",  "text", "a list", "uint64", "int64",  "float64"};
/// Bytes of a value; of text and lists, of their length.
inline constexpr std::array<std::uint64_t, 13> kValueBytes = {1, 1, 2, 2, 4, 4, 4, 1, 8, 8, 8, 8, 8};

/// A type of tensors: `block` elements in `bytes`.
struct TypeInfo {
  GgufType type;
  std::string_view name;
  std::int64_t block, bytes;
};
inline constexpr TypeInfo kTypes[] = {
    {GgufType::kF32, "F32", 1, 4},       {GgufType::kF16, "F16", 1, 2},
    {GgufType::kBF16, "BF16", 1, 2},     {GgufType::kQ8_0, "Q8_0", 32, 34},
    {GgufType::kQ4_0, "Q4_0", 32, 18},   {GgufType::kQ4_1, "Q4_1", 32, 20},
    {GgufType::kQ5_0, "Q5_0", 32, 22},   {GgufType::kQ5_1, "Q5_1", 32, 24},
    {GgufType::kQ4_K, "Q4_K", 256, 144}, {GgufType::kQ5_K, "Q5_K", 256, 176},
    {GgufType::kQ6_K, "Q6_K", 256, 210}};

/// ggml's names of all its types, for messages; empty where there is none (any more).
inline constexpr std::array<std::string_view, 40> kTypeNames = {
    "F32",    "F16",   "Q4_0",  "Q4_1",   "",      "",      "Q5_0",    "Q5_1",   "Q8_0",    "Q8_1",
    "Q2_K",   "Q3_K",  "Q4_K",  "Q5_K",   "Q6_K",  "Q8_K",  "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
    "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8",    "I16",   "I32",     "I64",    "F64",     "IQ1_M",
    "BF16",   "",      "",      "",       "TQ1_0", "TQ2_0", "",        "",       "",        "MXFP4"};

constexpr const TypeInfo* find_type(std::uint32_t number) noexcept {
  for (const TypeInfo& t : kTypes)
    if (static_cast<std::uint32_t>(t.type) == number) return &t;
  return nullptr;
}

constexpr std::uint64_t padded(std::uint64_t size, std::uint64_t alignment) noexcept {
  return (size + alignment - 1) / alignment * alignment;
}

}  // namespace gpt::gguf
