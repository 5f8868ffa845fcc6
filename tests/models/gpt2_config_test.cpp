#include "gpt/models/gpt2_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Gpt2Config read(const std::string& json, std::vector<std::string>* warnings = nullptr) {
  return Gpt2Config::from_hf(HfConfig::parse(json, "config.json"), [&](std::string_view w) {
    if (warnings != nullptr) warnings->emplace_back(w);
  });
}

template <class E>
std::string refused(const std::string& json) {
  return message_of<E>([&] { read(json); });
}

TEST(Gpt2Config, HasHuggingFacesDefaults) {
  const Gpt2Config c = read(R"({"model_type": "gpt2"})");
  EXPECT_EQ(c.vocab_size, 50257);
  EXPECT_EQ(c.n_positions, 1024);
  EXPECT_EQ(c.inner_dim(), 3072);
  EXPECT_EQ(c.head_dim(), 64);
  EXPECT_EQ(c.activation_function, ops::Activation::kGeluNew);
  EXPECT_EQ(c.layer_norm_epsilon, 1e-5f);
  EXPECT_TRUE(c.scale_attn_weights);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_EQ(c.bos_token_id, 50256);
  EXPECT_THAT(c.eos_token_id, ElementsAreArray({50256}));
  EXPECT_FALSE(c.pad_token_id.has_value());
}

TEST(Gpt2Config, ReadsEveryKey) {
  std::vector<std::string> warnings;
  const Gpt2Config c =
      read(R"({"model_type": "gpt2", "vocab_size": 11, "n_positions": 7, "n_embd": 6, "n_layer": 5,
    "n_head": 3, "n_inner": 10, "activation_function": "quick_gelu", "resid_pdrop": 0.5, "embd_pdrop": 0.25,
    "attn_pdrop": 0, "layer_norm_epsilon": 0.01, "initializer_range": 0.5, "scale_attn_weights": false,
    "scale_attn_by_inverse_layer_idx": true, "reorder_and_upcast_attn": true, "tie_word_embeddings": false,
    "bos_token_id": null, "eos_token_id": [1, 2], "pad_token_id": 3, "n_ctx": 7, "torch_dtype": "float32",
    "architectures": ["GPT2LMHeadModel"], "use_cache": true, "summary_type": "cls_index",
    "task_specific_params": {"text-generation": {"do_sample": true}}})",
           &warnings);
  EXPECT_EQ(c.vocab_size, 11);
  EXPECT_EQ(c.n_positions, 7);
  EXPECT_EQ(c.n_embd, 6);
  EXPECT_EQ(c.n_layer, 5);
  EXPECT_EQ(c.n_head, 3);
  EXPECT_EQ(c.inner_dim(), 10);
  EXPECT_EQ(c.activation_function, ops::Activation::kQuickGelu);
  EXPECT_EQ(c.resid_pdrop, 0.5f);
  EXPECT_EQ(c.embd_pdrop, 0.25f);
  EXPECT_EQ(c.attn_pdrop, 0.0f);
  EXPECT_EQ(c.layer_norm_epsilon, 0.01f);
  EXPECT_EQ(c.initializer_range, 0.5f);
  EXPECT_FALSE(c.scale_attn_weights);
  EXPECT_TRUE(c.scale_attn_by_inverse_layer_idx);
  EXPECT_TRUE(c.reorder_and_upcast_attn);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_FALSE(c.bos_token_id.has_value());
  EXPECT_THAT(c.eos_token_id, ElementsAreArray({1, 2}));
  EXPECT_EQ(c.pad_token_id, 3);
  EXPECT_THAT(warnings, IsEmpty());
}

