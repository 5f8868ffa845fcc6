// Quantized checkpoints: saved, loaded, and damaged in every way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/model.h"
#include "gpt/models/quantize.h"
#include "models/tiny_models.h"
#include "support/expect_error.h"
#include "support/random_model.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;
using ops::WeightFormat;
using test::expect_error;
using test::logits_of;
using test::random_network;
using test::read_file;
using test::same_bits;
using test::TempDir;
using test::tiny_config;

constexpr ops::QuantizationFormat kAsymmetric{
    .format = WeightFormat::int4, .group_size = 32, .symmetric = false};

/// int8 but for one matrix in int4 with zero points and one that is not quantized.
Model quantized_model(bool tied = true) {
  Gpt2Config config = tiny_config();
  config.tie_word_embeddings = tied;
  Gpt2 network = random_network(config, 1);
  quantize(network,
           {.format = {.group_size = 32},
            .overrides = {{"h.0.attn.c_attn.weight", kAsymmetric}, {"h.1.mlp.c_fc.weight", std::nullopt}}});
  HfConfig file;
  config.to_hf(file);
  return Model(std::move(network), file);
}

TEST(QuantizedFiles, LoadAsTheyWereSaved) {
  for (const bool tied : {true, false})
    for (const bool map : {true, false}) {
      const TempDir directory;
      const Model model = quantized_model(tied);
      model.save(directory.path());
      const Model loaded = Model::load(
          directory.path(),
          {.map = map, .pack = map, .on_warning = [](auto message) { ADD_FAILURE() << message; }});
      EXPECT_TRUE(same_bits(logits_of(loaded), logits_of(model)));
      std::vector<ops::QuantizationFormat> formats;
      model.network().visit_matrices(
          [&](const std::string&, const ops::Weight& w) { formats.push_back(w.quantization()); });
      std::size_t i = 0;
      loaded.network().visit_matrices([&](const std::string& name, const ops::Weight& w) {
        if (w.quantized()) {
          EXPECT_EQ(w.quantization(), formats[i]) << name;
        }
        ++i;
      });
      loaded.save(directory / "again");
      for (const char* file : {"model.safetensors", "config.json"})
        EXPECT_EQ(read_file(directory / "again" / file), read_file(directory / file)) << file;
    }
}

TEST(QuantizedFiles, KeepEveryFormat) {
  for (const ops::QuantizationFormat f :
       {ops::QuantizationFormat{.group_size = 0, .weight_only = true},
        ops::QuantizationFormat{.format = WeightFormat::int4, .group_size = 256}, kAsymmetric}) {
    const TempDir directory;
    Gpt2 network = random_network(tiny_config(), 1);
    quantize(network, {.format = f});
    HfConfig file;
    tiny_config().to_hf(file);
    Model(network, file).save(directory.path());
    Model::load(directory.path())
        .network()
        .visit_matrices([&](const std::string& name, const ops::Weight& w) {
          if (name != "wpe.weight") {
            EXPECT_EQ(w.quantization(), f) << name;
          }
        });
  }
}

TEST(QuantizedFiles, AreMappedWithoutACopy) {
  const TempDir directory;
  quantized_model().save(directory.path());
  const SafetensorsFile file(directory / "model.safetensors");
  const Model model = Model::load(directory.path());
  const auto place_in_file = [&](const std::string& name) { return file.tensor(name).view().raw(); };
  std::vector<std::ptrdiff_t> shifts;  // between the two mappings: the same for all tensors of the file
  model.network().visit_matrices([&](const std::string& name, const ops::Weight& w) {
    shifts.push_back(w.values.view().raw() - place_in_file("transformer." + name));
    if (w.quantized())
      shifts.push_back(w.scales.view().raw() - place_in_file("transformer." + name + ".scales"));
  });
  EXPECT_THAT(shifts, ::testing::Each(shifts.front()));
}

/// A quantized checkpoint whose parts a test may change.
class Files {
 public:
  Files() {
    quantized_model().save(directory_.path());
    const SafetensorsFile file(directory_ / "model.safetensors");
    for (const std::string& name : file.names()) tensors_.emplace_back(name, file.tensor(name).clone());
  }

  Tensor& tensor(const std::string& name) {
    for (auto& [stored, tensor] : tensors_)
      if (stored == name) return tensor;
    throw std::out_of_range(name);
  }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const auto& t) { return t.first == name; });
  }
  void add(const std::string& name, const Tensor& tensor) { tensors_.emplace_back(name, tensor); }
  /// Replaces a text that config.json holds.
  void replace(const std::string& from, const std::string& to) {
    std::string text = read_file(directory_ / "config.json");
    const std::size_t at = text.find(from);
    if (at == text.npos) throw std::out_of_range(from);
    test::write_file(directory_ / "config.json", text.replace(at, from.size(), to));
  }
  void load() {
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors_) named.push_back({name, tensor.view()});
    save_safetensors(directory_ / "model.safetensors", named);
    Model::load(directory_.path());
  }

 private:
  TempDir directory_;
  std::vector<std::pair<std::string, Tensor>> tensors_;
};

template <class E>
void expect_refused(const std::function<void(Files&)>& damage,
                    std::initializer_list<std::string_view> parts) {
  Files files;
  damage(files);
  expect_error<E>([&] { files.load(); }, parts);
}

