// gpt-quantize as its user meets it: files, output, exit status and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/random_model.h"
#include "support/temp_dir.h"

namespace gpt::test::quantize_program {
namespace {

using ::testing::HasSubstr;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

std::vector<std::string> command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), GPT_QUANTIZE);
  return arguments;
}
ProcessResult run(std::vector<std::string> arguments) {
  return Process(command(std::move(arguments))).wait();
}

ops::QuantizationFormat format_in(const Model& model, const std::string& matrix) {
  ops::QuantizationFormat f;
  model.network().visit_matrices([&](const std::string& name, const ops::Weight& w) {
    if (name == matrix) f = w.quantization();
  });
  return f;
}

/// A checkpoint without a tokenizer, saved into the directory.
void save_random(const std::filesystem::path& directory) {
  HfConfig file;
  tiny_config().to_hf(file);
  Model(random_network(tiny_config(), 1), file).save(directory);
}

TEST(QuantizeProgram, RefusesAClassifier) {
  const TempDir dir;
  Classifier(Model::load(kDemo), {"good", "bad"}, ProblemType::kSingleLabel, 3).save(dir / "classifier");
  expect_failure(1, command({"--model", dir / "classifier", "--output-dir", dir / "out"}),
                 "classifier] is a classifier's, whose head (score.weight) would be lost");
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
}

