#include "text/sentencepiece_proto.h"

#include <cstdint>
#include <optional>

#include "gpt/core/error.h"

namespace gpt {
namespace {

/// The fields of a message in protobuf's encoding, one after another.
class ProtoReader {
 public:
  ProtoReader(std::string_view message, std::string_view source) : rest_(message), source_(source) {}

  struct Field {
    std::uint64_t number = 0, value = 0;
    std::string_view bytes = {};  // of a string or message
  };

  std::optional<Field> next() {
    if (rest_.empty()) return std::nullopt;
    const std::uint64_t tag = varint();
    Field field{.number = tag >> 3};
    switch (tag & 7) {
      case 0: field.value = varint(); break;
      case 1: take(8); break;
      case 2: field.bytes = take(varint()); break;
      case 5: take(4); break;
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

}  // namespace

SentencePieceSettings read_sentencepiece_settings(std::string_view model, std::string_view source) {
  constexpr std::uint64_t kTrainer = 2, kNormalizer = 3, kDenormalizer = 5;
  constexpr std::uint64_t kSuffix = 24, kCharsMap = 2, kDummyPrefix = 3, kExtraWhitespaces = 4;
  SentencePieceSettings settings;
  ProtoReader fields(model, source);
  while (const auto part = fields.next()) {
    ProtoReader inner(part->number == kTrainer || part->number == kNormalizer || part->number == kDenormalizer
                          ? part->bytes
                          : std::string_view(),
                      source);
    while (const auto field = inner.next()) {
      if (part->number == kTrainer && field->number == kSuffix)
        settings.treat_whitespace_as_suffix = field->value != 0;
      if (part->number == kNormalizer && field->number == kDummyPrefix)
        settings.add_dummy_prefix = field->value != 0;
      if (part->number == kNormalizer && field->number == kExtraWhitespaces)
        settings.remove_extra_whitespaces = field->value != 0;
      if (part->number == kDenormalizer && field->number == kCharsMap)
        settings.has_denormalizer = !field->bytes.empty();
    }
  }
  return settings;
}

}  // namespace gpt
