// Loading and saving whole checkpoints, good and bad.
#include "gpt/models/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/quantize.h"
#include "models/tiny_models.h"
#include "support/expect_error.h"
#include "support/file_size_limit.h"
#include "support/random_model.h"
#include "support/random_tensor.h"
#include "support/rounding_upward.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;
using test::logits_of;
using test::message_of;
using test::random_network;
using test::read_file;
using test::same_bits;
using test::TempDir;
using test::tiny_config;
using test::write_file;
using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Stored {
  std::string name;
  Tensor tensor;
};

/// A checkpoint directory whose parts a test may change before it is written.
class CheckpointFiles {
 public:
  explicit CheckpointFiles(const Gpt2Config& config = tiny_config(), DType dtype = DType::f32) {
    config.to_hf(config_);
    const Gpt2 network = random_network(config, 1, dtype);
    network.visit([&](const std::string& name, const Tensor& t, const Shape&) {
      tensors_.push_back({name, t});
    });
  }

  HfConfig& config() { return config_; }
  std::vector<Stored>& tensors() { return tensors_; }
  Tensor& tensor(const std::string& name) {
    for (Stored& s : tensors_)
      if (s.name == name) return s.tensor;
    throw std::out_of_range(name);
  }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const Stored& s) { return s.name == name; });
  }

  fs::path write(const fs::path& directory) const {
    fs::create_directories(directory);
    config_.save(directory / "config.json");
    std::vector<NamedTensor> named;
    for (const Stored& s : tensors_) named.push_back({s.name, s.tensor.view()});
    save_safetensors(directory / "model.safetensors", named);
    return directory;
  }

  fs::path write_shards(const fs::path& directory) const {
    fs::create_directories(directory);
    config_.save(directory / "config.json");
    std::vector<NamedTensor> parts[2];
    std::string weight_map;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const Stored& s = tensors_[i];
      parts[i % 2].push_back({s.name, s.tensor.view()});
      weight_map += concat(i > 0 ? ", \"" : "\"", s.name, "\": \"part-", i % 2, ".safetensors\"");
    }
    for (int i = 0; i < 2; ++i)
      save_safetensors(directory / ("part-" + std::to_string(i) + ".safetensors"), parts[i]);
    write_file(directory / "model.safetensors.index.json", concat("{\"weight_map\": {", weight_map, "}}"));
    return directory;
  }

 private:
  HfConfig config_;
  std::vector<Stored> tensors_;
};

Tensor expected_logits(const Gpt2Config& config, DType dtype) {
  return logits_of(Model(random_network(config, 1, dtype), HfConfig()));
}

TEST(ModelLoad, GivesTheSameNetworkFromEveryLayoutOfTheFiles) {
  const TempDir tmp;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (const bool tied : {true, false})
      for (const bool prefixed : {true, false})
        for (const bool map : {true, false}) {
          Gpt2Config config = tiny_config();
          config.tie_word_embeddings = tied;
          CheckpointFiles files(config, dtype);
          if (prefixed)
            for (Stored& s : files.tensors())
              if (!s.name.starts_with("lm_head")) s.name = "transformer." + s.name;
          const Model model =
              Model::load(files.write(tmp / "m"), {.map = map, .dtype = {}, .on_warning = {}});
          EXPECT_TRUE(same_bits(logits_of(model), expected_logits(config, dtype)))
              << name_of(dtype) << " tied " << tied << " prefixed " << prefixed << " map " << map;
        }
}

TEST(ModelLoad, ReadsShards) {
  const TempDir tmp;
  const CheckpointFiles files;
  EXPECT_TRUE(same_bits(logits_of(Model::load(files.write(tmp / "whole"))),
                        logits_of(Model::load(files.write_shards(tmp / "sharded")))));
}

TEST(ModelLoad, ConvertsWhenAsked) {
  const TempDir tmp;
  const fs::path directory = CheckpointFiles().write(tmp / "m");
  const Model model = Model::load(directory, {.map = true, .dtype = DType::bf16, .on_warning = {}});
  model.network().visit([](const std::string& name, const Tensor& t, const Shape&) {
    EXPECT_EQ(t.dtype(), DType::bf16) << name;
  });
  EXPECT_TRUE(same_bits(logits_of(model), expected_logits(tiny_config(), DType::bf16)));
  EXPECT_THAT(message_of<UnsupportedError>([&] { Model::load(directory, {.dtype = DType::i8}); }),
              HasSubstr("int8"));
}

