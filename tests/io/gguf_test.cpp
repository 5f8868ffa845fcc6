// GGUF files, handmade ones and what the writer makes.
#include "gpt/io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/gguf_bytes.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::GgufBytes;
using test::open_gguf;
using test::raw;
using test::text;
using ::testing::ElementsAreArray;

constexpr std::uint32_t kF32 = 0, kQ8_0 = 8, kQ4_K = 12;

/// A file with a key of every type and two tensors.
GgufBytes small() {
  GgufBytes file;
  file.add_key("u8", 0, raw<std::uint8_t>(200));
  file.add_key("i8", 1, raw<std::int8_t>(-3));
  file.add_key("u16", 2, raw<std::uint16_t>(60000));
  file.add_key("i16", 3, raw<std::int16_t>(-300));
  file.add_key("u32", 4, raw<std::uint32_t>(4000000000));
  file.add_key("i32", 5, raw<std::int32_t>(-70000));
  file.add_key("f32", 6, raw(0.25f));
  file.add_key("yes", 7, raw<std::uint8_t>(1));
  file.add_key("name", 8, text("h\xC3\xA9"));
  file.add_key("list", 9, raw<std::uint32_t>(5) + raw<std::uint64_t>(2) + raw(-1) + raw(7));
  file.add_key("texts", 9, raw<std::uint32_t>(8) + raw<std::uint64_t>(3) + text("a") + text("") + text("bc"));
  file.add_key("u64", 10, raw<std::uint64_t>(1ull << 40));
  file.add_key("i64", 11, raw<std::int64_t>(-(1ll << 40)));
  file.add_key("f64", 12, raw(0.1));
  file.add_tensor("a", {3, 2}, kF32, 0);
  file.add_tensor("b", {64, 2}, kQ8_0, 32);
  for (int i = 0; i < 6; ++i) file.data += raw(static_cast<float>(i));
  file.data.resize(32);
  file.data += std::string(136, 'q');
  return file;
}

TEST(GgufFile, ReadsEveryKindOfValueOfBothVersions) {
  for (const std::uint32_t version : {2u, 3u}) {
    GgufBytes bytes = small();
    bytes.version = version;
    const GgufFile file = open_gguf(bytes.bytes());
    EXPECT_EQ(file.version(), version);
    EXPECT_EQ(file.get_unsigned("u8"), 200u);
    EXPECT_EQ(file.get_unsigned("u16"), 60000u);
    EXPECT_EQ(file.get_unsigned("u32"), 4000000000u);
    EXPECT_EQ(file.get_unsigned("u64"), 1ull << 40);
    EXPECT_EQ(file.get_float("f32"), 0.25);
    EXPECT_EQ(file.get_float("f64"), 0.1);
    EXPECT_EQ(file.get_bool("yes"), true);
    EXPECT_EQ(file.get_string("name"), "h\xC3\xA9");
    EXPECT_THAT(*file.get_ints("list"), ElementsAreArray({-1, 7}));
    EXPECT_THAT(*file.get_strings("texts"), ElementsAreArray({"a", "", "bc"}));
    EXPECT_EQ(file.get_unsigned("missing"), std::nullopt);
    EXPECT_EQ(file.keys().size(), 14u);
  }
}

TEST(GgufFile, GivesTensorsWithTheirDimensionsReversed) {
  const GgufFile file = open_gguf(small().bytes());
  EXPECT_THAT(file.names(), ElementsAreArray({"a", "b"}));
  EXPECT_EQ(file.info("a").shape, (Shape{2, 3}));
  const Tensor a = file.tensor("a");
  for (int i = 0; i < 6; ++i) EXPECT_EQ(a.data<float>()[i], static_cast<float>(i));
  EXPECT_EQ(name_of(file.info("b").type), "Q8_0");
  EXPECT_EQ(file.bytes("b").size(), 136u);
  EXPECT_EQ(file.bytes("b")[0], std::byte{'q'});
  expect_error<UnsupportedError>([&] { file.tensor("b"); }, {"bytes", "\"b\"", "Q8_0", "F32, F16 or BF16"});
  expect_error<FormatError>([&] { file.info("c"); }, {"bytes", "no tensor \"c\""});
}

