#include "gpt/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/json.h"
#include "support/safetensors_bytes.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::open_bytes;
using test::safetensors_bytes;
using test::TempDir;
using testing::ElementsAreArray;
using testing::IsEmpty;

constexpr DType kAllDTypes[] = {DType::f32, DType::f16, DType::bf16,   DType::f64, DType::i8,
                                DType::i16, DType::i32, DType::i64,    DType::u8,  DType::u16,
                                DType::u32, DType::u64, DType::boolean};

Tensor counting(const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype);
  for (std::size_t i = 0; i < t.nbytes(); ++i)
    t.view().raw()[i] = static_cast<std::byte>(dtype == DType::boolean ? i % 2 : i * 37 + 1);
  return t;
}

void expect_equal(ConstTensorView a, ConstTensorView b) {
  EXPECT_EQ(a.dtype(), b.dtype());
  EXPECT_EQ(a.shape(), b.shape());
  ASSERT_EQ(a.nbytes(), b.nbytes());
  EXPECT_TRUE(a.empty() || std::memcmp(a.raw(), b.raw(), a.nbytes()) == 0);
}

TEST(Safetensors, RoundTripsEveryDType) {
  const TempDir dir;
  std::vector<Tensor> tensors;
  std::vector<NamedTensor> named;
  for (const DType dtype : kAllDTypes) tensors.push_back(counting({3, 5}, dtype));
  for (const Tensor& t : tensors) named.push_back({std::string(name_of(t.dtype())), t});
  save_safetensors(dir / "all.safetensors", named, {{"format", "pt"}});

  for (const auto mode : {MappedFile::Mode::kMap, MappedFile::Mode::kRead}) {
    const SafetensorsFile file(dir / "all.safetensors", mode);
    EXPECT_EQ(file.names().size(), std::size(kAllDTypes));
    EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}}));
    EXPECT_EQ(file.source(), (dir / "all.safetensors").string());
    for (const Tensor& t : tensors) {
      const TensorInfo& info = file.info(name_of(t.dtype()));
      EXPECT_EQ(info.dtype, t.dtype());
      EXPECT_EQ(info.shape, t.shape());
      EXPECT_EQ(info.nbytes, t.nbytes());
      const Tensor read = file.tensor(name_of(t.dtype()));
      expect_equal(read, t);
    }
  }
}

TEST(Safetensors, ReadsEveryTensorIntoMemoryOfItsOwnWhenItDoesNotMap) {
  const TempDir dir;
  const Tensor a = counting({100}, DType::f32), b = counting({7}, DType::u8);
  save_safetensors(dir / "t", std::vector<NamedTensor>{{"a", a}, {"b", b}});
  const SafetensorsFile file(dir / "t", MappedFile::Mode::kRead);
  Tensor first = file.tensor("a");
  first.data<float>()[0] = 99;
  const Tensor second = file.tensor("a");
  expect_equal(second, a);
  EXPECT_NE(first.view().raw(), second.view().raw());
  std::filesystem::resize_file(dir / "t", std::filesystem::file_size(dir / "t") - 1);
  expect_equal(file.tensor("a"), a);
  expect_error<IoError>([&] { file.tensor("b"); }, {"t]", "ended 1 bytes early"});
}

TEST(Safetensors, RoundTripsScalarsEmptyTensorsAndManyDimensions) {
  const TempDir dir;
  const std::vector<Tensor> tensors = {counting(Shape{}, DType::f32), counting({0}, DType::f64),
                                       counting({3, 0, 2}, DType::i8),
                                       counting({1, 2, 1, 2, 1, 2, 1, 3}, DType::f16)};
  std::vector<NamedTensor> named;
  for (const Tensor& t : tensors) named.push_back({concat("t", named.size()), t});
  save_safetensors(dir / "t", named);
  const SafetensorsFile file(dir / "t");
  for (const NamedTensor& t : named) {
    const Tensor read = file.tensor(t.name);
    expect_equal(read, t.tensor);
  }
}

TEST(Safetensors, RoundTripsAFileWithoutTensors) {
  const TempDir dir;
  save_safetensors(dir / "none", {});
  EXPECT_THAT(SafetensorsFile(dir / "none").names(), IsEmpty());
}

