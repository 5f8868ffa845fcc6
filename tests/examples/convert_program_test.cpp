// gpt-convert as its user meets it: files, output, exit status and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/random_model.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt::test::convert_program {
namespace {

using ::testing::HasSubstr;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

std::vector<std::string> command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), GPT_CONVERT);
  return arguments;
}
ProcessResult run(std::vector<std::string> arguments) {
  return Process(command(std::move(arguments))).wait();
}
/// Without the warning that GGUF and llm.c have no place for the demo model's rates of dropout.
std::string without_dropout(std::string errors) {
  for (const std::string title : {"GGUF", "llm.c"}) {
    const std::string warning =
        "warning: resid_pdrop 0.2, embd_pdrop 0.2, attn_pdrop 0.2 have no place in " + title + ",";
    if (const std::size_t begin = errors.find(warning); begin != std::string::npos)
      errors.erase(begin, errors.find('\n', begin) - begin);
  }
  return errors;
}
/// Converts, and expects neither a failure nor a warning, but of the demo model's rates of dropout where they are lost.
void convert(const std::string& model, const std::string& output, std::vector<std::string> more = {}) {
  more.insert(more.begin(), {"--model", model, "--output", output});
  const ProcessResult result = run(std::move(more));
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(without_dropout(result.err), ::testing::Not(HasSubstr("warning")));
}

std::vector<TokenId> text_of(const std::string& model) {
  const Model loaded = Model::load(model);
  return Generator(loaded).generate("ROMEO:", {.max_new_tokens = 8, .do_sample = false}).ids;
}

std::string weights_of(const std::filesystem::path& directory) {
  return read_file(directory / "model.safetensors");
}

TEST(ConvertProgram, GoesToEveryFormatAndBackWithoutLoss) {
  const TempDir dir;
  convert(kDemo, dir / "hf");  // as libgpt writes it, with GPT2LMHeadModel's names
  convert(kDemo, dir / "demo.gguf");
  convert(dir / "demo.gguf", dir / "from_gguf", {"--dtype", "bfloat16"});
  convert(kDemo, dir / "demo.bin");
  // llm.c's file says nothing of the ends of texts: they are the tokenizer's.
  ASSERT_EQ(run({"--model", dir / "demo.bin", "--output", dir / "from_llmc", "--tokenizer", kDemo}).status,
            0);
  EXPECT_EQ(Model::load(dir / "from_llmc").config().eos_token_id, std::vector<TokenId>{2047});
  for (const char* back : {"from_gguf", "from_llmc"}) {
    EXPECT_TRUE(weights_of(dir / back) == weights_of(dir / "hf")) << back;
    EXPECT_EQ(text_of(dir / back), text_of(kDemo)) << back;
  }
  EXPECT_EQ(text_of(dir / "demo.gguf"), text_of(kDemo));
  convert(dir / "demo.gguf", dir / "again.bin", {"--dtype", "bfloat16"});  // its positions are float32
  EXPECT_TRUE(read_file(dir / "again.bin") == read_file(dir / "demo.bin"));
  ASSERT_EQ(
      run({"--model", dir / "demo.bin", "--output", dir / "again", "--to", "gguf", "--tokenizer", kDemo})
          .status,
      0);
  EXPECT_EQ(text_of(dir / "again"), text_of(kDemo));  // known by its beginning, not its name
}

TEST(ConvertProgram, MergesNoNumbersThatAreNone) {
  const TempDir dir;
  const Model model = Model::load(kDemo);
  LoraAdapter adapter(model.network(), {.r = 2}, 1);
  adapter.visit([](const std::string&, Tensor& tensor, const Shape&) { tensor.data<float>()[1] = NAN; });
  adapter.save(dir / "bad");
  expect_failure(1, command({"--model", kDemo, "--adapter", dir / "bad", "--output", dir / "out"}),
                 "h.0.attn.c_attn.lora_A.weight: element [0, 1] is nan");
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
}