TEST(ModelLoad, PackedGivesTheSameBitsAndSavesTheSameFile) {
  const TempDir tmp;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (const bool tied : {true, false})
      for (const bool map : {true, false}) {
        Gpt2Config config = tiny_config();
        config.tie_word_embeddings = tied;
        const fs::path directory = CheckpointFiles(config, dtype).write(tmp / "m");
        const Model plain = Model::load(directory),
                    packed = Model::load(directory, {.map = map, .pack = true});
        packed.network().visit_matrices([](const std::string& name, const ops::Weight& w) {
          EXPECT_EQ(w.layout == ops::WeightLayout::kPanels, name != "wpe.weight") << name;
        });
        EXPECT_TRUE(same_bits(logits_of(plain), logits_of(packed))) << name_of(dtype) << " tied " << tied;
        plain.save(tmp / "a");
        packed.save(tmp / "b");
        for (const char* file : {"model.safetensors", "config.json"})
          EXPECT_EQ(read_text_file(tmp / "a" / file), read_text_file(tmp / "b" / file)) << file;
        EXPECT_THAT(message_of<UnsupportedError>([&] {
                      packed.network().visit([](const std::string&, const Tensor&, const Shape&) {});
                    }),
                    HasSubstr("wte.weight"));
      }
}

TEST(ModelLoad, StopsWhenAsked) {
  const TempDir tmp;
  const fs::path directory = CheckpointFiles().write(tmp / "m");
  std::stop_source source;
  source.request_stop();
  EXPECT_THAT(message_of<CancelledError>([&] { Model::load(directory, {.stop = source.get_token()}); }),
              HasSubstr("model.safetensors"));
}

TEST(ModelLoad, StopsBeforeATiedHeadIsComparedToItsEnd) {
  const TempDir tmp;
  CheckpointFiles files;
  files.tensors().push_back({"lm_head.weight", files.tensor("wte.weight").clone()});
  files.tensor("lm_head.weight").data<float>()[5] += 1;
  const fs::path directory = files.write(tmp / "m");
  std::stop_source source;
  source.request_stop();
  std::vector<std::string> warnings;
  const LoadOptions options{.on_warning = [&](std::string_view w) { warnings.emplace_back(w); },
                            .stop = source.get_token()};
  EXPECT_THAT(message_of<CancelledError>([&] { Model::load(directory, options); }),
              HasSubstr("model.safetensors"));
  EXPECT_THAT(warnings, IsEmpty());
}

TEST(ModelLoad, MapsWithoutCopying) {
  const TempDir tmp;
  const fs::path directory = CheckpointFiles().write(tmp / "m");
  const Model a = Model::load(directory);
  const Model b = a;  // shares the weights
  const void* address[2] = {};
  a.network().visit([&](const std::string& name, const Tensor& t, const Shape&) {
    if (name == "wte.weight") address[0] = t.view().raw();
  });
  b.network().visit([&](const std::string& name, const Tensor& t, const Shape&) {
    if (name == "wte.weight") address[1] = t.view().raw();
  });
  EXPECT_EQ(address[0], address[1]);
  std::ifstream maps("/proc/self/maps");
  const std::string text{std::istreambuf_iterator<char>(maps), {}};
  EXPECT_THAT(text, HasSubstr((directory / "model.safetensors").string()));
}

TEST(ModelLoad, IgnoresMaskBuffersAndAnEqualTiedHeadAndWarnsOfTheRest) {
  const TempDir tmp;
  CheckpointFiles files;
  for (Stored& s : files.tensors()) s.name = "transformer." + s.name;
  files.tensors().push_back({"transformer.h.0.attn.bias", Tensor::zeros({1, 1, 32, 32}, DType::boolean)});
  files.tensors().push_back({"transformer.h.0.attn.masked_bias", Tensor::zeros({})});
  files.tensors().push_back({"lm_head.weight", files.tensor("transformer.wte.weight").clone()});
  std::vector<std::string> warnings;
  const LoadOptions options{
      .map = true, .dtype = {}, .on_warning = [&](std::string_view w) { warnings.emplace_back(w); }};
  Model::load(files.write(tmp / "m"), options);
  EXPECT_THAT(warnings, IsEmpty());
  files.tensor("lm_head.weight").data<float>()[5] += 1;
  files.tensors().push_back({"score.weight", Tensor::zeros({3, 16})});
  Model::load(files.write(tmp / "m"), options);
  EXPECT_THAT(warnings,
              ::testing::UnorderedElementsAre(HasSubstr("lm_head.weight differs from transformer.wte.weight"),
                                              HasSubstr("score.weight is not part of the network")));
}