TEST(Safetensors, WriterAlignsEveryTensorSoThatNoneIsCopied) {
  const TempDir dir;
  const Tensor odd = counting({3}, DType::u8), half = counting({5}, DType::bf16),
               wide = counting({2}, DType::i64), single = counting({3}, DType::f32);
  const std::vector<NamedTensor> named = {
      {"a_odd", odd}, {"b_half", half}, {"z_wide", wide}, {"c_single", single}};
  save_safetensors(dir / "t", named, {{"k", "a value that makes the header's length odd"}});

  const std::string bytes = test::read_file(dir / "t");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ((8 + length) % 64,
            0u);  // the data begin at a cache line, and where the format asks for it: at 8 bytes
  const SafetensorsFile file(dir / "t");
  EXPECT_THAT(file.names(), ElementsAreArray({"z_wide", "c_single", "b_half", "a_odd"}));
  for (const NamedTensor& t : named) {
    // Borrowed tensors of two calls are one memory, copied ones are two.
    EXPECT_EQ(file.tensor(t.name).view().raw(), file.tensor(t.name).view().raw()) << t.name;
  }
}

TEST(Safetensors, CopiesATensorThatTheFileDoesNotAlign) {
  const float value = 1.5f;
  std::string data(5, '\1');
  std::memcpy(data.data() + 1, &value, 4);
  const SafetensorsFile file = open_bytes(safetensors_bytes(
      R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
      R"("f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}, "g":{"dtype":"F32","shape":[0],"data_offsets":[1,1]}})",
      data));
  const Tensor t = file.tensor("f");
  EXPECT_EQ(t.data<float>()[0], value);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.view().raw()) % 4, 0u);
}

TEST(Safetensors, TensorOutlivesTheFileObject) {
  const TempDir dir;
  const Tensor t = counting({1000}, DType::f32);
  save_safetensors(dir / "t", std::vector<NamedTensor>{{"t", t}});
  Tensor read;
  { read = SafetensorsFile(dir / "t").tensor("t"); }
  expect_equal(read, t);
}

TEST(Safetensors, MappedTensorKeepsItsValuesWhenItsFileIsReplaced) {
  const TempDir dir;
  const Tensor old_values = counting({5000}, DType::f32), new_values = Tensor::zeros({7}, DType::f32);
  save_safetensors(dir / "t", std::vector<NamedTensor>{{"t", old_values}});
  const Tensor mapped = SafetensorsFile(dir / "t").tensor("t");
  save_safetensors(dir / "t", std::vector<NamedTensor>{{"t", new_values}, {"old", mapped}});
  expect_equal(mapped, old_values);
  const SafetensorsFile replaced(dir / "t");
  const Tensor moved = replaced.tensor("old"), now = replaced.tensor("t");
  expect_equal(moved, old_values);
  expect_equal(now, new_values);
}

TEST(Safetensors, WritingToAMappedTensorLeavesTheFileAlone) {
  const TempDir dir;
  save_safetensors(dir / "t", std::vector<NamedTensor>{{"t", counting({4}, DType::f32)}});
  const std::string before = test::read_file(dir / "t");
  Tensor mapped = SafetensorsFile(dir / "t").tensor("t");
  mapped.data<float>()[0] = 42.0f;
  EXPECT_EQ(test::read_file(dir / "t"), before);
}

TEST(Safetensors, ListsTypesItLacksAndRefusesThemByName) {
  const SafetensorsFile file =
      open_bytes(safetensors_bytes(R"({"eight":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},)"
                                   R"("four":{"dtype":"F4","shape":[2],"data_offsets":[2,3]},)"
                                   R"("known":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}})",
                                   "abcd"));
  EXPECT_THAT(file.names(), ElementsAreArray({"eight", "four", "known"}));
  EXPECT_EQ(file.info("eight").dtype, std::nullopt);
  EXPECT_EQ(file.info("eight").stored_dtype, "F8_E4M3");
  EXPECT_EQ(file.info("four").nbytes, 1u);
  EXPECT_EQ(file.tensor("known").data<std::uint8_t>()[0], 'd');
  expect_error<UnsupportedError>([&] { file.tensor("eight"); }, {"bytes", "\"eight\"", "F8_E4M3"});
}

TEST(Safetensors, NamesAMissingTensor) {
  const SafetensorsFile file = open_bytes(safetensors_bytes("{}", ""));
  EXPECT_FALSE(file.contains("wte.weight"));
  expect_error<FormatError>([&] { file.tensor("wte.weight"); }, {"[bytes]", "\"wte.weight\""});
  expect_error<FormatError>([&] { file.info("wte.weight"); }, {"[bytes]", "\"wte.weight\""});
}

