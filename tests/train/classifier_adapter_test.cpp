// The files of a classifier's adapter.
#include "gpt/peft/classifier_adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "gpt/io/safetensors.h"
#include "gpt/peft/lora.h"
#include "peft/methods.h"
#include "support/expect_error.h"
#include "support/random_model.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::message_of;
using test::same_bits;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Classifier base_classifier(std::vector<std::string> labels = {"a", "b"}) {
  HfConfig file;
  test::tiny_config().to_hf(file);
  return {Model(test::random_network(test::tiny_config(), 1), file), std::move(labels)};
}

/// One with an adapter that changes something.
Classifier adapted_classifier() {
  Classifier classifier = base_classifier();
  Gpt2& network = classifier.model().network();
  auto adapter = std::make_shared<LoraAdapter>(network, LoraConfig{.r = 2}, 3);
  adapter->visit([](const std::string&, Tensor& tensor, const Shape&) {
    for (std::int64_t i = 0; i < tensor.numel(); ++i) tensor.data<float>()[i] += 0.25f;
  });
  network.attach(adapter);
  classifier.score().values.data<float>()[5] = 2;
  return classifier;
}

TEST(ClassifierAdapter, IsSavedAsPeftDoesAndComesBackWithItsBits) {
  const test::TempDir directory;
  const Classifier saved = adapted_classifier();
  saved.save(directory / "adapter");

  const HfConfig config = HfConfig::load(directory / "adapter" / "adapter_config.json");
  EXPECT_EQ(config.get_string("task_type"), "SEQ_CLS");
  EXPECT_EQ(config.get_string("peft_type"), "LORA");
  EXPECT_THAT(*config.get_string_list("modules_to_save"), ElementsAreArray({"score"}));
  const SafetensorsFile file(directory / "adapter" / "adapter_model.safetensors");
  EXPECT_THAT(file.names(),
              testing::UnorderedElementsAre("base_model.model.score.weight",
                                            "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight",
                                            "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight",
                                            "base_model.model.transformer.h.1.attn.c_attn.lora_A.weight",
                                            "base_model.model.transformer.h.1.attn.c_attn.lora_B.weight"));
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory / "adapter"))
    ++files;
  EXPECT_EQ(files, 2u);

  Classifier loaded = base_classifier();
  const std::vector<TokenId> text = test::tokens(9);
  EXPECT_FALSE(same_bits(saved.logits({&text, 1}), loaded.logits({&text, 1})));
  attach_adapter(loaded, directory / "adapter");
  EXPECT_TRUE(same_bits(saved.logits({&text, 1}), loaded.logits({&text, 1})));
}

TEST(ClassifierAdapter, MayBeOfAnyMethod) {
  const test::TempDir directory;
  const std::vector<TokenId> text = test::tokens(9);
  for (const test::Method& method : test::methods()) {
    Classifier saved = base_classifier();
    saved.model().network().attach(test::learned_adapter(method, saved.model().network(), 3));
    saved.score().values.data<float>()[5] = 2;
    saved.save(directory / method.name);
    Classifier loaded = base_classifier();
    std::vector<std::string> warnings;
    attach_adapter(loaded, directory / method.name,
                   [&](std::string_view warning) { warnings.emplace_back(warning); });
    EXPECT_THAT(warnings, IsEmpty()) << method;
    EXPECT_TRUE(same_bits(saved.logits({&text, 1}), loaded.logits({&text, 1}))) << method;
    // In PEFT the model of a prompt has no tuner around it.
    const bool prompt = method.name == "prompt_tuning" || method.name == "prefix_tuning";
    EXPECT_TRUE(SafetensorsFile(directory / method.name / "adapter_model.safetensors")
                    .contains(prompt ? "base_model.score.weight" : "base_model.model.score.weight"))
        << method;
  }
}

TEST(ClassifierAdapter, TakesWhatPeftCallsTheHeadsOfAllModels) {
  const test::TempDir directory;
  adapted_classifier().save(directory / "adapter");
  HfConfig config = HfConfig::load(directory / "adapter" / "adapter_config.json");
  const std::vector<std::string> both{"classifier", "score"}, more{"score", "wte"};
  config.set_string_list("modules_to_save", both);
  config.save(directory / "adapter" / "adapter_config.json");
  Classifier loaded = base_classifier();
  attach_adapter(loaded, directory / "adapter");
  EXPECT_NE(loaded.model().network().adapter(), nullptr);

  config.set_string_list("modules_to_save", more);
  config.save(directory / "adapter" / "adapter_config.json");
  EXPECT_THAT(message_of<UnsupportedError>([&] { attach_adapter(loaded, directory / "adapter"); }),
              HasSubstr("modules_to_save has wte"));
}

TEST(ClassifierAdapter, IsNotTakenForThatOfALanguageModel) {
  const test::TempDir directory;
  adapted_classifier().save(directory / "adapter");
  const Classifier base = base_classifier();
  EXPECT_THAT(
      message_of<UnsupportedError>([&] { LoraAdapter::load(base.model().network(), directory / "adapter"); }),
      HasSubstr("modules_to_save has score"));
}

TEST(ClassifierAdapter, LeavesAClassifierAsItWasWhereTheHeadDoesNotFit) {
  const test::TempDir directory;
  adapted_classifier().save(directory / "adapter");
  Classifier other = base_classifier({"a", "b", "c"});
  EXPECT_THAT(message_of<ShapeError>([&] { attach_adapter(other, directory / "adapter"); }),
              HasSubstr("has shape [2, 16], expected [3, 16]"));
  EXPECT_EQ(other.model().network().adapter(), nullptr);
}

}  // namespace
}  // namespace gpt
