// How much memory a header takes that is refused.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/peak_memory.h"
#include "support/safetensors_bytes.h"

namespace gpt {
namespace {

// begin, then part again and again, then end: some 8 MiB.
std::string header_of(std::string_view begin, std::string_view part, std::string_view end) {
  std::string header(begin);
  while (header.size() < 8 << 20) header += part;
  return header.append(end);
}

void expect_refused_in_little_memory(const std::string& header,
                                     std::initializer_list<std::string_view> parts) {
  SCOPED_TRACE(header.substr(0, 60));
  const auto bytes = std::make_shared<std::string>(test::safetensors_bytes(header, ""));
  const auto open = [&] {
    const std::span<std::byte> span(reinterpret_cast<std::byte*>(bytes->data()), bytes->size());
    SafetensorsFile(bytes, span, "bytes");
  };
  test::expect_error<FormatError>(open, parts);
  const std::int64_t peak = test::peak_memory_of([&] {
    try {
      open();
    } catch (const FormatError&) {
    }
  });
  EXPECT_LT(peak, 16 << 20);  // twice that of the header itself
}

TEST(SafetensorsHeader, TakesLittleMemoryWhereItIsNone) {
  expect_refused_in_little_memory(header_of("{\"a\":[0", ",0", "]}"), {"[bytes", "\"a\"", "65536 values"});
  expect_refused_in_little_memory(header_of("{\"a\":[[]", ",[]", "]}"), {"[bytes", "\"a\"", "65536 values"});
  expect_refused_in_little_memory(header_of("{\"a\":{\"\":0", ",\"\":0", "}}"),
                                  {"[bytes", "\"a\"", "65536 values"});
  expect_refused_in_little_memory(header_of("{\"__metadata__\":{\"a\":\"\"", ",\"a\":\"\"", "}}"),
                                  {"[bytes", "\"__metadata__\"", "65536 values"});
  expect_refused_in_little_memory(
      header_of(R"({"a":{"dtype":"F32","shape":[0)", ",0", R"(],"data_offsets":[0,0]}})"),
      {"[bytes", "\"a\"", "65536 values"});
  expect_refused_in_little_memory(header_of("{\"\":0", ",\"\":0", "}"), {"[bytes]", "\"\" is 0"});
  const std::string entry = R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  expect_refused_in_little_memory(header_of("{" + entry, "," + entry, "}"), {"[bytes", "\"a\"", "twice"});
}

}  // namespace
}  // namespace gpt