TEST(Gpt2Config, TakesTheOldAndTheGeneralNames) {
  EXPECT_EQ(read(R"({"model_type": "gpt2", "n_ctx": 64})").n_positions, 64);
  EXPECT_EQ(read(R"({"model_type": "gpt2", "hidden_size": 24})").n_embd, 24);
  EXPECT_EQ(read(R"({"architectures": ["GPT2LMHeadModel"]})").n_embd, 768);  // no model_type, as in 2019
  EXPECT_THAT(refused<FormatError>(R"({"model_type": "gpt2", "n_embd": 24, "hidden_size": 36})"),
              HasSubstr("n_embd is 24, but hidden_size"));
}

TEST(Gpt2Config, ThrowsWhatOnWarningThrowsAsItIs) {
  const HfConfig file = HfConfig::parse(R"({"model_type": "gpt2", "rope_theta": 10000})", "config.json");
  EXPECT_EQ(message_of<std::length_error>([&] {
              Gpt2Config::from_hf(file, [](std::string_view) { throw std::length_error("my own message"); });
            }),
            "my own message");
}

TEST(Gpt2Config, WarnsOnceOfEachUnknownKey) {
  std::vector<std::string> warnings;
  read(R"({"model_type": "gpt2", "rope_theta": 10000, "n_embd": 24, "zeta": {"a": 1}})", &warnings);
  EXPECT_THAT(warnings, ElementsAreArray({HasSubstr("\"rope_theta\""), HasSubstr("\"zeta\"")}));
}

TEST(Gpt2Config, WarnsOfAnEosTokenOutsideTheVocabularyAndOfNoOther) {
  const auto warnings_of = [](const std::string& entries) {
    std::vector<std::string> warnings;
    read(R"({"model_type": "gpt2", "vocab_size": 97, )" + entries + "}", &warnings);
    return warnings;
  };
  const std::string rest = " is outside the vocabulary [0, 97) and never ends a text";
  // What transformers writes for a network with a vocabulary of its own.
  EXPECT_THAT(warnings_of(R"("bos_token_id": 50256, "eos_token_id": 50256)"),
              ElementsAreArray({"[config.json] eos_token_id 50256" + rest}));
  EXPECT_THAT(warnings_of(R"("eos_token_id": [96, 97])"),
              ElementsAreArray({HasSubstr("eos_token_id 97" + rest)}));
  EXPECT_THAT(warnings_of(R"("eos_token_id": -1)"), ElementsAreArray({HasSubstr("eos_token_id -1" + rest)}));
  EXPECT_THAT(warnings_of(R"("eos_token_id": null, "pad_token_id": 97, "bos_token_id": -1)"), IsEmpty());
  EXPECT_THAT(warnings_of(R"("eos_token_id": 96)"), IsEmpty());
  std::vector<std::string> warnings;  // where the vocabulary itself is wrong, an error is enough
  const std::string empty = R"({"model_type": "gpt2", "vocab_size": 0, "eos_token_id": 5})";
  EXPECT_THROW(read(empty, &warnings), ArgumentError);
  EXPECT_THAT(warnings, IsEmpty());
}

TEST(Gpt2Config, RefusesByNameWhatItDoesNotCompute) {
  EXPECT_THAT(refused<UnsupportedError>(R"({"model_type": "llama"})"), HasSubstr("model_type is \"llama\""));
  EXPECT_THAT(refused<FormatError>(R"({"n_embd": 24})"), HasSubstr("model_type is missing"));
  EXPECT_THAT(
      refused<UnsupportedError>(R"({"model_type": "gpt2", "activation_function": "swiglu"})"),
      AllOf(HasSubstr("activation_function is \"swiglu\", expected gelu_new, gelu_pytorch_tanh, gelu, relu"),
            HasSubstr(", swish, "), HasSubstr("linear")));
  EXPECT_THAT(refused<UnsupportedError>(R"({"model_type": "gpt2", "activation_function": ""})"),
              AllOf(HasSubstr("activation_function is \"\""), HasSubstr("gelu_fast")));
  EXPECT_THAT(refused<UnsupportedError>(R"({"model_type": "gpt2", "add_cross_attention": true})"),
              HasSubstr("add_cross_attention"));
  EXPECT_THAT(refused<UnsupportedError>(R"({"model_type": "gpt2", "quantization_config": {"bits": 4}})"),
              HasSubstr("quantization_config"));
  EXPECT_NO_THROW(read(R"({"model_type": "gpt2", "add_cross_attention": false, "pruned_heads": {}})"));
}