TEST(GgufFile, SaysWhichValueIsOfAnotherType) {
  const GgufFile file = open_gguf(small().bytes());
  expect_error<FormatError>([&] { file.get_unsigned("f32"); }, {"bytes", "f32 is float32", "an integer"});
  expect_error<FormatError>([&] { file.get_unsigned("i8"); }, {"i8 is -3", "0 or more"});
  expect_error<FormatError>([&] { file.get_unsigned("list"); }, {"list is a list of int32", "single"});
  expect_error<FormatError>([&] { file.get_float("u8"); }, {"u8 is uint8", "float32"});
  expect_error<FormatError>([&] { file.get_bool("u8"); }, {"u8 is uint8", "bool"});
  expect_error<FormatError>([&] { file.get_string("texts"); }, {"texts is a list of text"});
  expect_error<FormatError>([&] { file.get_strings("list"); }, {"list is a list of int32", "list of text"});
  expect_error<FormatError>([&] { file.get_ints("texts"); }, {"texts is a list of text", "integers"});
}

void expect_refused(const GgufBytes& bytes, std::initializer_list<std::string_view> parts) {
  expect_error<FormatError>([&] { open_gguf(bytes.bytes()); }, parts);
}
void expect_unsupported(const GgufBytes& bytes, std::initializer_list<std::string_view> parts) {
  expect_error<UnsupportedError>([&] { open_gguf(bytes.bytes()); }, parts);
}

TEST(GgufFile, RefusesOtherMagicsAndVersions) {
  GgufBytes file = small();
  file.magic = "GGML";
  expect_refused(file, {"bytes", "GGUF"});
  file = small();
  for (const std::uint32_t version : {0u, 1u, 4u}) {
    file.version = version;
    expect_unsupported(file, {concat("version ", version), "2 or 3"});
  }
  file.version = 0x03000000;
  expect_unsupported(file, {"big-endian"});
}

TEST(GgufFile, RefusesAFileThatEndsAnywhere) {
  const std::string whole = small().bytes();
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(open_gguf(whole.substr(0, size)), FormatError) << size;
}

TEST(GgufFile, RefusesCountsAndLengthsBeyondTheFile) {
  GgufBytes file = small();
  file.missing_tensors = 1ull << 60;
  expect_refused(file, {"number of tensors", "1152921504606846978"});
  file = small();
  file.missing_keys = 1ull << 62;
  expect_refused(file, {"number of keys"});
  file = small();
  file.add_key("long", 8, raw<std::uint64_t>(~0ull));
  expect_refused(file, {"\"long\"", "18446744073709551615 bytes"});
  file = small();
  file.add_key("many", 9, raw<std::uint32_t>(12) + raw<std::uint64_t>(1ull << 61));
  expect_refused(file, {"\"many\"", "its length is 2305843009213693952"});
  file = small();
  file.tensors.push_back(raw<std::uint64_t>(1ull << 50) + std::string(40, 'x'));
  expect_refused(file, {"the name of a tensor"});
}

TEST(GgufFile, RefusesValuesThatDoNotExist) {
  GgufBytes file = small();
  file.add_key("odd", 13, "");
  expect_refused(file, {"\"odd\"", "unknown type 13"});
  file = small();
  file.add_key("flag", 7, raw<std::uint8_t>(2));
  expect_refused(file, {"\"flag\"", "2", "0 or 1"});
  file = small();
  file.add_key("nested", 9, raw<std::uint32_t>(9) + raw<std::uint64_t>(0));
  expect_unsupported(file, {"\"nested\"", "list of lists"});
  file = small();
  file.add_key("u8", 0, raw<std::uint8_t>(1));
  expect_refused(file, {"\"u8\"", "occurs twice"});
}