// What this model has not would stay, and be taken for its own.
TEST(ConvertProgram, WritesOverNoOtherModel) {
  const TempDir dir;
  for (const char* file : {"config.json", "vocab.json", "chat_template.jinja", "classification.json"}) {
    std::filesystem::create_directory(dir / "out");
    write_file(dir / "out" / file, "another's");
    expect_failure(1, command({"--model", kDemo, "--output", dir / "out"}),
                   concat("out] holds ", file, ": choose another --output, or remove the model there first"));
    EXPECT_EQ(read_file(dir / "out" / file), "another's");
    std::filesystem::remove_all(dir / "out");
  }
  std::filesystem::create_directory(dir / "out");
  write_file(dir / "out/notes.txt", "of no model");
  convert(kDemo, dir / "out");
  convert(dir / "out", dir / "out/.", {"--dtype", "float32"});  // the model that is read
  EXPECT_EQ(read_file(dir / "out/notes.txt"), "of no model");
}

TEST(ConvertProgram, RefusesAClassifier) {
  const TempDir dir;
  Classifier(Model::load(kDemo), {"good", "bad"}, ProblemType::kSingleLabel, 3).save(dir / "classifier");
  expect_failure(1, command({"--model", dir / "classifier", "--output", dir / "out.gguf"}),
                 "classifier] is a classifier's, whose head (score.weight) would be lost");
  EXPECT_FALSE(std::filesystem::exists(dir / "out.gguf"));
}

TEST(ConvertProgram, KnowsACheckpointOfLlmcByItsFirstBytes) {
  const TempDir dir;
  ASSERT_EQ(run({"--model", kDemo, "--output", dir / "demo", "--to", "llmc"}).status, 0);
  const ProcessResult result = run({"--model", dir / "demo", "--output", dir / "back", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(parse_json(result.out).at("from"), "llmc");
}

TEST(ConvertProgram, WritesWhatTheLibraryMakes) {
  const TempDir dir;
  const Model model = Model::load(kDemo);
  for (const char* dtype : {"float32", "float16", "bfloat16", "q8_0", "q4_0"}) {
    convert(kDemo, dir / "program.gguf", {"--dtype", dtype, "--no-tied-head", "--threads", "1"});
    save_gguf(model, dir / "library.gguf",
              {.weights = gguf_weights_from_name(dtype), .write_tied_head = false});
    EXPECT_TRUE(read_file(dir / "program.gguf") == read_file(dir / "library.gguf")) << dtype;
  }
  convert(kDemo, dir / "program.bin", {"--dtype", "float32"});
  save_llmc(model, dir / "library.bin", DType::f32);
  EXPECT_TRUE(read_file(dir / "program.bin") == read_file(dir / "library.bin"));
}

TEST(ConvertProgram, WritesIntegersAsFloatsForHuggingFace) {
  const TempDir dir;
  convert(kDemo, dir / "m.gguf", {"--dtype", "q8_0"});
  const Model integers = Model::load(dir / "m.gguf");
  for (const auto& [options, dtype] :
       {std::pair(std::vector<std::string>{}, DType::f32), {{"--dtype", "float16"}, DType::f16}}) {
    std::vector<std::string> arguments = {"--model", dir / "m.gguf", "--output", dir / "hf"};
    std::filesystem::remove_all(dir / "hf");
    arguments.insert(arguments.end(), options.begin(), options.end());
    const ProcessResult result = run(arguments);
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(result.err,
                HasSubstr(concat("warning: int8 and int4 matrices are written as ", name_of(dtype))));
    const Model floats = Model::load(dir / "hf");
    EXPECT_FALSE(HfConfig::load(dir / "hf/config.json").has("quantization_config"));
    std::vector<const ops::Weight*> expected;
    integers.network().visit_matrices(
        [&](const std::string&, const ops::Weight& weight) { expected.push_back(&weight); });
    std::size_t i = 0;
    floats.network().visit_matrices([&, to = dtype](const std::string& name, const ops::Weight& weight) {
      ASSERT_EQ(weight.values.dtype(), to) << name;
      const ops::Weight& source = *expected.at(i++);
      const Tensor plain = source.quantized() ? ops::dequantize(source, weight.file_layout)
                                              : ops::unpack(source, weight.file_layout);
      EXPECT_TRUE(same_bits(weight.values, std::as_const(plain).to(to))) << name;
    });
    EXPECT_EQ(i, expected.size());
  }
}

TEST(ConvertProgram, SaysWhatOfTheGenerationConfigIsLost) {
  const TempDir dir;
  std::filesystem::copy(kDemo, dir / "m");
  write_file(dir / "m/generation_config.json",
             R"({"eos_token_id": 3, "temperature": 0.5, "top_k": null, "transformers_version": "4.40.0"})");
  ProcessResult result = run({"--model", dir / "m", "--output", dir / "m.gguf"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("warning: generation_config.json: temperature has no place in GGUF"));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr("eos_token_id")));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr("transformers_version")));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr("top_k")));
  EXPECT_EQ(Model::load(dir / "m.gguf").config().eos_token_id, std::vector<TokenId>{3});
  result = run({"--model", dir / "m", "--output", dir / "m.bin"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("warning: generation_config.json: eos_token_id has no place in llm.c"));
  convert(dir / "m", dir / "again");
  EXPECT_TRUE(std::filesystem::exists(dir / "again/generation_config.json"));
}