TEST(Safetensors, RefusesABoolThatIsNeitherTrueNorFalse) {
  const SafetensorsFile file = open_bytes(safetensors_bytes(
      R"({"mask":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})", std::string("\0\1\2", 3)));
  expect_error<FormatError>([&] { file.tensor("mask"); }, {"\"mask\"", "BOOL", "2"});
}

TEST(Safetensors, KeepsNamesThatNeedEscaping) {
  const TempDir dir;
  const Tensor t = counting({1}, DType::f32);
  const std::string name = "quote\" back\\slash \xc3\xa9\xe2\x82\xac line\n";
  save_safetensors(dir / "t", std::vector<NamedTensor>{{name, t}}, {{"k\"", "v\\"}});
  const SafetensorsFile file(dir / "t");
  EXPECT_THAT(file.names(), ElementsAreArray({name}));
  EXPECT_EQ(file.metadata(), (Metadata{{"k\"", "v\\"}}));
}

TEST(Safetensors, WriterRefusesImpossibleNames) {
  const TempDir dir;
  const Tensor t = counting({1}, DType::f32);
  const auto save = [&](std::vector<NamedTensor> tensors, const Metadata& metadata = {}) {
    save_safetensors(dir / "t", tensors, metadata);
  };
  expect_error<ArgumentError>([&] { save({{"twice", t}, {"other", t}, {"twice", t}}); }, {"t]", "\"twice\""});
  const Tensor bytes = counting({1}, DType::u8);
  expect_error<ArgumentError>([&] { save({{"twice", t}, {"twice", bytes}}); }, {"\"twice\""});
  expect_error<ArgumentError>([&] { save({{"__metadata__", t}}); }, {"__metadata__"});
  expect_error<ArgumentError>([&] { save({{"\xff", t}}); }, {"UTF-8"});
  expect_error<ArgumentError>([&] { save({{"t", t}}, {{"k", "\xc3"}}); }, {"UTF-8"});
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

// An independent reading of the format: header and offsets by nlohmann, sizes by the shape.
void check_against_plain_reading(const std::filesystem::path& path) {
  SCOPED_TRACE(path.string());
  const std::string bytes = test::read_file(path);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const auto header = test::parse_json(bytes.substr(8, length));
  const SafetensorsFile file(path);
  std::size_t seen = 0;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      EXPECT_EQ(file.metadata(), entry.get<Metadata>());
      continue;
    }
    ++seen;
    const Tensor t = file.tensor(name);
    EXPECT_EQ(std::vector(t.shape().begin(), t.shape().end()),
              entry["shape"].get<std::vector<std::int64_t>>());
    const auto begin = entry["data_offsets"][0].get<std::size_t>(),
               end = entry["data_offsets"][1].get<std::size_t>();
    ASSERT_EQ(t.nbytes(), end - begin) << name;
    EXPECT_EQ(std::memcmp(t.view().raw(), bytes.data() + 8 + length + begin, end - begin), 0) << name;
  }
  EXPECT_EQ(file.names().size(), seen);
}

TEST(Safetensors, ReadsEveryGoldenFile) {
  const char* folders = std::getenv("GPT_GOLDENS");
  if (folders == nullptr) GTEST_SKIP() << "GPT_GOLDENS is not set";
  std::size_t files = 0;
  std::istringstream list(folders);
  for (std::string folder; std::getline(list, folder, ':');) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.path().extension() != ".safetensors") continue;
      check_against_plain_reading(entry.path());
      ++files;
    }
  }
  EXPECT_GT(files, 0u) << folders;
}

TEST(Safetensors, RefusesToRoundANumberToInfinity) {
  const TempDir dir;
  Tensor t = Tensor::zeros({(1 << 18) + 5}, DType::f32);  // in more than one part
  const auto save = [&] { save_safetensors(dir / "t", std::vector<NamedTensor>{{"w", t, DType::f16}}); };
  t.data<float>()[(1 << 18) + 3] = std::numeric_limits<float>::infinity();
  save();
  EXPECT_EQ(SafetensorsFile(dir / "t").tensor("w").to(DType::f32).data<float>()[(1 << 18) + 3],
            std::numeric_limits<float>::infinity());
  std::filesystem::remove(dir / "t");
  t.data<float>()[(1 << 18) + 4] = 65520.0f;  // the least that float16 rounds to infinity
  expect_error<NumericError>(save, {"[w]", "65520", "float16"});
  EXPECT_FALSE(std::filesystem::exists(dir / "t"));
}

}  // namespace
}  // namespace gpt