TEST(ModelLoad, TakesNoOtherTensorForTheTiedHead) {
  const TempDir tmp;
  CheckpointFiles files;
  files.tensors().push_back({"transformer.lm_head.weight", files.tensor("wte.weight").clone()});
  std::vector<std::string> warnings;
  const LoadOptions options{.on_warning = [&](std::string_view w) { warnings.emplace_back(w); }};
  Model::load(files.write(tmp / "m"), options);
  EXPECT_THAT(warnings, IsEmpty());
  files.tensor("transformer.lm_head.weight").data<float>()[5] += 1;
  files.tensors().push_back({"draft.lm_head.weight", Tensor::zeros({3, 16})});
  files.tensors().push_back({"draft_lm_head.weight", files.tensor("wte.weight").clone()});
  Model::load(files.write(tmp / "m"), options);
  EXPECT_THAT(warnings,
              ::testing::UnorderedElementsAre(HasSubstr("transformer.lm_head.weight differs from wte.weight"),
                                              HasSubstr("draft.lm_head.weight is not part of the network"),
                                              HasSubstr("draft_lm_head.weight is not part of the network")));
}

TEST(ModelLoad, NamesTheTensorThatIsWrong) {
  const TempDir tmp;
  const auto directory = tmp / "m";
  {
    CheckpointFiles files;
    files.remove("h.1.mlp.c_fc.bias");
    EXPECT_THAT(message_of<FormatError>([&] { Model::load(files.write(directory)); }),
                AllOf(HasSubstr("model.safetensors"), HasSubstr("h.1.mlp.c_fc.bias is missing")));
  }
  {
    CheckpointFiles files;
    files.tensor("h.0.attn.c_attn.weight") = Tensor::zeros({48, 16});
    EXPECT_THAT(message_of<ShapeError>([&] { Model::load(files.write(directory)); }),
                HasSubstr("h.0.attn.c_attn.weight has shape [48, 16], expected [16, 48]"));
  }
  {
    CheckpointFiles files;
    files.tensor("ln_f.bias") = Tensor::zeros({16}, DType::i64);
    EXPECT_THAT(message_of<FormatError>([&] { Model::load(files.write(directory)); }),
                HasSubstr("ln_f.bias is I64, expected F32, F16 or BF16"));
  }
  {
    CheckpointFiles files;
    files.config().set_int("n_layer", 9000);
    EXPECT_THAT(message_of<FormatError>([&] { Model::load(files.write(directory)); }),
                HasSubstr("h.8999.ln_1.weight is missing"));
  }
  {
    CheckpointFiles files;
    files.tensors().push_back({"transformer.wte.weight", files.tensor("wte.weight")});
    EXPECT_THAT(message_of<FormatError>([&] { Model::load(files.write(directory)); }),
                HasSubstr("holds both wte.weight and transformer.wte.weight"));
  }
}

TEST(ModelLoad, WarnsOfATokenizerSettingWithoutEffect) {
  const TempDir dir;
  fs::copy(fs::path(GPT_SOURCE_DIR) / "examples/models/demo", dir.path());
  for (const bool on : {false, true}) {
    write_file(dir / "tokenizer_config.json",
               concat("{\"clean_up_tokenization_spaces\": ", on ? "true" : "false", "}"));
    std::vector<std::string> warnings;
    const LoadOptions options{.on_warning = [&](std::string_view w) { warnings.emplace_back(w); }};
    const Model model = Model::load(dir.path(), options);
    EXPECT_EQ(model.tokenizer().decode(model.tokenizer().encode("is n't , .")), "is n't , .");
    if (on)
      EXPECT_THAT(warnings, ElementsAreArray({HasSubstr(
                                "tokenizer_config.json] clean_up_tokenization_spaces is true, which")}));
    else
      EXPECT_THAT(warnings, IsEmpty());
  }
}

