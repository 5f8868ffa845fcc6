// Files that are not what safetensors demands: each gives a typed error that names the file and the tensor.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <random>
#include <string>

#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "support/expect_error.h"
#include "support/safetensors_bytes.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::open_bytes;
using test::safetensors_bytes;
using test::TempDir;

void expect_refused(const std::string& header, const std::string& data,
                    std::initializer_list<std::string_view> parts) {
  SCOPED_TRACE(header.substr(0, 200));
  expect_error<FormatError>([&] { open_bytes(safetensors_bytes(header, data)); }, parts);
  expect_error<FormatError>([&] { open_bytes(safetensors_bytes(header, data)); }, {"[bytes"});
}

// A file with the tensor "w" of four bytes, whose entry is given.
void expect_entry_refused(const std::string& entry, std::initializer_list<std::string_view> parts) {
  expect_refused("{\"w\":" + entry + "}", "abcd", parts);
}

std::string entry(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return concat("{\"dtype\":", dtype, ",\"shape\":", shape, ",\"data_offsets\":", offsets, "}");
}

TEST(SafetensorsBadInput, TheCasesBelowDifferFromAGoodFile) {
  EXPECT_NO_THROW(
      open_bytes(safetensors_bytes("{\"w\":" + entry("\"F32\"", "[1]", "[0,4]") + "}  ", "abcd")));
}