TEST(QuantizeProgram, WritesWhatTheLibraryMakes) {
  const TempDir directory;
  const ProcessResult result = run({"--model", kDemo, "--output-dir", directory / "out", "--format", "int4",
                                    "--group-size", "32", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  Model expected = Model::load(kDemo);
  const auto report =
      quantize(expected.network(), {.format = {.format = ops::WeightFormat::int4, .group_size = 32}});
  expected.save(directory / "expected");
  for (const char* file : {"model.safetensors", "config.json"})
    EXPECT_EQ(read_file(directory / "out" / file), read_file(directory / "expected" / file)) << file;

  const Json object = parse_json(result.out);
  ASSERT_EQ(object.at("matrices").size(), report.size());
  const Json& first = object.at("matrices").at(0);
  EXPECT_EQ(first.at("name"), "wte.weight");
  EXPECT_EQ(first.at("format"), "int4");
  EXPECT_EQ(first.at("group_size"), 32);
  EXPECT_EQ(first.at("bytes_after"), report[0].bytes_after);
  EXPECT_EQ(first.at("relative_error").get<double>(), report[0].relative_error);
  EXPECT_EQ(object.at("bytes_before"), std::filesystem::file_size(kDemo + "/model.safetensors"));
  EXPECT_EQ(object.at("bytes_after"), std::filesystem::file_size(directory / "out/model.safetensors"));
  for (const char* key : {"load_s", "quantize_s", "save_s"}) EXPECT_GT(object.at("timing").at(key), 0.0);

  // The tokenizer came along, and the new checkpoint works.
  const Model model = Model::load(directory / "out");
  EXPECT_THAT(Generator(model).generate("ROMEO:", {.max_new_tokens = 5}).ids, ::testing::SizeIs(5));
}

TEST(QuantizeProgram, TakesFormatsOverridesAndACalibrationText) {
  const TempDir directory;
  write_file(directory / "text", "ROMEO:\nBut soft, what light through yonder window breaks?\n");
  const ProcessResult result =
      run({"--model", kDemo, "--output-dir", directory / "out", "--format", "int4", "--asymmetric",
           "--weight-only", "--group-size", "0", "--override", "h.0.mlp.c_fc.weight=int8", "--override",
           "h.1.mlp.c_fc.weight=none", "--no-embeddings", "--calibration-file", directory / "text",
           "--threads", "1"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("h.0.attn.c_attn.weight"));
  EXPECT_THAT(result.err, HasSubstr("int4/0 asymmetric weight-only"));
  const Model model = Model::load(directory / "out");
  const ops::QuantizationFormat int4{ops::WeightFormat::int4, 0, false, true},
      int8{ops::WeightFormat::int8, 0, true, true};
  EXPECT_EQ(format_in(model, "h.0.attn.c_attn.weight"), int4);
  EXPECT_EQ(format_in(model, "h.0.mlp.c_fc.weight"), int8);
  EXPECT_EQ(format_in(model, "h.1.mlp.c_fc.weight").format, ops::WeightFormat::bf16);
  EXPECT_EQ(format_in(model, "wte.weight").format, ops::WeightFormat::bf16);
  Model expected = Model::load(kDemo);
  const auto ids = expected.tokenizer().encode(read_file(directory / "text"));
  quantize(expected.network(),
           {.format = int4,
            .quantize_embeddings = false,
            .overrides = {{"h.0.mlp.c_fc.weight", int8}, {"h.1.mlp.c_fc.weight", std::nullopt}},
            .calibration = ids});
  expected.save(directory / "expected");
  EXPECT_EQ(read_file(directory / "out/model.safetensors"),
            read_file(directory / "expected/model.safetensors"));
}

TEST(QuantizeProgram, TakesAGgufFile) {
  const TempDir directory;
  save_gguf(Model::load(kDemo), directory / "demo.gguf");
  const ProcessResult result =
      run({"--model", directory / "demo.gguf", "--output-dir", directory / "out", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  Model expected = Model::load(directory / "demo.gguf");
  quantize(expected.network(), {});
  expected.save(directory / "expected");
  EXPECT_EQ(read_file(directory / "out/model.safetensors"),
            read_file(directory / "expected/model.safetensors"));
  EXPECT_EQ(parse_json(result.out).at("bytes_before"), std::filesystem::file_size(directory / "demo.gguf"));
}

TEST(QuantizeProgram, MayReplaceTheCheckpointItReads) {
  const TempDir directory;
  save_random(directory.path());
  ASSERT_EQ(run({"--model", directory.path(), "--output-dir", directory.path()}).status, 0);
  EXPECT_EQ(format_in(Model::load(directory.path()), "wte.weight").format, ops::WeightFormat::int8);
  expect_failure(1, command({"--model", directory.path(), "--output-dir", directory.path()}),
                 "no matrix left to quantize");
}

TEST(QuantizeProgram, WritesOverNoOtherModel) {
  const TempDir directory;
  for (const char* file :
       {"config.json", "vocab.json", "pytorch_model.bin", "pytorch_model-00001-of-00002.bin",
        "classification.json", "bag_of_words.safetensors", "chat_template.jinja"}) {
    std::filesystem::create_directory(directory / "out");
    write_file(directory / "out" / file, "another's");
    expect_failure(
        1, command({"--model", kDemo, "--output-dir", directory / "out"}),
        concat("out] holds ", file, ": choose another --output-dir, or remove the model there first"));
    EXPECT_EQ(read_file(directory / "out" / file), "another's");
    std::filesystem::remove_all(directory / "out");
  }
  std::filesystem::create_directory(directory / "out");
  write_file(directory / "out/notes.txt", "of no model");
  ASSERT_EQ(run({"--model", kDemo, "--output-dir", directory / "out"}).status, 0);
  EXPECT_EQ(read_file(directory / "out/notes.txt"), "of no model");
}

TEST(QuantizeProgram, CountsTheBytesOfTheFilesThatHoldTheWeights) {
  const TempDir directory;
  save_random(directory.path());
  std::filesystem::rename(directory / "model.safetensors", directory / "shard.safetensors");
  write_file(directory / "model.safetensors.index.json",
             R"({"weight_map": {"transformer.wte.weight": "shard.safetensors"}})");
  write_file(directory / "adapter.safetensors", "of something else");
  const auto before = std::filesystem::file_size(directory / "shard.safetensors");
  const ProcessResult result = run({"--model", directory.path(), "--output-dir", directory.path(), "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json object = parse_json(result.out);
  EXPECT_EQ(object.at("bytes_before"), before);
  EXPECT_EQ(object.at("bytes_after"), std::filesystem::file_size(directory / "model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(directory / "model.safetensors.index.json"));
  EXPECT_FALSE(std::filesystem::exists(directory / "shard.safetensors"));
}

TEST(QuantizeProgram, RefusesAWrongCommandLineWithStatusTwo) {
  const auto refuse = [](std::vector<std::string> arguments, const std::string& part) {
    arguments.insert(arguments.begin(), {"--model", kDemo, "--output-dir", "/proc/nowhere"});
    expect_failure(2, command(arguments), part);
  };
  expect_failure(2, command({"--output-dir", "x"}), "--model");
  expect_failure(2, command({"--model", kDemo}), "--output-dir");
  refuse({"--format", "int3"}, "--format: \"int3\" is no format, expected int8 or int4");
  refuse({"--group-size", "48"}, "error: --group-size is 48");
  refuse({"--group-size", "x"}, "--group-size");
  refuse({"--asymmetric"}, "--asymmetric");
  refuse({"--override", "wte.weight"}, "--override: \"wte.weight\" is not MATRIX=FORMAT");
  refuse({"--override="}, "--override: \"\" is not MATRIX=FORMAT");
  refuse({"--override", "=int8"}, "--override: \"=int8\" is not MATRIX=FORMAT");
  refuse({"--override", "wte.weight=f16"}, "--override: \"f16\" is no format, expected int8, int4 or none");
  refuse({"--override", "wte.weight=int8", "--override", "wte.weight=int4"}, "wte.weight is given twice");
  refuse({"--json", "--json"}, "--json is given twice");
  refuse({"--threads", "-1"}, "--threads");
  refuse({"stray"}, "stray");
}

TEST(QuantizeProgram, ReportsWorkThatFailsWithStatusOne) {
  const TempDir directory;
  expect_failure(1, command({"--model", "/nonexistent", "--output-dir", directory / "out"}), "/nonexistent");
  expect_failure(
      1, command({"--model", kDemo, "--output-dir", directory / "out", "--override", "h.9.x=int8"}), "h.9.x");
  expect_failure(
      1, command({"--model", kDemo, "--output-dir", directory / "out", "--calibration-file", "/nonexistent"}),
      "/nonexistent");
  write_file(directory / "empty", "");
  expect_failure(1,
                 command({"--model", kDemo, "--output-dir", directory / "out", "--calibration-file",
                          directory / "empty"}),
                 "no tokens");
  save_random(directory / "no_tokenizer");
  expect_failure(1,
                 command({"--model", directory / "no_tokenizer", "--output-dir", directory / "out",
                          "--calibration-file", directory / "empty"}),
                 "tokenizer");
  write_file(directory / "file", "");
  expect_failure(1, command({"--model", kDemo, "--output-dir", directory / "file"}),
                 "cannot create the directory");
  EXPECT_FALSE(std::filesystem::exists(directory / "out"));
}

TEST(QuantizeProgram, ReportsAFullDiskAndKeepsTheOldCheckpoint) {
  const TempDir directory;
  save_random(directory.path());
  const std::string before = read_file(directory / "model.safetensors");
  // Without the program's care, the signal of a file that grows beyond the limit would end it.
  std::vector<std::string> argv = {"/bin/sh", "-c", "ulimit -f 8; exec \"$@\"", "sh"};
  argv.insert(argv.end(), {GPT_QUANTIZE, "--model", directory.path(), "--output-dir", directory.path()});
  const ProcessResult result = Process(argv).wait();
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("model.safetensors] cannot be written: File too large"));
  EXPECT_EQ(read_file(directory / "model.safetensors"), before);
  const std::filesystem::directory_iterator files(directory.path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 2);
}

TEST(QuantizeProgram, QuantizesPositionsWhenAskedByName) {
  const TempDir directory;
  save_random(directory.path());
  ASSERT_EQ(
      run({"--model", directory.path(), "--output-dir", directory / "out", "--override", "wpe.weight=int8"})
          .status,
      0);
  const Model model = Model::load(directory / "out");
  EXPECT_EQ(format_in(model, "wpe.weight").format, ops::WeightFormat::int8);
  EXPECT_EQ(
      Generator(model)
          .generate(std::vector<TokenId>{1}, {.max_new_tokens = 3, .eos_token_id = std::vector<TokenId>{}})
          .ids.size(),
      3u);
}

TEST(QuantizeProgram, HelpsOnRequest) {
  const ProcessResult result = run({"--help"});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.out, HasSubstr("gpt-quantize --model gpt2 --output-dir gpt2-int8"));
  EXPECT_EQ(result.err, "");
}

}  // namespace
}  // namespace gpt::test::quantize_program