TEST(ModelLoad, NamesTheFileThatIsMissingOrBroken) {
  const TempDir tmp;
  EXPECT_THAT(message_of<IoError>([&] { Model::load(tmp / "nowhere"); }), HasSubstr("nowhere"));
  const fs::path directory = CheckpointFiles().write(tmp / "m");
  EXPECT_THAT(
      message_of<IoError>([&] { Model::load(directory / "config.json"); }),
      HasSubstr(
          "is not a directory, expected a Hugging Face checkpoint's or a GGUF file: gpt-convert makes one"));
  fs::create_symlink("loop", tmp / "loop");
  EXPECT_THAT(message_of<IoError>([&] { Model::load(tmp / "loop"); }),
              AllOf(HasSubstr("loop]"), HasSubstr("symbolic links")));
  EXPECT_THAT(message_of<IoError>([&] { Model::load(tmp / std::string(300, 'n')); }),
              HasSubstr("File name too long"));
  std::ofstream(directory / "generation_config.json") << "{";
  EXPECT_THAT(message_of<FormatError>([&] { Model::load(directory); }), HasSubstr("generation_config.json"));
  fs::remove(directory / "generation_config.json");
  fs::rename(directory / "model.safetensors", directory / "pytorch_model.bin");
  EXPECT_THAT(message_of<UnsupportedError>([&] { Model::load(directory); }), HasSubstr("gpt-convert"));
  fs::remove(directory / "pytorch_model.bin");
  EXPECT_THAT(message_of<IoError>([&] { Model::load(directory); }), HasSubstr("model.safetensors"));
  fs::create_directory(directory / "model.safetensors");
  EXPECT_THROW(Model::load(directory), IoError);
  fs::remove(directory / "config.json");
  EXPECT_THAT(message_of<IoError>([&] { Model::load(directory); }), HasSubstr("config.json"));
}

TEST(ModelSave, WritesWhatLoadsToTheSameBits) {
  const TempDir tmp;
  for (const bool tied : {true, false}) {
    Gpt2Config config = tiny_config();
    config.tie_word_embeddings = tied;
    CheckpointFiles files(config, DType::bf16);
    files.config().set_string("custom_key", "kept");
    const Model model = Model::load(files.write(tmp / "a"));
    model.save(tmp / "b" / "nested");
    const Model again = Model::load(tmp / "b" / "nested");
    EXPECT_TRUE(same_bits(logits_of(model), logits_of(again)));
    const HfConfig saved = HfConfig::load(tmp / "b" / "nested" / "config.json");
    EXPECT_EQ(saved.get_string("custom_key"), "kept");
    EXPECT_EQ(saved.get_string("torch_dtype"), "bfloat16");
    EXPECT_EQ(saved.get_bool("tie_word_embeddings"), tied);
    const SafetensorsFile weights(tmp / "b" / "nested" / "model.safetensors");
    EXPECT_TRUE(weights.contains("transformer.h.0.attn.c_attn.weight"));
    EXPECT_EQ(weights.contains("lm_head.weight"), !tied);
    EXPECT_EQ(weights.metadata().at("format"), "pt");
    model.save(tmp / "a");  // over the files that are mapped
    EXPECT_TRUE(same_bits(logits_of(model), logits_of(Model::load(tmp / "a"))));
  }
}

