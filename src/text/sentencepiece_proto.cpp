#include "text/sentencepiece_proto.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "gpt/core/error.h"

namespace gpt {
namespace {

/// The fields of a message in protobuf's encoding, one after another.
class ProtoReader {
 public:
  ProtoReader(std::string_view message, std::string_view source) : rest_(message), source_(source) {}

  struct Field {
    std::uint64_t number = 0, value = 0;
    std::string_view bytes = {};  // of a string, a message or a float
  };

  std::optional<Field> next() {
    if (rest_.empty()) return std::nullopt;
    const std::uint64_t tag = varint();
    Field field{.number = tag >> 3};
    switch (tag & 7) {
      case 0: field.value = varint(); break;
      case 1: take(8); break;
      case 2: field.bytes = take(varint()); break;
      case 5: field.bytes = take(4); break;
      default: fail_malformed();
    }
    return field;
  }

 private:
  [[noreturn]] void fail_malformed() const {
    fail<FormatError>(source_, "is no sentencepiece model: its fields are malformed");
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) return value;
    }
    fail_malformed();
  }
  std::string_view take(std::uint64_t size) {
    if (size > rest_.size()) fail_malformed();
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }

  std::string_view rest_, source_;
};

template <class T>
T read_as(std::string_view bytes) noexcept {
  T value{};
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

/// The double array of darts-clone, through which libsentencepiece finds what to normalize: units of 32 bits, of which each node
/// reads the 256 around its base.
class DoubleArray {
 public:
  explicit DoubleArray(std::string_view bytes) : bytes_(bytes), size_(bytes.size() / sizeof(std::uint32_t)) {}

  /// True when every step of every search stays inside, and every value is less than `end`.
  bool is_sound(std::size_t end) const {
    if (bytes_.size() % sizeof(std::uint32_t) != 0 || size_ == 0) return false;
    std::vector<bool> seen(size_);
    std::vector<std::size_t> open{offset(unit(0))};
    while (!open.empty()) {
      const std::size_t base = open.back();
      open.pop_back();
      if ((base | 0xFF) >= size_) return false;
      if (seen[base]) continue;
      seen[base] = true;
      for (std::uint32_t byte = 0; byte < 256; ++byte) {
        const std::size_t at = base ^ byte;
        const std::uint32_t next = unit(at);
        if ((next & (1u << 31 | 0xFFu)) != byte) continue;  // the label: not of this node, or a value
        const std::size_t below = at ^ offset(next);
        if (below >= size_ || ((next >> 8 & 1u) != 0 && (unit(below) & ~(1u << 31)) >= end)) return false;
        open.push_back(below);
      }
    }
    return true;
  }

 private:
  std::uint32_t unit(std::size_t i) const noexcept {
    return read_as<std::uint32_t>(bytes_.substr(i * sizeof(std::uint32_t)));
  }
  static std::size_t offset(std::uint32_t unit) noexcept { return unit >> 10 << ((unit & 1u << 9) >> 6); }

  std::string_view bytes_;
  std::size_t size_;
};

// A precompiled_charsmap: the size of a double array, it, and the texts that its values point to, each ended by a zero.
bool is_sound_charsmap(std::string_view map) {
  if (map.empty()) return true;
  if (map.size() <= sizeof(std::uint32_t) || map.back() != '\0') return false;
  const std::size_t size = read_as<std::uint32_t>(map);
  map.remove_prefix(sizeof(std::uint32_t));
  return size < map.size() && DoubleArray(map.substr(0, size)).is_sound(map.size() - size);
}

}  // namespace

SentencePieceSettings read_sentencepiece_settings(std::string_view model, std::string_view source) {
  enum Part : std::uint64_t { kPiece = 1, kTrainer = 2, kNormalizer = 3, kDenormalizer = 5 };
  constexpr std::uint64_t kText = 1, kScore = 2, kModelType = 3, kSuffix = 24, kCharsMap = 2,
                          kDummyPrefix = 3, kExtraWhitespaces = 4;
  constexpr std::uint64_t kUnigram = 1, kChar = 4;  // the first and the last of the types
  SentencePieceSettings settings;
  ProtoReader fields(model, source);
  while (const auto part = fields.next()) {
    const bool is_known = part->number == kPiece || part->number == kTrainer || part->number == kNormalizer ||
                          part->number == kDenormalizer;
    ProtoReader inner(is_known ? part->bytes : std::string_view(), source);
    while (const auto field = inner.next()) {
      if (part->number == kPiece) {
        if (field->number == kScore &&
            (field->bytes.size() != sizeof(float) || !std::isfinite(read_as<float>(field->bytes))))
          fail<FormatError>(source, "has a piece whose score is not a finite number");
        if (field->number == kText && field->bytes.empty())
          fail<FormatError>(source, "has a piece without text");
      } else if (part->number == kTrainer) {
        if (field->number == kSuffix) settings.treat_whitespace_as_suffix = field->value != 0;
        // Others leave the field as it was, as protobuf reads an enumeration.
        if (field->number == kModelType && field->value >= kUnigram && field->value <= kChar)
          settings.is_unigram = field->value == kUnigram;
      } else if (field->number == kCharsMap) {
        if (!is_sound_charsmap(field->bytes))
          fail<FormatError>(source, "has a precompiled_charsmap that points outside of itself");
        if (part->number == kDenormalizer) settings.has_denormalizer = !field->bytes.empty();
      } else if (part->number == kNormalizer && field->number == kDummyPrefix) {
        settings.add_dummy_prefix = field->value != 0;
      } else if (part->number == kNormalizer && field->number == kExtraWhitespaces) {
        settings.remove_extra_whitespaces = field->value != 0;
      }
    }
  }
  return settings;
}

}  // namespace gpt