const std::string kInt8Name = "transformer.h.0.mlp.c_fc.weight";
const std::string kInt4Name = "transformer.h.0.attn.c_attn.weight";

TEST(QuantizedFiles, NameTheTensorThatDoesNotFit) {
  expect_refused<FormatError>([](Files& f) { f.remove(kInt8Name); },
                              {"model.safetensors", "h.0.mlp.c_fc.weight is missing"});
  expect_refused<FormatError>([](Files& f) { f.remove(kInt8Name + ".scales"); },
                              {"model.safetensors", kInt8Name + ".scales is missing", "int8"});
  expect_refused<FormatError>([](Files& f) { f.remove(kInt4Name + ".zero_points"); },
                              {kInt4Name + ".zero_points is missing", "asymmetric"});
  expect_refused<FormatError>(
      [](Files& f) {
        f.add(kInt8Name + ".zero_points", Tensor::zeros({4, 1, 16}, DType::u8));
      },
      {kInt8Name + ".zero_points", "symmetric"});
  expect_refused<FormatError>(
      [](Files& f) {
        f.tensor(kInt8Name) = Tensor::zeros({16, 64});
      },
      {kInt8Name + " is F32, expected I8"});
  expect_refused<FormatError>(
      [](Files& f) {
        f.tensor(kInt4Name) = Tensor::zeros({3, 2, 16, 2}, DType::i16);
      },
      {kInt4Name + " is I16, expected U8"});
  expect_refused<FormatError>(
      [](Files& f) {
        f.tensor(kInt8Name + ".scales") = Tensor::zeros({4, 1, 16}, DType::bf16);
      },
      {kInt8Name + ".scales is BF16, expected F16 or F32"});
  expect_refused<ShapeError>(
      [](Files& f) {
        f.tensor(kInt8Name) = Tensor::zeros({4, 8, 32, 1}, DType::i8);
      },
      {"model.safetensors", "h.0.mlp.c_fc.weight", "[4, 8, 32, 1]", "[4, 8, 16, 2]"});
  expect_refused<ShapeError>(
      [](Files& f) {
        f.tensor(kInt8Name + ".scales") = Tensor::zeros({4, 2, 16});
      },
      {"h.0.mlp.c_fc.weight", "[4, 2, 16]", "[4, 1, 16]"});
  expect_refused<ShapeError>(
      [](Files& f) {
        f.tensor(kInt4Name + ".zero_points") = Tensor::zeros({3, 16}, DType::u8);
      },
      {"h.0.attn.c_attn.weight", "[3, 16]"});
  expect_refused<FormatError>(
      [](Files& f) { f.tensor(kInt8Name + ".scales").data<Float16>()[9].bits = 0x7c00; },
      {kInt8Name + ".scales holds inf at element 9"});
  expect_refused<FormatError>(
      [](Files& f) { f.tensor(kInt4Name + ".zero_points").data<std::uint8_t>()[2] = 16; },
      {kInt4Name + ".zero_points holds the zero point 16"});
}

TEST(QuantizedFiles, NameWhatIsWrongInTheConfiguration) {
  const auto refused = [](const std::string& from, const std::string& to) {
    return [=](Files& f) { f.replace(from, to); };
  };
  expect_refused<UnsupportedError>(refused("\"quant_method\": \"libgpt\"", "\"quant_method\": \"gptq\""),
                                   {"config.json: quantization_config", "\"gptq\""});
  expect_refused<UnsupportedError>(refused("\"version\": 2", "\"version\": 1"),
                                   {"version is 1, expected 2", "quantize the original checkpoint again"});
  expect_refused<FormatError>(refused("\"version\": 2,", ""), {"version is missing"});
  expect_refused<FormatError>(refused("\"modules\"", "\"module\""), {"modules is missing"});
  expect_refused<UnsupportedError>(refused("\"version\": 2", "\"version\": 2, \"desc_act\": true"),
                                   {"desc_act"});
  expect_refused<ArgumentError>(refused("\"bits\": 4", "\"bits\": 3"), {"h.0.attn.c_attn", "bits is 3"});
  expect_refused<ArgumentError>(refused("\"group_size\": 32", "\"group_size\": 33"), {"group_size is 33"});
  expect_refused<FormatError>(refused("\"symmetric\": false", "\"symmetric\": 0"), {"symmetric is 0"});
  expect_refused<FormatError>(refused("\"weight_only\": false", "\"comment\": 0"),
                              {"weight_only is missing"});
  expect_refused<UnsupportedError>(refused("\"weight_only\": false", "\"weight_only\": false, \"zero\": 8"),
                                   {"zero"});
  expect_refused<FormatError>(refused("\"h.1.attn.c_proj\"", "\"h.7.attn.c_proj\""),
                              {"h.1.attn.c_proj.weight is I8"});
  expect_refused<FormatError>(
      [](Files& f) {
        f.replace("\"h.1.attn.c_proj\"", "\"h.7.attn.c_proj\"");
        f.tensor("transformer.h.1.attn.c_proj.weight") = Tensor::zeros({16, 16});
      },
      {"h.7.attn.c_proj.weight is quantized, but the network has no such matrix"});
  expect_refused<FormatError>(
      [](Files& f) { f.replace("\"h.0.mlp.c_fc\": {", "\"h.0.mlp.c_fc\": null, \"x\": {"); },
      {"h.0.mlp.c_fc is missing"});
}

}  // namespace
}  // namespace gpt