TEST(ConvertProgram, SaysThatRatesOfDropoutAreLost) {
  const TempDir dir;
  std::filesystem::copy(kDemo, dir / "m");
  HfConfig config = HfConfig::load(dir / "m/config.json");
  config.set_float("embd_pdrop", 0.1);
  config.set_float("attn_pdrop", 0);
  config.save(dir / "m/config.json");
  const std::string lost = "warning: resid_pdrop 0.2, attn_pdrop 0 have no place in ";
  for (const auto& [file, title] : {std::pair("m.gguf", "GGUF"), {"m.bin", "llm.c"}}) {
    const ProcessResult result = run({"--model", dir / "m", "--output", dir / file});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr(lost + title + ", where dropout is 0.1\n"));
    EXPECT_THAT(run({"--model", dir / file, "--output", dir / "back"}).err,
                ::testing::Not(HasSubstr("pdrop")));  // nothing is lost this way
    const Gpt2Config back = Model::load(dir / "back").config();
    EXPECT_EQ(back.resid_pdrop, 0.1f);
    EXPECT_EQ(back.attn_pdrop, 0.1f);
  }
  EXPECT_THAT(run({"--model", dir / "m", "--output", dir / "same"}).err, ::testing::Not(HasSubstr("pdrop")));
  EXPECT_EQ(Model::load(dir / "same").config().resid_pdrop, 0.2f);
  config.set_float("resid_pdrop", 0.1);
  config.save(dir / "m/config.json");
  EXPECT_THAT(run({"--model", dir / "m", "--output", dir / "m.bin"}).err,
              HasSubstr("warning: attn_pdrop 0 has no place in llm.c, where dropout is 0.1\n"));
}