TEST(GgufFile, RefusesTensorsThatCannotBe) {
  const auto with = [](std::string_view name, std::vector<std::uint64_t> dimensions, std::uint32_t type,
                       std::uint64_t offset) {
    GgufBytes file = small();
    file.add_tensor(name, std::move(dimensions), type, offset);
    file.data += std::string(1000, '\0');
    return file;
  };
  expect_refused(with("a", {1}, kF32, 192), {"\"a\"", "twice"});
  expect_refused(with("c", {}, kF32, 192), {"\"c\"", "0 dimensions"});
  expect_refused(with("c", {1, 1, 1, 1, 1}, kF32, 192), {"\"c\"", "5 dimensions"});
  expect_refused(with("c", {4, 0}, kF32, 192), {"\"c\"", "extent 0"});
  expect_refused(with("c", {1ull << 63}, kF32, 192), {"\"c\"", "extent"});
  expect_refused(with("c", {1ull << 40, 1ull << 40}, kF32, 192), {"\"c\"", "overflows"});
  expect_refused(with("c", {1ull << 62}, kF32, 192), {"\"c\""});
  expect_refused(with("c", {48, 2}, kQ8_0, 192), {"\"c\"", "rows of 48", "Q8_0: 32"});
  expect_refused(with("c", {128, 2}, kQ4_K, 192), {"\"c\"", "rows of 128", "Q4_K: 256"});
  expect_refused(with("c", {1}, 77, 192), {"\"c\"", "unknown type 77"});
  expect_unsupported(with("c", {256}, 10, 192), {"\"c\"", "Q2_K", "not supported"});
  expect_refused(with("c", {1}, kF32, 196), {"\"c\"", "196", "alignment 32"});
  expect_refused(with("c", {1}, kF32, 160), {"\"c\"", "overlaps", "168"});
  expect_refused(with("c", {1}, kF32, 4096), {"\"c\"", "file's end"});
  expect_refused(with("c", {4096}, kF32, 192), {"\"c\"", "file's end"});
}

TEST(GgufFile, HonoursAnotherAlignment) {
  GgufBytes file;
  file.alignment = 4;
  file.add_key("general.alignment", 4, raw<std::uint32_t>(4));
  file.add_tensor("a", {1}, kF32, 4);
  file.data = raw(0.0f) + raw(2.5f);
  EXPECT_EQ(open_gguf(file.bytes()).tensor("a").data<float>()[0], 2.5f);
  for (const std::uint32_t alignment : {0u, 3u}) {
    file.keys.clear();
    file.add_key("general.alignment", 4, raw(alignment));
    expect_refused(file, {"general.alignment", "power of 2"});
  }
  file.keys.clear();
  file.add_key("general.alignment", 8, text("4"));
  expect_refused(file, {"general.alignment"});
}

TEST(GgufFile, CopiesATensorThatIsNotAlignedToItsElements) {
  GgufBytes file;
  file.alignment = 1;
  file.add_key("general.alignment", 4, raw<std::uint32_t>(1));
  file.add_tensor("a", {1}, kF32, 1);
  file.add_tensor("b", {1}, kF32, 6);
  file.data = std::string("x") + raw(2.5f) + "y" + raw(3.5f);
  const GgufFile opened = open_gguf(file.bytes());
  EXPECT_EQ(opened.tensor("a").data<float>()[0], 2.5f);
  EXPECT_EQ(opened.tensor("b").data<float>()[0], 3.5f);
}