TEST(SafetensorsBadInput, TruncatedAtEveryLength) {
  const std::string whole = safetensors_bytes(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
      "01234567abc");
  EXPECT_NO_THROW(open_bytes(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    expect_error<FormatError>([&] { open_bytes(whole.substr(0, size)); }, {"[bytes"});
  }
}

TEST(SafetensorsBadInput, TruncatedFileOnDiskIsNamed) {
  const TempDir dir;
  test::write_file(dir / "cut.safetensors", safetensors_bytes("{}      ", "").substr(0, 12));
  for (const auto mode : {MappedFile::Mode::kMap, MappedFile::Mode::kRead})
    expect_error<FormatError>([&] { SafetensorsFile(dir / "cut.safetensors", mode); },
                              {"cut.safetensors]", "truncated"});
}

TEST(SafetensorsBadInput, BytesAfterTheLastTensor) {
  expect_refused("{\"w\":" + entry("\"U8\"", "[2]", "[0,2]") + "}", "abcd", {"4 bytes of data", "byte 2"});
  expect_refused("{}", "x", {"1 bytes of data"});
}

TEST(SafetensorsBadInput, HeaderLongerThanTheLimitOrTheFile) {
  std::string bytes = safetensors_bytes("{}", "");
  const auto with_length = [&bytes](std::uint64_t length) {
    std::memcpy(bytes.data(), &length, 8);
    return bytes;
  };
  expect_error<FormatError>([&] { open_bytes(with_length(3)); }, {"[bytes]", "3 bytes", "2 are there"});
  expect_error<FormatError>([&] { open_bytes(with_length(100'000'001)); },
                            {"100000001", "limit is 100000000"});
  for (const std::uint64_t length : {~0ull, ~0ull - 7, 1ull << 63, (1ull << 63) - 1})
    expect_error<FormatError>([&] { open_bytes(with_length(length)); }, {"[bytes]", "limit"});
}

TEST(SafetensorsBadInput, HeaderThatIsNotAnObject) {
  expect_refused("", "", {"'{'"});
  expect_refused("[]", "", {"'{'"});
  expect_refused(" {}", "", {"'{'"});
  expect_refused("\xef\xbb\xbf{}", "", {"'{'"});
  expect_refused("{", "", {"not valid JSON"});
  expect_refused("{\"w\":}", "", {"not valid JSON", "column"});
  expect_refused("{} x", "", {"not valid JSON"});
  expect_refused(std::string("{}\0", 3), "", {"NUL"});
  expect_refused("{\"\xff\":1}", "", {"not valid JSON", "UTF-8"});
  expect_refused("{\"w\":1e999}", "", {"1e999"});
}

TEST(SafetensorsBadInput, DeepNesting) {
  expect_refused("{\"w\":" + std::string(200'000, '['), "", {"nested deeper"});
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"w\":";
  expect_refused(objects, "", {"nested deeper"});
}

TEST(SafetensorsBadInput, NamesThatOccurTwice) {
  const std::string w = entry("\"U8\"", "[4]", "[0,4]");
  expect_refused("{\"w\":" + w + ",\"w\":" + w + "}", "abcd", {"\"w\"", "twice"});
  expect_refused("{\"w\":" + w + ",\"\\u0077\":" + w + "}", "abcd", {"\"w\"", "twice"});
  expect_entry_refused(R"({"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]})",
                       {"\"dtype\"", "twice"});
  expect_refused(R"({"__metadata__":{"a":"1","a":"2"}})", "", {"\"a\"", "twice"});
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", "", {"__metadata__", "twice"});
}

TEST(SafetensorsBadInput, DType) {
  expect_entry_refused(entry("\"float32\"", "[1]", "[0,4]"), {"\"w\"", "dtype \"float32\""});
  expect_entry_refused(entry("\"f32\"", "[1]", "[0,4]"), {"\"w\"", "dtype \"f32\""});
  expect_entry_refused(entry("\"F99\"", "[1]", "[0,4]"), {"\"w\"", "\"F99\""});
  expect_entry_refused(entry("32", "[1]", "[0,4]"), {"\"w\"", "dtype 32"});
  expect_entry_refused(entry("null", "[1]", "[0,4]"), {"\"w\"", "dtype null"});
}

TEST(SafetensorsBadInput, Offsets) {
  for (const char* offsets :
       {"[4,0]", "[0,5]", "[5,9]", "[-4,0]", "[0,-1]", "[0.0,4.0]", "[0,4.0]", "[0,\"4\"]", "[0]", "[0,4,4]",
        "[]", "4", "null", "{}", "[null,4]", "[0,18446744073709551615]", "[0,18446744073709551616]",
        "[18446744073709551612,0]"}) {
    SCOPED_TRACE(offsets);
    expect_entry_refused(entry("\"F32\"", "[1]", offsets), {"\"w\""});
  }
  expect_entry_refused(entry("\"F32\"", "[1]", "[4,0]"), {"\"w\"", "ends before it begins", "[4, 0]"});
  expect_entry_refused(entry("\"F32\"", "[1]", "[0,5]"), {"\"w\"", "byte 5", "4 bytes"});
  expect_entry_refused(entry("\"F32\"", "[1]", "[0,4.5]"), {"\"w\"", "4.5", "data_offsets"});
  expect_entry_refused(entry("\"F32\"", "[1]", "[0,18446744073709551616]"),
                       {"\"w\"", "1.8446744073709552e+19 in its data_offsets",
                        "expected an integer from 0 to 18446744073709551615"});
  expect_entry_refused(entry("\"F32\"", "[1]", "[-4,0]"), {"\"w\"", "-4", "data_offsets"});
}

TEST(SafetensorsBadInput, ShapeThatDoesNotFitTheOffsets) {
  expect_entry_refused(entry("\"F32\"", "[2]", "[0,4]"), {"\"w\"", "F32", "[2]", "8 bytes", "span 4"});
  expect_entry_refused(entry("\"F16\"", "[]", "[0,4]"), {"\"w\"", "F16", "2 bytes", "span 4"});
  expect_entry_refused(entry("\"F4\"", "[3]", "[0,4]"), {"\"w\"", "whole bytes"});
}

TEST(SafetensorsBadInput, Shape) {
  for (const char* shape : {"[-1]", "[1.0]", "[\"1\"]", "[null]", "[[1]]", "[true]", "1", "null", "{}",
                            "\"[1]\"", "[9223372036854775808]", "[18446744073709551615]", "[1e3]"}) {
    SCOPED_TRACE(shape);
    expect_entry_refused(entry("\"F32\"", shape, "[0,4]"), {"tensor \"w\""});
  }
}

TEST(SafetensorsBadInput, ShapeThatOverflows) {
  // Products that are 0 or 1 modulo 2^64 would pass a careless check.
  expect_entry_refused(entry("\"U8\"", "[4294967296,4294967296]", "[0,0]"), {"\"w\"", "overflows"});
  expect_entry_refused(entry("\"U8\"", "[4294967296,4294967296,0]", "[0,0]"), {"\"w\"", "overflows"});
  expect_entry_refused(entry("\"F32\"", "[4611686018427387905]", "[0,4]"), {"\"w\"", "overflows"});
  expect_entry_refused(entry("\"F64\"", "[2305843009213693952]", "[0,0]"), {"\"w\"", "overflows"});
}

TEST(SafetensorsBadInput, TooManyDimensions) {
  expect_error<UnsupportedError>(
      [] {
        open_bytes(
            safetensors_bytes("{\"w\":" + entry("\"U8\"", "[1,1,1,1,1,1,1,1,4]", "[0,4]") + "}", "abcd"));
      },
      {"\"w\"", "9 dimensions"});
}

TEST(SafetensorsBadInput, EntryThatIsNoTensor) {
  for (const char* bad : {"1", "null", "[]", "\"F32\"", "{}"}) expect_entry_refused(bad, {"\"w\""});
  expect_entry_refused(R"({"shape":[1],"data_offsets":[0,4]})", {"\"w\"", "no dtype"});
  expect_entry_refused(R"({"dtype":"F32","data_offsets":[0,4]})", {"\"w\"", "no shape"});
  expect_entry_refused(R"({"dtype":"F32","shape":[1]})", {"\"w\"", "no data_offsets"});
  expect_entry_refused(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4],"scale":2})",
                       {"\"w\"", "\"scale\""});
}