TEST(ConvertProgram, TakesTheSpecialTokensOfATokenizerThatIsNamed) {
  const TempDir dir;
  std::filesystem::copy(kDemo, dir / "m");
  HfConfig config = HfConfig::load(dir / "m/config.json");
  config.set_int("eos_token_id", 5);
  config.set_null("bos_token_id");
  config.save(dir / "m/config.json");
  write_file(dir / "m/generation_config.json", R"({"eos_token_id": [3, 50256]})");
  const ProcessResult result = run({"--model", dir / "m", "--tokenizer", kDemo, "--output", dir / "out"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err,
              HasSubstr("warning: eos_token_id changes from 5 to 2047: the tokenizer's is 2047\n"
                        "warning: generation_config.json: eos_token_id changes from [3, 50256] to "
                        "2047: the tokenizer's is 2047\n"
                        "warning: bos_token_id changes from null to 2047"));
  const Model model = Model::load(dir / "out");
  EXPECT_EQ(model.config().eos_token_id, std::vector<TokenId>{2047});
  EXPECT_EQ(model.config().bos_token_id, 2047);
  EXPECT_EQ(model.generation_config()->get_int("eos_token_id"), 2047);
  convert(dir / "out", dir / "same", {"--tokenizer", kDemo});  // nothing is left to say
}

TEST(ConvertProgram, WritesNoGgufWithoutAnEndOfText) {
  const TempDir dir;
  std::filesystem::copy(kDemo, dir / "m");
  HfConfig config = HfConfig::load(dir / "m/config.json");
  config.set_null("eos_token_id");
  config.save(dir / "m/config.json");
  expect_failure(1, command({"--model", dir / "m", "--output", dir / "m.gguf"}),
                 "config.json: there is no eos_token_id in the vocabulary [0, 2048), and llama.cpp would "
                 "take token 11 for "
                 "it; align_special_tokens (gpt-convert --tokenizer) makes it the tokenizer's, 2047");
  EXPECT_FALSE(std::filesystem::exists(dir / "m.gguf"));
  ASSERT_EQ(run({"--model", dir / "m", "--tokenizer", dir / "m", "--output", dir / "m.gguf"}).status, 0);
  EXPECT_EQ(Model::load(dir / "m.gguf").config().eos_token_id, std::vector<TokenId>{2047});
}

TEST(ConvertProgram, SaysThatTheEndOfTextIsLostWithoutATokenizer) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "m");
  for (const std::string file : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(kDemo + "/" + file, dir / ("m/" + file));
  write_file(dir / "m/generation_config.json", R"({"eos_token_id": 3})");
  const ProcessResult result = run({"--model", dir / "m", "--output", dir / "m.gguf"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err,
              HasSubstr("warning: config.json: eos_token_id has no place in GGUF without a tokenizer"));
  EXPECT_THAT(result.err,
              HasSubstr("warning: generation_config.json: eos_token_id has no place in GGUF and"));
  EXPECT_THAT(Model::load(dir / "m.gguf").config().eos_token_id, ::testing::IsEmpty());
}

TEST(ConvertProgram, SaysThatATokenizerIsTooLarge) {
  const TempDir dir;
  HfConfig file;
  tiny_config().to_hf(file);
  Model(random_network(tiny_config(), 1), file).save(dir / "m");
  const ProcessResult result = run({"--model", dir / "m", "--tokenizer", kDemo, "--output", dir / "out"});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr("warning: [" + kDemo +
                                    "] the tokenizer has 2048 tokens, the network only vocab_size = 97\n"));
}