TEST(GgufWriter, WritesWhatIsReadAgain) {
  const test::TempDir directory;
  const Tensor plain = test::random_tensor({3, 5}, 1, DType::bf16);
  GgufMetadata metadata;
  metadata.set_uint32("u", 7);
  metadata.set_float32("f", 1e-5f);
  metadata.set_bool("b", true);
  metadata.set_string("s", "text");
  const std::string texts[] = {"x", "yz"};
  metadata.set_strings("ss", texts);
  const std::int32_t numbers[] = {-1, 5};
  metadata.set_int32s("is", numbers);
  const auto bytes = [&] {
    return std::vector<std::byte>(plain.view().raw(), plain.view().raw() + plain.nbytes());
  };
  for (const MappedFile::Mode mode : {MappedFile::Mode::kMap, MappedFile::Mode::kRead}) {
    AtomicFile out(directory / "x.gguf");
    const GgufTensor tensors[] = {{"one", GgufType::kBF16, {3, 5}, bytes},
                                  {"two", GgufType::kBF16, {15}, bytes}};
    write_gguf(out, metadata, tensors);
    out.commit();
    const GgufFile file(directory / "x.gguf", mode);
    EXPECT_EQ(file.get_unsigned("u"), 7u);
    EXPECT_EQ(file.get_float("f"), static_cast<double>(1e-5f));
    EXPECT_EQ(file.get_bool("b"), true);
    EXPECT_EQ(file.get_string("s"), "text");
    EXPECT_THAT(*file.get_strings("ss"), ElementsAreArray({"x", "yz"}));
    EXPECT_THAT(*file.get_ints("is"), ElementsAreArray({-1, 5}));
    EXPECT_TRUE(test::same_bits(file.tensor("one"), plain));
    EXPECT_EQ(file.info("two").shape, (Shape{15}));
    // Everything is padded, also at the end: llama.cpp reads as much.
    EXPECT_EQ(std::filesystem::file_size(directory / "x.gguf") % 32, 0u);
  }
}

TEST(GgufWriter, RefusesNamesThatCannotBe) {
  const test::TempDir directory;
  const auto write = [&](std::vector<GgufTensor> tensors) {
    AtomicFile out(directory / "x.gguf");
    write_gguf(out, {}, tensors);
  };
  const auto four = [] { return std::vector<std::byte>(4); };
  expect_error<ArgumentError>(
      [&] {
        write({{"a", GgufType::kF32, {1}, four}, {"a", GgufType::kF32, {1}, four}});
      },
      {"x.gguf", "\"a\""});
  expect_error<ArgumentError>([&] { write({{std::string(64, 'n'), GgufType::kF32, {1}, four}}); }, {"63"});
  expect_error<ShapeError>([&] { write({{"a", GgufType::kF32, {2}, four}}); }, {"\"a\"", "4 bytes", "8"});
  expect_error<UnsupportedError>([&] { write({{"a", GgufType::kQ4_0, {2, 16}, four}}); }, {"[a]", "Q4_0"});
}

TEST(GgufWriter, RefusesWhatTheReaderWould) {
  const test::TempDir directory;
  const auto four = [] { return std::vector<std::byte>(4); };
  const auto refuse = [&](const Shape& shape, GgufType type, std::initializer_list<std::string_view> parts) {
    expect_error<ArgumentError>(
        [&] {
          AtomicFile out(directory / "x.gguf");
          const GgufTensor tensors[] = {{"a", type, shape, four}};
          write_gguf(out, {}, tensors);
        },
        parts);
  };
  refuse({}, GgufType::kF32, {"x.gguf", "\"a\"", "0 dimensions", "1 to 4"});
  refuse({1, 1, 1, 1, 1}, GgufType::kF32, {"\"a\"", "5 dimensions", "1 to 4"});
  refuse({2, 0}, GgufType::kF32, {"\"a\"", "the extent 0"});
  refuse({1}, GgufType{99}, {"\"a\"", "the unknown type 99"});
  expect_error<ArgumentError>([] { gguf_tensor_size("a", GgufType{99}, {1}); }, {"[a]", "unknown type 99"});
  const auto refuse_keys = [&](std::initializer_list<std::string_view> keys,
                               std::initializer_list<std::string_view> parts) {
    GgufMetadata metadata;
    for (const std::string_view key : keys) metadata.set_uint32(key, 32);
    expect_error<ArgumentError>(
        [&] {
          AtomicFile out(directory / "x.gguf");
          write_gguf(out, metadata, {});
        },
        parts);
  };
  refuse_keys({"k", "l", "k"}, {"x.gguf", "two keys", "\"k\""});
  refuse_keys({"general.alignment"}, {"x.gguf", "general.alignment"});
}

}  // namespace
}  // namespace gpt
