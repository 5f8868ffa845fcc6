// pytorch_model.bin: what torch.save writes of a dict of tensors, and what it must not be.
#include "io/pytorch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "support/torch_file.h"

namespace gpt {
namespace {

using test::expect_error;
using test::raw;
using test::TempDir;
using test::ZipBytes;
using ::testing::ElementsAreArray;
namespace pickle = test::pickle;

const std::string kFloats = [] {
  std::string out;
  for (int i = 0; i < 12; ++i) out += raw(static_cast<float>(i));
  return out;
}();
const std::string kStorage = pickle::storage("FloatStorage", "0", 12);

ZipBytes archive(const std::string& pickle_bytes) {
  return {.members = {{"pytorch_model/data.pkl", pickle_bytes},
                      {"pytorch_model/byteorder", "little"},
                      {"pytorch_model/data/0", kFloats},
                      {"pytorch_model/version", "3\n"}}};
}

/// A dict of one tensor "w".
std::string dict_of(const std::string& tensor) { return pickle::dict(pickle::text("w") + tensor); }

class PyTorchFile : public ::testing::Test {
 protected:
  SafetensorsFile open(const std::string& bytes, MappedFile::Mode mode = MappedFile::Mode::kMap) {
    test::write_file(dir_ / "pytorch_model.bin", bytes);
    return open_pytorch_file(dir_ / "pytorch_model.bin", mode);
  }
  void expect_refused(const std::string& bytes, std::initializer_list<std::string_view> parts) {
    expect_error<FormatError>([&] { open(bytes); }, parts);
  }
  void expect_unsupported(const std::string& bytes, std::initializer_list<std::string_view> parts) {
    expect_error<UnsupportedError>([&] { open(bytes); }, parts);
  }