TEST(ConvertProgram, ReportsInJson) {
  const TempDir dir;
  const ProcessResult result = run({"--model", kDemo, "--output", dir / "x.gguf", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json object = parse_json(result.out);
  EXPECT_EQ(object.at("from"), "hf");
  EXPECT_EQ(object.at("to"), "gguf");
  EXPECT_EQ(object.at("parameters"), 3111936);
  EXPECT_EQ(object.at("bytes"), std::filesystem::file_size(dir / "x.gguf"));
  EXPECT_GT(object.at("seconds"), 0.0);
}

TEST(ConvertProgram, SaysThatThereIsNoTokenizer) {
  const TempDir dir;
  convert(kDemo, dir / "demo.bin");
  const ProcessResult result = run({"--model", dir / "demo.bin", "--output", dir / "hf"});
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err, HasSubstr("warning: there is no tokenizer: --tokenizer DIR gives one\n"));
}

TEST(ConvertProgram, MayReplaceTheFileItReads) {
  const TempDir dir;
  convert(kDemo, dir / "x.gguf");
  convert(dir / "x.gguf", dir / "x.gguf", {"--dtype", "q8_0"});
  EXPECT_EQ(Model::load(dir / "x.gguf").network().head().format(), ops::WeightFormat::int8);
}

TEST(ConvertProgram, ReplacesNoFileOfWhatElseItReads) {
  const TempDir dir;
  for (const char* copy : {"model", "tokenizer"})
    std::filesystem::copy(kDemo, dir / copy, std::filesystem::copy_options::recursive);
  const auto refuse = [&](const char* output, std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--output", dir / output});
    expect_failure(1, command(arguments),
                   "[--output] " + (dir / output).string() + " would be replaced, which is read (");
  };
  refuse("model/model.safetensors", {"--model", dir / "model", "--to", "gguf"});
  refuse("model/vocab.json", {"--model", dir / "model", "--to", "llmc"});
  write_file(dir / "model/pytorch_model.bin", "old weights");
  refuse("model/pytorch_model.bin", {"--model", dir / "model"});
  refuse("tokenizer/merges.txt", {"--model", kDemo, "--tokenizer", dir / "tokenizer", "--to", "gguf"});
}

TEST(ConvertProgram, RefusesAWrongCommandLineWithStatusTwo) {
  const auto refuse = [](std::vector<std::string> arguments, const std::string& part) {
    arguments.insert(arguments.begin(), {"--model", kDemo});
    expect_failure(2, command(arguments), part);
  };
  expect_failure(2, command({"--output", "x"}), "--model");
  expect_failure(2, command({"--model=", "--output", "x"}), "--model: the path is empty");
  refuse({}, "--output");
  refuse({"--output", "/proc/x", "--to", "onnx"}, "--to: \"onnx\" is none of hf, gguf, llmc");
  refuse({"--output", "/proc/x", "--dtype", "q8_0"},
         "--dtype: \"q8_0\" is none of float32, float16, bfloat16");
  refuse({"--output", "/proc/x.gguf", "--dtype", "q4_k"}, "--dtype: \"q4_k\" is none of float32");
  refuse({"--output", "/proc/x.bin", "--dtype", "float16"}, "float32, bfloat16, which llm.c has");
  refuse({"--output", "/proc/x", "--no-tied-head"}, "--no-tied-head");
  refuse({"--output", "/proc/x.bin", "--tokenizer", kDemo}, "--tokenizer: a checkpoint of llm.c holds none");
  refuse({"--output", "/proc/x", "stray"}, "stray");
}

TEST(ConvertProgram, ReportsWorkThatFailsWithStatusOne) {
  const TempDir dir;
  expect_failure(1, command({"--model", "/nonexistent", "--output", dir / "x"}), "/nonexistent");
  expect_failure(1, command({"--model", kDemo, "--output", dir / "missing/x.gguf"}), "x.gguf");
  write_file(dir / "pytorch_model.bin", "PK\3\4 and so on");
  expect_failure(1, command({"--model", dir / "pytorch_model.bin", "--output", dir / "x"}),
                 "is a file of PyTorch: give the directory it is in");
  write_file(dir / "config.json", "{\"model_type\": \"gpt2\"}");
  expect_failure(1, command({"--model", dir.path(), "--output", dir / "x"}),
                 "pytorch_model.bin] is no whole zip");
  expect_failure(1, command({"--model", kDemo + "/model.safetensors", "--output", dir / "y"}),
                 "model.safetensors] is neither a GGUF file nor a checkpoint of llm.c; of a Hugging Face");
  write_file(dir / "bad.gguf", "GGUF");
  expect_failure(1, command({"--model", dir / "bad.gguf", "--output", dir / "x"}),
                 "bad.gguf] ends at byte 4");
  Gpt2Config c = tiny_config();
  c.activation_function = ops::Activation::kRelu;
  HfConfig file;
  c.to_hf(file);
  Model(random_network(c, 1), file).save(dir / "relu");
  // Not a single line: a model without a tokenizer is warned of first.
  const ProcessResult result = run({"--model", dir / "relu", "--output", dir / "x.gguf"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("activation_function is \"relu\""));
  EXPECT_FALSE(std::filesystem::exists(dir / "x.gguf"));
}

}  // namespace
}  // namespace gpt::test::convert_program
