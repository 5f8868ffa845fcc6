// The element types of safetensors files, by the names the format gives them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "gpt/core/dtype.h"

namespace gpt {

struct StoredDType {
  std::string_view name;
  std::uint64_t bits;          // of one element
  std::optional<DType> dtype;  // empty: libgpt has no such type
};

inline constexpr std::array kStoredDTypes = std::to_array<StoredDType>({
    {"F32", 32, DType::f32},     {"F16", 16, DType::f16}, {"BF16", 16, DType::bf16}, {"F64", 64, DType::f64},
    {"I8", 8, DType::i8},        {"I16", 16, DType::i16}, {"I32", 32, DType::i32},   {"I64", 64, DType::i64},
    {"U8", 8, DType::u8},        {"U16", 16, DType::u16}, {"U32", 32, DType::u32},   {"U64", 64, DType::u64},
    {"BOOL", 8, DType::boolean}, {"C64", 64, {}},         {"F8_E4M3", 8, {}},        {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},          {"F8_E4M3FNUZ", 8, {}},  {"F8_E5M2FNUZ", 8, {}},    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},          {"F4", 4, {}},
});

constexpr const StoredDType* find_stored_dtype(std::string_view name) noexcept {
  for (const StoredDType& d : kStoredDTypes)
    if (d.name == name) return &d;
  return nullptr;
}

constexpr std::string_view stored_name_of(DType dtype) noexcept {
  for (const StoredDType& d : kStoredDTypes)
    if (d.dtype == dtype) return d.name;
  return {};
}

inline constexpr std::uint64_t kMaxSafetensorsHeader =
    100'000'000;  // bytes; the reference implementation's limit

}  // namespace gpt
