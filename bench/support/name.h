// A benchmark's name is its list of parameters: BM_Matmul/f32/M:512/N:2304/K:768/isa:avx2/threads:2.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gpt::bench {

class Name {
 public:
  /// Splits `text` at its slashes, and each part at its colon.
  explicit Name(std::string_view text);

  const std::string& text() const noexcept { return text_; }
  const std::string& family() const noexcept { return family_; }
  /// The keys in their order; a part without a colon has an empty one.
  std::vector<std::string> keys() const;

  /// The i-th part without a key. Throws ArgumentError.
  const std::string& word(std::size_t i = 0) const;
  /// The value of `key`. Throws ArgumentError.
  const std::string& value(std::string_view key) const;
  /// The same as a number of at least `min`. Throws ArgumentError.
  std::int64_t number(std::string_view key, std::int64_t min = 1) const;
  /// number("threads").
  int threads() const;

 private:
  struct Field {
    std::string key, value;
  };
  std::string text_;
  std::string family_;
  std::vector<Field> fields_;
};

/// The names that a filter like --benchmark_filter='^(A|B)$' spells out: [A, B]. Other filters give parts that are no
/// names, which nobody registers.
std::vector<std::string> names_in_filter(std::string_view filter);

}  // namespace gpt::bench
