#include "gpt/core/dtype.h"

#include <array>
#include <utility>

namespace gpt {
namespace {

struct Name {
  DType dtype;
  std::string_view name;
  std::string_view alias;
};
constexpr std::array<Name, 13> kNames{{{DType::f32, "float32", "f32"},
                                       {DType::f16, "float16", "f16"},
                                       {DType::bf16, "bfloat16", "bf16"},
                                       {DType::f64, "float64", "f64"},
                                       {DType::i8, "int8", "i8"},
                                       {DType::i16, "int16", "i16"},
                                       {DType::i32, "int32", "i32"},
                                       {DType::i64, "int64", "i64"},
                                       {DType::u8, "uint8", "u8"},
                                       {DType::u16, "uint16", "u16"},
                                       {DType::u32, "uint32", "u32"},
                                       {DType::u64, "uint64", "u64"},
                                       {DType::boolean, "bool", "boolean"}}};

}  // namespace

std::string_view name_of(DType dtype) noexcept {
  for (const Name& n : kNames)
    if (n.dtype == dtype) return n.name;
  return "invalid";
}

std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (const Name& n : kNames)
    if (n.name == name || n.alias == name) return n.dtype;
  return std::nullopt;
}

}  // namespace gpt