TEST(Gpt2Config, RefusesByNameWhatNoNetworkHas) {
  const auto with = [](const std::string& entry) {
    return refused<ArgumentError>(R"({"model_type": "gpt2", )" + entry + "}");
  };
  EXPECT_THAT(with(R"("n_embd": 770)"), HasSubstr("n_embd 770 is not a multiple of n_head 12"));
  EXPECT_THAT(with(R"("n_head": 0)"), HasSubstr("n_head is 0"));
  EXPECT_THAT(with(R"("n_layer": -1)"), HasSubstr("n_layer is -1"));
  EXPECT_THAT(with(R"("n_layer": 2000000000)"), HasSubstr("n_layer is 2000000000, expected 1 to 10000"));
  EXPECT_THAT(with(R"("vocab_size": 4294967296)"), HasSubstr("vocab_size is 4294967296"));
  EXPECT_THAT(with(R"("n_inner": 0)"), HasSubstr("n_inner is 0"));
  EXPECT_THAT(with(R"("layer_norm_epsilon": 0)"), HasSubstr("layer_norm_epsilon is 0"));
  EXPECT_THAT(with(R"("layer_norm_epsilon": 1e-300)"), HasSubstr("layer_norm_epsilon is 1e-300"));
  EXPECT_THAT(with(R"("initializer_range": 1e300)"), HasSubstr("initializer_range is 1e+300"));
  EXPECT_THAT(with(R"("resid_pdrop": 1.5)"), HasSubstr("resid_pdrop is 1.5"));
  // Matrices of more bytes than 64 bits count.
  for (const char* inner : {"null", "8", "2147483647"})
    EXPECT_THAT(with(concat(R"("n_embd": 2147483646, "n_head": 2, "n_inner": )", inner)),
                HasSubstr("n_embd is 2147483646"));
  // The widest networks that there can be.
  for (const char* widest : {R"("n_embd": 759250000)", R"("n_embd": 876700000, "n_inner": 2147483647)"}) {
    const std::string json = R"({"model_type": "gpt2", "n_layer": 1, "n_head": 8, "n_positions": 2147483647,
                                 "vocab_size": 2147483647, )";
    const Gpt2 network(read(json + widest + "}"));
    EXPECT_NO_THROW(network.visit([](const std::string&, const Tensor&, const Shape&) {}));
  }
}

TEST(Gpt2Config, RefusesWrongTypesByKey) {
  const auto with = [](const std::string& entry) {
    return refused<FormatError>(R"({"model_type": "gpt2", )" + entry + "}");
  };
  EXPECT_THAT(with(R"("n_embd": "768")"), HasSubstr("n_embd"));
  EXPECT_THAT(with(R"("n_layer": 2.5)"), HasSubstr("n_layer"));
  EXPECT_THAT(with(R"("tie_word_embeddings": 1)"), HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(with(R"("eos_token_id": "x")"), HasSubstr("eos_token_id"));
  EXPECT_THAT(with(R"("bos_token_id": 99999999999)"), HasSubstr("bos_token_id"));
  EXPECT_THAT(with(R"("n_ctx": [])"), HasSubstr("n_ctx"));
}

TEST(Gpt2Config, RefusesNullForWhatNoNetworkCanDoWithout) {
  for (const char* key : {"layer_norm_epsilon", "activation_function", "vocab_size", "n_positions", "n_embd",
                          "n_layer", "n_head", "hidden_size", "initializer_range", "resid_pdrop",
                          "embd_pdrop", "attn_pdrop", "scale_attn_weights", "scale_attn_by_inverse_layer_idx",
                          "reorder_and_upcast_attn", "tie_word_embeddings"})
    EXPECT_THAT(refused<FormatError>(concat(R"({"model_type": "gpt2", ")", key, "\": null}")),
                HasSubstr(concat("[config.json] ", key, " is null, expected ")));
  // n_ctx is not its other name, but what files had before it.
  EXPECT_THAT(refused<FormatError>(R"({"model_type": "gpt2", "n_positions": null, "n_ctx": 64})"),
              HasSubstr("n_positions is null, expected an integer"));
  EXPECT_THAT(refused<FormatError>(R"({"model_type": null, "architectures": ["GPT2LMHeadModel"]})"),
              HasSubstr("model_type is null, expected \"gpt2\""));
  // The value stands under its other name, or null is the value.
  EXPECT_EQ(read(R"({"model_type": "gpt2", "n_embd": null, "hidden_size": 24})").n_embd, 24);
  EXPECT_NO_THROW(read(R"({"model_type": "gpt2", "n_inner": null, "pad_token_id": null, "bos_token_id": null,
                           "eos_token_id": null, "pruned_heads": null, "task_specific_params": null,
                           "problem_type": null, "add_cross_attention": null, "quantization_config": null,
                           "architectures": null, "torch_dtype": null, "summary_activation": null})"));
}