TEST(ModelSave, RoundsTheWeightsToTheTypeThatIsAskedFor) {
  const TempDir tmp;
  CheckpointFiles files(tiny_config(), DType::f32);
  // More elements than are rounded together.
  files.config().set_int("vocab_size", 40000);
  files.tensor("wte.weight") = test::random_tensor({40000, 16}, 5);
  files.config().set_string("dtype", "float32");
  files.config().set_string("torch_dtype", "float32");
  const Model model = Model::load(files.write(tmp / "a"));
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
    model.save(tmp / "b", {.dtype = dtype});
    const SafetensorsFile file(tmp / "b" / "model.safetensors");
    model.network().visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
      const Tensor saved = file.tensor("transformer." + name);
      EXPECT_EQ(saved.dtype(), dtype) << name;
      EXPECT_TRUE(same_bits(saved, tensor.to(dtype))) << name;
      EXPECT_EQ(tensor.dtype(), DType::f32) << name;  // which stays as it was
    });
    const HfConfig config = HfConfig::load(tmp / "b" / "config.json");
    EXPECT_EQ(config.get_string("dtype"), name_of(dtype));
    EXPECT_EQ(config.get_string("torch_dtype"), name_of(dtype));
  }
  Model packed = Model::load(tmp / "b", {.pack = true});
  packed.save(tmp / "c", {.dtype = DType::bf16});
  model.save(tmp / "b", {.dtype = DType::bf16});
  EXPECT_TRUE(read_file(tmp / "b/model.safetensors") == read_file(tmp / "c/model.safetensors"));
  EXPECT_EQ(message_of<UnsupportedError>([&] { model.save(tmp / "d", {.dtype = DType::i8}); }),
            "[model] weights cannot be int8, expected float32, float16 or bfloat16");
  EXPECT_FALSE(fs::exists(tmp / "d"));
}

TEST(ModelSave, RoundsToNearestHoweverTheHostRounds) {
  const TempDir tmp;
  Model model(random_network(tiny_config(), 1), HfConfig());
  model.network().visit([](const std::string& name, Tensor& tensor, const Shape& shape) {
    if (name == "wpe.weight") tensor = test::random_tensor(shape, 2, DType::f32, 1e-6f);  // subnormal halves
  });
  model.save(tmp / "a", {.dtype = DType::f16});
  {
    const test::RoundingUpward host;
    model.save(tmp / "b", {.dtype = DType::f16});
  }
  EXPECT_TRUE(read_file(tmp / "a/model.safetensors") == read_file(tmp / "b/model.safetensors"));
}

// Names and contents of what a directory holds.
std::map<std::string, std::string> contents_of(const fs::path& directory) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : fs::directory_iterator(directory))
    contents[entry.path().filename()] = entry.is_directory() ? "" : read_file(entry.path());
  return contents;
}

TEST(ModelSave, KeepsTheOldCheckpointWhenAFileCannotBeReplaced) {
  const TempDir tmp;
  Model model = Model::load(CheckpointFiles().write(tmp / "m"));
  write_file(tmp / "file", "x");
  EXPECT_THAT(message_of<IoError>([&] { model.save(tmp / "file"); }), HasSubstr("file"));
  quantize(model.network(), {});
  for (const bool sharded : {false, true})
    for (const char* name : {"config.json", "part-1.safetensors"}) {
      if (!sharded && name != std::string("config.json")) continue;
      fs::remove_all(tmp / "old");
      sharded ? CheckpointFiles().write_shards(tmp / "old") : CheckpointFiles().write(tmp / "old");
      fs::remove(tmp / "old" / name);
      fs::create_directory(tmp / "old" / name);
      const auto before = contents_of(tmp / "old");
      EXPECT_THAT(message_of<IoError>([&] { model.save(tmp / "old"); }),
                  AllOf(HasSubstr(name), HasSubstr("directory")));
      EXPECT_EQ(contents_of(tmp / "old"), before) << name;
    }
}

TEST(ModelSave, KeepsTheOldCheckpointWhenTheDiskIsFullHalfWay) {
  const TempDir tmp;
  const fs::path directory = CheckpointFiles().write(tmp / "m");
  Model model = Model::load(directory);
  quantize(model.network(), {});
  const auto before = contents_of(directory);
  for (const rlim_t limit : {rlim_t{100}, rlim_t{2500}}) {  // in config.json, in the weights
    const auto save = [&] { model.save(directory); };
    EXPECT_EQ(test::with_file_size_limit(limit, [&] { return test::outcome_of(save, directory.string()); }),
              test::kIoErrorNamingTheFile);
    EXPECT_EQ(contents_of(directory), before) << limit;
  }
}

