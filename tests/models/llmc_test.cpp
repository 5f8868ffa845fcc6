// llm.c's checkpoints: there, back, and wrong ones.
#include "gpt/models/llmc.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "models/tiny_models.h"
#include "support/expect_error.h"
#include "support/random_model.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::logits_of;
using test::model_of;
using test::same_bits;
using test::TempDir;

template <class T>
T at(const std::string& bytes, std::size_t place) {
  T value;
  std::memcpy(&value, bytes.data() + place, sizeof value);
  return value;
}

TEST(Llmc, ANetworkComesBackToTheBit) {
  const TempDir dir;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Model model = model_of(test::tiny_config(), dtype);
    save_llmc(model, dir / "m.bin", dtype);
    for (const bool map : {true, false})
      for (const bool pack : {true, false})
        EXPECT_TRUE(
            same_bits(logits_of(load_llmc(dir / "m.bin", {.map = map, .pack = pack})), logits_of(model)));
    model.save(dir / "before");
    load_llmc(dir / "m.bin").save(dir / "after");
    EXPECT_TRUE(test::read_file(dir / "after/model.safetensors") ==
                test::read_file(dir / "before/model.safetensors"));
  }
}

TEST(Llmc, LaysTheFileOutAsTrainGpt2PyDoes) {
  const TempDir dir;
  const Model model = model_of(test::tiny_config());
  save_llmc(model, dir / "m.bin");
  const std::string bytes = test::read_file(dir / "m.bin");
  const std::int32_t header[] = {20240326, 3, 32, 97, 2, 2, 16, 128};
  for (std::size_t i = 0; i < 256; ++i)
    EXPECT_EQ(at<std::int32_t>(bytes, 4 * i), i < std::size(header) ? header[i] : 0) << i;
  // Elements before: wte [128, 16], wpe [32, 16], two ln_1 weights and biases of 16; then two c_attn [48, 16].
  const std::size_t c_attn = 128 * 16 + 32 * 16 + 4 * 16;
  model.network().visit([&](const std::string& name, const Tensor& t, const Shape&) {
    if (name == "wte.weight") {
      EXPECT_EQ(at<float>(bytes, 1024), t.data<float>()[0]);
      EXPECT_EQ(at<float>(bytes, 1024 + 4 * (96 * 16 + 15)), t.data<float>()[96 * 16 + 15]);
    }
    for (std::size_t i = 0; i < 48 * 16 && name == "h.1.attn.c_attn.weight"; ++i)  // stored as [in, out]
      ASSERT_EQ(at<float>(bytes, 1024 + 4 * (c_attn + 48 * 16 + i)), t.data<float>()[i % 16 * 48 + i / 16]);
    if (name == "ln_f.bias") {
      EXPECT_EQ(at<float>(bytes, bytes.size() - 4), t.data<float>()[15]);
    }
  });
  for (std::size_t i = 97 * 16; i < 128 * 16; ++i) ASSERT_EQ(at<float>(bytes, 1024 + 4 * i), 0.0f);
  save_llmc(model, dir / "b.bin", DType::bf16);
  EXPECT_EQ(at<std::int32_t>(test::read_file(dir / "b.bin"), 4), 5);
  EXPECT_EQ(test::read_file(dir / "b.bin").size(), 1024 + (bytes.size() - 1024) / 2);
}

TEST(Llmc, TakesGpt2sEndOfTextWhereThereIsOne) {
  const TempDir dir;
  Gpt2Config c = test::tiny_config();
  save_llmc(model_of(c), dir / "m.bin");
  EXPECT_TRUE(load_llmc(dir / "m.bin").config().eos_token_id.empty());
  c.vocab_size = 50257;
  save_llmc(model_of(c), dir / "m.bin");
  const Gpt2Config loaded = load_llmc(dir / "m.bin").config();
  EXPECT_EQ(loaded.vocab_size, 50257);
  EXPECT_EQ(loaded.eos_token_id, std::vector<TokenId>{50256});
}

TEST(Llmc, RefusesFilesThatAreNone) {
  const TempDir dir;
  save_llmc(model_of(test::tiny_config()), dir / "m.bin");
  const std::string good = test::read_file(dir / "m.bin");
  const auto load = [&](std::string bytes) {
    test::write_file(dir / "x.bin", bytes);
    return [&] { load_llmc(dir / "x.bin"); };
  };
  const auto with = [&](std::size_t place, std::int32_t number) {
    std::string bytes = good;
    std::memcpy(bytes.data() + 4 * place, &number, 4);
    return load(bytes);
  };
  expect_error<FormatError>(load("short"), {"x.bin", "5 bytes", "1024"});
  expect_error<FormatError>(with(0, 20230000), {"x.bin", "20230000", "20240326"});
  for (const std::int32_t version : {1, 2, 4, 6})
    expect_error<UnsupportedError>(with(1, version), {"x.bin", concat("version ", version), "3 or 5"});
  for (const std::size_t place : {2u, 3u, 4u, 5u, 6u})
    for (const std::int32_t number : {0, -1, -2147483647 - 1})
      EXPECT_THROW(with(place, number)(), FormatError) << place << ' ' << number;
  expect_error<FormatError>(with(5, 3), {"x.bin", "n_embd 16", "n_head 3"});
  expect_error<FormatError>(with(7, 96), {"x.bin", "padded vocabulary is 96", "97"});
  expect_error<FormatError>(with(6, 2147483646), {"x.bin", "n_embd"});
  for (const std::size_t place : {2u, 4u, 7u})
    expect_error<FormatError>(with(place, 9000), {"x.bin", concat(good.size(), " bytes, expected")});
  expect_error<FormatError>(load(good.substr(0, good.size() - 4)), {"x.bin", "bytes, expected"});
  expect_error<FormatError>(load(good + "more"), {"x.bin", "bytes, expected"});
  expect_error<IoError>([&] { load_llmc(dir / "missing.bin"); }, {"missing.bin"});
}

TEST(Llmc, LeavesAFileAsItWasWhenItIsStopped) {
  const TempDir tmp;
  test::write_file(tmp / "m.bin", "old");
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(save_llmc(model_of(test::tiny_config()), tmp / "m.bin", DType::f32, stop.get_token()),
               CancelledError);
  EXPECT_EQ(test::read_file(tmp / "m.bin"), "old");
}

TEST(Llmc, RefusesNetworksThatItWouldComputeOtherwise) {
  const TempDir dir;
  const auto refuse = [&](const std::function<void(Gpt2Config&)>& change, std::string_view key) {
    Gpt2Config c = test::tiny_config();
    change(c);
    expect_error<UnsupportedError>([&] { save_llmc(model_of(c), dir / "x.bin"); }, {"x.bin", key, "llm.c"});
    EXPECT_FALSE(std::filesystem::exists(dir / "x.bin"));
  };
  refuse([](auto& c) { c.n_inner = 48; }, "n_inner");
  refuse([](auto& c) { c.activation_function = ops::Activation::kGelu; }, "activation_function");
  refuse([](auto& c) { c.layer_norm_epsilon = 1e-6f; }, "layer_norm_epsilon");
  refuse([](auto& c) { c.scale_attn_weights = false; }, "scale_attn_weights");
  refuse([](auto& c) { c.scale_attn_by_inverse_layer_idx = true; }, "scale_attn_by_inverse_layer_idx");
  refuse([](auto& c) { c.tie_word_embeddings = false; }, "tie_word_embeddings");
  expect_error<UnsupportedError>([&] { save_llmc(model_of(test::tiny_config()), dir / "x.bin", DType::f16); },
                                 {"x.bin", "float16"});
}

}  // namespace
}  // namespace gpt