  TempDir dir_;
};

TEST_F(PyTorchFile, GivesTheTensorsOfADict) {
  const std::string tensors = pickle::text("w") + pickle::tensor(kStorage, 0, {2, 3}, {3, 1}) +
                              pickle::text("tied") + pickle::tensor(kStorage, 0, {2, 3}, {3, 1}) +
                              pickle::text("part") + pickle::tensor(kStorage, 6, {6, 1}, {1, 77});
  for (const bool zip64 : {false, true})
    for (const MappedFile::Mode mode : {MappedFile::Mode::kMap, MappedFile::Mode::kRead}) {
      ZipBytes zip = archive(pickle::dict(tensors));
      zip.zip64 = zip64;
      const SafetensorsFile file = open(zip.bytes(), mode);
      EXPECT_THAT(file.names(), ElementsAreArray({"w", "tied", "part"}));
      EXPECT_EQ(file.info("w").shape, (Shape{2, 3}));
      EXPECT_EQ(file.info("w").stored_dtype, "F32");
      for (int i = 0; i < 6; ++i) {
        EXPECT_EQ(file.tensor("w").data<float>()[i], static_cast<float>(i));
        EXPECT_EQ(file.tensor("tied").data<float>()[i], static_cast<float>(i));
        EXPECT_EQ(file.tensor("part").data<float>()[i], static_cast<float>(i + 6));
      }
    }
}

TEST_F(PyTorchFile, KnowsTheTypesOfStorages) {
  const std::pair<const char*, DType> types[] = {
      {"HalfStorage", DType::f16}, {"BFloat16Storage", DType::bf16}, {"DoubleStorage", DType::f64},
      {"LongStorage", DType::i64}, {"ByteStorage", DType::u8},       {"BoolStorage", DType::boolean}};
  for (const auto& [name, dtype] : types)
    EXPECT_EQ(open(archive(dict_of(pickle::tensor(pickle::storage(name, "0", 6), 0, {6}, {1}))).bytes())
                  .info("w")
                  .dtype,
              dtype);
  expect_unsupported(
      archive(dict_of(pickle::tensor(pickle::storage("QInt8Storage", "0", 6), 0, {6}, {1}))).bytes(),
      {"pytorch_model.bin", "\"w\"", "QInt8Storage"});
}

TEST_F(PyTorchFile, ReadsParametersAsTheirTensors) {
  const std::string parameter =
      pickle::global("torch._utils", "_rebuild_parameter") +
      pickle::tuple(pickle::tensor(kStorage, 0, {6}, {1}) + "\x88" + pickle::kOrderedDict) + "R";
  EXPECT_EQ(open(archive(dict_of(parameter)).bytes()).info("w").shape, (Shape{6}));
}

TEST_F(PyTorchFile, RefusesEveryOtherGlobalByItsName) {
  for (const auto& [module, name] : {std::pair("os", "system"),
                                     {"builtins", "eval"},
                                     {"torch", "load"},
                                     {"torch._utils", "_rebuild_sparse_tensor"},
                                     {"collections", "Counter"},
                                     {"torch", "jit.Storage"},
                                     {"torch.storage", "FloatStorage"}}) {
    const std::string call =
        pickle::global(module, name) + pickle::tuple(pickle::text("touch /tmp/executed")) + "R";
    expect_unsupported(archive(dict_of(call)).bytes(),
                       {"pytorch_model.bin", concat("\"", module, ".", name, "\""), "nothing was executed"});
    // The same by protocol 4.
    const std::string stacked =
        "\x8c" + raw(static_cast<std::uint8_t>(std::string_view(module).size())) + module + "\x8c" +
        raw(static_cast<std::uint8_t>(std::string_view(name).size())) + name + "\x93)R";
    expect_unsupported(archive(dict_of(stacked)).bytes(), {concat("\"", module, ".", name, "\"")});
  }
}

TEST_F(PyTorchFile, RefusesOpcodesThatNoDictOfTensorsNeeds) {
  for (const char* op : {"i", "o", "P1\n", "S'x'\n", "\x81", "\x92", "\x82\x01"})
    expect_unsupported(archive(dict_of(std::string("N)") + op)).bytes(), {"pytorch_model.bin", "opcode"});
}

TEST_F(PyTorchFile, RefusesWhatIsNoDictOfTensors) {
  expect_refused(archive("\x80\x02].").bytes(), {"no dict of tensors"});
  expect_refused(archive(dict_of(pickle::number(3))).bytes(), {"\"w\"", "no tensor"});
  expect_refused(archive(pickle::dict(pickle::number(3) + pickle::tensor(kStorage, 0, {6}, {1}))).bytes(),
                 {"no text"});
  expect_refused(archive(pickle::dict(pickle::text("w"))).bytes(), {"no value"});
  for (const char* bad :
       {"", "\x80", ".", "t.", "0.", "h\x05.", "R.", "NNR.", "u.", "(a.", "}(NNt.", "]N.s."})
    EXPECT_THROW(open(archive(bad).bytes()), FormatError) << bad;
  const std::string whole = dict_of(pickle::tensor(kStorage, 0, {6}, {1}));
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(open(archive(whole.substr(0, size)).bytes()), Error) << size;
}

// Few bytes must not ask for much memory: what the memo holds is recalled by two.
TEST_F(PyTorchFile, BoundsTheNamesThatAreRecalledAgainAndAgain) {
  const std::string w = pickle::tensor(kStorage, 0, {6}, {1}) + "q\x01";
  const std::string again = "h" + raw(std::uint8_t{2}) + "h\x01";
  expect_refused(archive(pickle::dict(pickle::text(std::string(1001, 'k')) + "q\x02" + w + again)).bytes(),
                 {"a key", "1001 bytes", "at most 1000"});
  EXPECT_EQ(open(archive(pickle::dict(pickle::text(std::string(1000, 'k')) + w)).bytes()).names().size(), 1);
  expect_refused(archive(pickle::dict(pickle::text("w") + "q\x02" + w + again)).bytes(),
                 {"its pickle", "\"w\"", "twice"});
  // A storage's type, which would stand in the node of every STACK_GLOBAL.
  const std::string type =
      pickle::text("torch") + "q\x03" + pickle::text(std::string(1000, 'A') + "Storage") + "q\x04\x93";
  expect_unsupported(archive(dict_of(type)).bytes(), {"1012 bytes", "nothing was executed"});
}

TEST_F(PyTorchFile, BoundsThePickle) {
  const std::string w = dict_of(pickle::tensor(kStorage, 0, {6}, {1}));
  const auto padded = [&](std::size_t size) {
    return w.substr(0, 2) + pickle::text(std::string(size - w.size() - 6, 'x')) + "0" + w.substr(2);
  };
  EXPECT_EQ(open(archive(padded(2'000'000)).bytes()).names().size(), 1);
  expect_refused(archive(padded(2'000'001)).bytes(), {"2000001 bytes", "limit is 2000000"});
}

TEST_F(PyTorchFile, SurvivesWhatRefersToItself) {
  // A list within itself, and nested ten thousand deep.
  expect_refused(archive("\x80\x02]q\x01h\x01"
                         "a.")
                     .bytes(),
                 {"no dict"});
  expect_refused(archive("\x80\x02)" + std::string(10000, '\x85') + ".").bytes(), {"no dict"});
}

TEST_F(PyTorchFile, RefusesTensorsThatDoNotFitTheirStorage) {
  const auto refuse = [&](const std::string& tensor, std::initializer_list<std::string_view> parts) {
    expect_refused(archive(dict_of(tensor)).bytes(), parts);
  };
  refuse(pickle::tensor(kStorage, 7, {2, 3}, {3, 1}), {"\"w\"", "6 elements from 7 on", "holds 12"});
  refuse(pickle::tensor(kStorage, 13, {0}, {1}), {"\"w\"", "holds 12"});
  refuse(pickle::tensor(pickle::storage("FloatStorage", "0", 13), 0, {6}, {1}),
         {"\"w\"", "13 elements", "12"});
  refuse(pickle::tensor(pickle::storage("FloatStorage", "1", 12), 0, {6}, {1}),
         {"\"w\"", "data/1", "missing"});
  refuse(pickle::tensor(kStorage, -1, {6}, {1}), {"an offset -1"});
  refuse(pickle::tensor(kStorage, 0, {-6}, {1}), {"a size -6"});
  refuse(pickle::tensor(kStorage, 0, {2, 3}, {1}), {"\"w\"", "2 sizes and 1 strides"});
  const std::vector<std::int32_t> nine(9, 1);
  refuse(pickle::tensor(kStorage, 0, nine, nine), {"a size of 9 axes", "at most 8"});
  refuse(pickle::tensor(kStorage, 0, {2000000000, 2000000000, 2000000000}, {1, 1, 1}),
         {"\"w\"", "overflows"});
  expect_unsupported(archive(dict_of(pickle::tensor(kStorage, 0, {2, 3}, {1, 2}))).bytes(),
                     {"\"w\"", "not contiguous", "axis 1", "stride 2, expected 1"});
}

TEST_F(PyTorchFile, RefusesArchivesThatTorchSaveDoesNotWrite) {
  const std::string whole = dict_of(pickle::tensor(kStorage, 0, {6}, {1}));
  ZipBytes zip = archive(whole);
  zip.method = 8;
  expect_unsupported(zip.bytes(), {"pytorch_model.bin", "compressed"});
  zip = archive(whole);
  zip.flags = 1;
  expect_unsupported(zip.bytes(), {"encrypted"});
  zip = archive(whole);
  zip.members.push_back({"pytorch_model/constants.pkl", "x"});
  expect_unsupported(zip.bytes(), {"TorchScript"});
  zip = archive(whole);
  zip.members[1].second = "big";
  expect_unsupported(zip.bytes(), {"little-endian"});
  zip = archive(whole);
  zip.members.push_back(zip.members[2]);
  expect_refused(zip.bytes(), {"\"pytorch_model/data/0\"", "twice"});
  zip.members = {{"x", "y"}};
  expect_refused(zip.bytes(), {"data.pkl"});
}

TEST_F(PyTorchFile, RefusesAnArchiveThatIsCutOrSpoiled) {
  const std::string whole = archive(dict_of(pickle::tensor(kStorage, 0, {6}, {1}))).bytes();
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_THROW(open(whole.substr(0, size)), FormatError) << size;
  // A byte changed anywhere is an error of ours or changes nothing that is looked at, and never more than that.
  for (std::size_t i = 0; i < whole.size(); ++i)
    for (const char mask : {'\x01', '\x80', '\xff'}) {
      std::string spoiled = whole;
      spoiled[i] = static_cast<char>(spoiled[i] ^ mask);
      try {
        const SafetensorsFile file = open(spoiled);
        for (const std::string& name : file.names()) static_cast<void>(file.tensor(name));
      } catch (const Error&) {
      }
    }
}

TEST_F(PyTorchFile, SaysWhatAnOlderFileIs) {
  expect_unsupported(std::string("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15),
                     {"pytorch_model.bin", "before 1.6", "torch.save"});
  expect_refused("no archive", {"zip archive"});
}

TEST_F(PyTorchFile, CheckpointReadsItAloneAndInShards) {
  const std::string one = archive(dict_of(pickle::tensor(kStorage, 0, {6}, {1}))).bytes();
  test::write_file(dir_ / "pytorch_model.bin", one);
  EXPECT_THAT(Checkpoint::pickled(dir_.path()).names(), ElementsAreArray({"w"}));
  const TempDir shards;
  test::write_file(shards / "pytorch_model-00001-of-00002.bin", one);
  test::write_file(shards / "pytorch_model-00002-of-00002.bin",
                   archive(pickle::dict(pickle::text("v") + pickle::tensor(kStorage, 6, {6}, {1}))).bytes());
  test::write_file(
      shards / "pytorch_model.bin.index.json",
      R"({"weight_map": {"w": "pytorch_model-00001-of-00002.bin", "v": "pytorch_model-00002-of-00002.bin"}})");
  const Checkpoint checkpoint = Checkpoint::pickled(shards.path());
  EXPECT_THAT(checkpoint.names(), ElementsAreArray({"w", "v"}));
  EXPECT_EQ(checkpoint.tensor("v").data<float>()[0], 6.0f);
  const TempDir empty;
  expect_error<IoError>([&] { Checkpoint::pickled(empty.path()); }, {"pytorch_model.bin"});
}

}  // namespace
}  // namespace gpt