TEST(ModelSave, KeepsTheOldCheckpointWhenItIsStopped) {
  const TempDir tmp;
  const fs::path directory = CheckpointFiles().write(tmp / "m");
  Model model = Model::load(directory);
  quantize(model.network(), {});
  const auto before = contents_of(directory);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(model.save(directory, {.stop = stop.get_token()}), CancelledError);
  EXPECT_EQ(contents_of(directory), before);
  EXPECT_THROW(model.save(tmp / "new", {.stop = stop.get_token()}), CancelledError);
  EXPECT_FALSE(fs::exists(tmp / "new"));
}

TEST(ModelSave, TakesBackTheDirectoriesThatItMadeWhenItFails) {
  const TempDir tmp;
  const Model model = Model::load(CheckpointFiles().write(tmp / "m"));
  const fs::path directory = tmp / "new/sub/";
  EXPECT_EQ(
      test::with_file_size_limit(2500, [&] { return test::outcome_of([&] { model.save(directory); }, ""); }),
      test::kIoErrorNamingTheFile);
  EXPECT_FALSE(fs::exists(tmp / "new"));
  write_file(tmp / "file", "x");
  EXPECT_THROW(model.save(tmp / "file/sub"), IoError);
  EXPECT_EQ(read_file(tmp / "file"), "x");
  fs::create_directory(tmp / "old");  // was there, and stays
  EXPECT_EQ(test::with_file_size_limit(
                2500, [&] { return test::outcome_of([&] { model.save(tmp / "old"); }, ""); }),
            test::kIoErrorNamingTheFile);
  EXPECT_TRUE(fs::is_empty(tmp / "old"));
  model.save(directory);
  EXPECT_TRUE(fs::exists(tmp / "new/sub/model.safetensors"));
}

TEST(ModelSave, LeavesNothingOfAnotherCheckpointInForce) {
  const TempDir dir;
  const Model model = Model::load(std::string(GPT_SOURCE_DIR) + "/examples/models/demo");
  for (const auto& [name, text] : {std::pair("generation_config.json", R"({"max_new_tokens": 2})"),
                                   {"added_tokens.json", R"({"<|foo|>": 2048})"},
                                   {"special_tokens_map.json", R"({"pad_token": "<|foo|>"})"}})
    write_file(dir / name, text);
  model.save(dir.path());
  const Model again = Model::load(dir.path());
  EXPECT_EQ(again.tokenizer().fingerprint(), model.tokenizer().fingerprint());
  EXPECT_EQ(again.generation_config().has_value(), model.generation_config().has_value());
}

TEST(ModelSave, OfAModelWithoutATokenizerLeavesNoOtherInForce) {
  const TempDir dir;
  Model model = Model::load(std::string(GPT_SOURCE_DIR) + "/examples/models/demo");
  model.save(dir.path());
  ASSERT_TRUE(Model::load(dir.path()).has_tokenizer());
  model.set_tokenizer(nullptr);
  for (const char* name : {"vocab.txt", "tokenizer.model", "spiece.model", "added_tokens.json",
                           "special_tokens_map.json", "generation_config.json", "notes.txt"})
    write_file(dir / name, "{}");
  model.save(dir.path());
  std::vector<std::string> names;
  for (const auto& [name, text] : contents_of(dir.path())) names.push_back(name);
  EXPECT_THAT(names, ElementsAreArray({"config.json", "model.safetensors", "notes.txt"}));
  EXPECT_FALSE(Model::load(dir.path()).has_tokenizer());
}

TEST(ModelSave, TakesThePlaceOfAShardedCheckpoint) {
  const TempDir tmp;
  const fs::path directory = CheckpointFiles().write_shards(tmp / "m");
  write_file(directory / "notes.txt", "kept");
  const Model model = Model::load(directory);
  model.save(directory);
  std::vector<std::string> names;
  for (const auto& [name, text] : contents_of(directory)) names.push_back(name);
  EXPECT_THAT(names, ElementsAreArray({"config.json", "model.safetensors", "notes.txt"}));
  EXPECT_TRUE(same_bits(logits_of(model), logits_of(Model::load(directory))));
}

TEST(Model, SaysThatItHasNoTokenizer) {
  const TempDir tmp;
  const Model model = Model::load(CheckpointFiles().write(tmp / "m"));
  EXPECT_FALSE(model.has_tokenizer());
  EXPECT_THAT(message_of<UnsupportedError>([&] { model.tokenizer(); }), HasSubstr("no tokenizer"));
}

}  // namespace
}  // namespace gpt