TEST(SafetensorsBadInput, OverlapsAndHoles) {
  const auto two = [](std::string_view a, std::string_view b) {
    return concat("{\"a\":", entry("\"U8\"", "[2]", a), ",\"b\":", entry("\"U8\"", "[2]", b), "}");
  };
  expect_refused(two("[0,2]", "[1,3]"), "abc", {"\"b\"", "overlaps", "byte 1"});
  expect_refused(two("[0,2]", "[0,2]"), "ab", {"\"b\"", "overlaps"});
  expect_refused(two("[0,2]", "[3,5]"), "abcde", {"\"b\"", "hole", "byte 3"});
  expect_refused(two("[1,3]", "[3,5]"), "abcde", {"\"a\"", "hole", "byte 1"});
  expect_refused(two("[3,5]", "[0,2]"), "abcde", {"\"a\"", "hole"});
  // An empty tensor inside another one leaves no hole but is not where the format allows it.
  expect_refused(
      "{\"a\":" + entry("\"U8\"", "[4]", "[0,4]") + ",\"e\":" + entry("\"U8\"", "[0]", "[2,2]") + "}", "abcd",
      {"\"e\"", "overlaps"});
}

TEST(SafetensorsBadInput, Metadata) {
  expect_refused(R"({"__metadata__":{"format":1}})", "", {"__metadata__", "\"format\"", "1"});
  expect_refused(R"({"__metadata__":{"format":null}})", "", {"__metadata__", "\"format\""});
  expect_refused(R"({"__metadata__":"pt"})", "", {"__metadata__", "\"pt\""});
  expect_refused(R"({"__metadata__":[]})", "", {"__metadata__", "a list"});
}

TEST(SafetensorsBadInput, HugeNameDoesNotFillTheMessage) {
  const std::string name(1'000'000, 'n');
  try {
    open_bytes(safetensors_bytes("{\"" + name + "\":1}", ""));
    ADD_FAILURE() << "accepted";
  } catch (const FormatError& error) {
    EXPECT_LT(std::strlen(error.what()), 500u);
  }
  try {
    open_bytes(safetensors_bytes("{\"" + name, ""));
    ADD_FAILURE() << "accepted";
  } catch (const FormatError& error) {
    EXPECT_LT(std::strlen(error.what()), 1000u);
  }
}

TEST(SafetensorsBadInput, OtherFiles) {
  const TempDir dir;
  std::mt19937_64 random(7);
  std::string noise(4096, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  const std::pair<const char*, std::string> files[] = {{"empty.bin", ""},
                                                       {"noise.bin", noise},
                                                       {"zip.bin", "PK\x03\x04\x14" + noise},
                                                       {"gguf.bin", std::string("GGUF\x03\0\0\0", 8) + noise},
                                                       {"text.bin", "{\"this\": \"is JSON\"}"}};
  for (const auto& [name, content] : files) {
    test::write_file(dir / name, content);
    for (const auto mode : {MappedFile::Mode::kMap, MappedFile::Mode::kRead})
      expect_error<FormatError>([&, n = name] { SafetensorsFile(dir / n, mode); },
                                {name, "no safetensors file"});
  }
}

TEST(SafetensorsBadInput, WhatIsNoFile) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "folder.safetensors");
  ASSERT_EQ(::mkfifo((dir / "pipe.safetensors").c_str(), 0600), 0);
  expect_error<IoError>([&] { SafetensorsFile(dir / "folder.safetensors"); },
                        {"folder.safetensors]", "directory"});
  expect_error<IoError>([&] { SafetensorsFile(dir / "pipe.safetensors"); }, {"pipe.safetensors]", "regular"});
  expect_error<IoError>([&] { SafetensorsFile(dir / "nothing.safetensors"); }, {"nothing.safetensors]"});
}

}  // namespace
}  // namespace gpt