// transformers makes its defaults for generate() of them where there is no generation_config.json; libgpt says that it does not.
TEST(Gpt2Config, WarnsByNameOfSettingsOfGenerate) {
  std::vector<std::string> warnings;
  read(R"({"model_type": "gpt2", "do_sample": true, "max_length": 50, "repetition_penalty": 1.2})",
       &warnings);
  EXPECT_THAT(warnings, ElementsAreArray({HasSubstr("\"do_sample\""), HasSubstr("\"max_length\""),
                                          HasSubstr("\"repetition_penalty\"")}));
}

TEST(Gpt2Config, WritesBackWhatItReadAndKeepsTheRest) {
  const std::string json =
      R"({"model_type": "gpt2", "n_embd": 24, "n_head": 2, "layer_norm_epsilon": 1e-05, "custom": [1, {"a": null}],
          "activation_function": "gelu_pytorch_tanh", "eos_token_id": [3, 4], "n_inner": null})";
  HfConfig file = HfConfig::parse(json, "config.json");
  const Gpt2Config c = Gpt2Config::from_hf(file);
  c.to_hf(file);
  EXPECT_EQ(file.get_string("activation_function"), "gelu_pytorch_tanh");
  EXPECT_EQ(file.get_float("layer_norm_epsilon"), 1e-05);
  EXPECT_EQ(file.get_float("resid_pdrop"), 0.1);  // the decimal, not float32's neighbour of it
  EXPECT_TRUE(file.has("custom"));
  EXPECT_TRUE(file.has("n_inner") && file.is_null("n_inner"));
  const Gpt2Config again = Gpt2Config::from_hf(HfConfig::parse(file.dump(), "again"));
  EXPECT_EQ(again.n_embd, 24);
  EXPECT_THAT(again.eos_token_id, ElementsAreArray({3, 4}));
}

TEST(Gpt2Config, TakesBackAPadTokenThatTheFileHad) {
  HfConfig file = HfConfig::parse(R"({"model_type": "gpt2", "pad_token_id": 7})", "config.json");
  Gpt2Config c = Gpt2Config::from_hf(file);
  ASSERT_EQ(c.pad_token_id, 7);
  c.pad_token_id.reset();
  c.to_hf(file);
  EXPECT_TRUE(file.has("pad_token_id") && file.is_null("pad_token_id"));
  EXPECT_EQ(Gpt2Config::from_hf(file).pad_token_id, std::nullopt);
  HfConfig without = HfConfig::parse(R"({"model_type": "gpt2"})", "config.json");
  c.to_hf(without);
  EXPECT_FALSE(without.has("pad_token_id"));
}

}  // namespace
}  // namespace gpt
