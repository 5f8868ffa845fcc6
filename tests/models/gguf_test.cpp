// Networks in GGUF files: there, back, and what is refused on either way. And tokenizers of other writers.
#include "gpt/models/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "gpt/io/gguf.h"
#include "gpt/models/quantize.h"
#include "gpt/ops/gguf_blocks.h"
#include "models/tiny_models.h"
#include "support/expect_error.h"
#include "support/gguf_bytes.h"
#include "support/isa.h"
#include "support/random_model.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::logits_of;
using test::model_of;
using test::random_network;
using test::same_bits;
using test::TempDir;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Gpt2Config config_of(std::int64_t n_embd, bool tied = true) {
  Gpt2Config c = test::tiny_config();
  c.n_embd = n_embd;
  c.n_inner = 3 * n_embd;
  c.tie_word_embeddings = tied;
  return c;
}

/// The warnings of a load must be none.
LoadOptions strict(bool map = true) {
  LoadOptions options;
  options.map = map;
  options.on_warning = [](std::string_view message) { ADD_FAILURE() << message; };
  return options;
}

TEST(Gguf, ANetworkComesBackToTheBit) {
  const TempDir dir;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (const bool tied : {true, false})
      for (const bool write_tied_head : {true, false}) {
        SCOPED_TRACE(concat(name_of(dtype), " tied ", tied, " head ", write_tied_head));
        const Model model = model_of(config_of(16, tied), dtype);
        save_gguf(model, dir / "m.gguf", {.write_tied_head = write_tied_head});
        EXPECT_EQ(GgufFile(dir / "m.gguf").contains("output.weight"), !tied || write_tied_head);
        for (const bool map : {true, false})
          for (const bool pack : {false, true}) {
            LoadOptions options = strict(map);
            options.pack = pack;
            const Model loaded = Model::load(dir / "m.gguf", options);
            EXPECT_EQ(loaded.config().tie_word_embeddings, tied);
            EXPECT_TRUE(same_bits(logits_of(loaded), logits_of(model))) << map << pack;
          }
      }
}

TEST(Gguf, KeepsTheConfiguration) {
  const TempDir dir;
  Gpt2Config c = config_of(16);
  c.layer_norm_epsilon = 2e-4f;
  c.n_positions = 17;
  save_gguf(model_of(c), dir / "m.gguf");
  const Gpt2Config loaded = Model::load(dir / "m.gguf", strict()).config();
  EXPECT_EQ(loaded.layer_norm_epsilon, c.layer_norm_epsilon);
  EXPECT_EQ(loaded.n_positions, 17);
  EXPECT_EQ(loaded.inner_dim(), 48);
  EXPECT_EQ(loaded.n_head, 2);
  EXPECT_EQ(loaded.n_layer, 2);
  EXPECT_EQ(loaded.vocab_size, 97);
  const GgufFile file(dir / "m.gguf");
  EXPECT_EQ(file.get_string("general.architecture"), "gpt2");
  EXPECT_EQ(file.get_unsigned("gpt2.vocab_size"), 97u);
  EXPECT_EQ(file.get_string("tokenizer.ggml.model"), "none");
  EXPECT_EQ(file.info("blk.1.ffn_up.weight").shape, (Shape{48, 16}));
  EXPECT_EQ(file.info("blk.1.ffn_up.bias").type, GgufType::kF32);
}

TEST(Gguf, WritesMatricesAsOutputsByInputs) {
  const TempDir dir;
  const Model model = model_of(config_of(16), DType::bf16);
  save_gguf(model, dir / "m.gguf");
  const GgufFile file(dir / "m.gguf");
  bool seen = false;
  model.network().visit_matrices([&](const std::string& name, const ops::Weight& weight) {
    if (name != "h.1.attn.c_attn.weight") return;
    seen = true;
    const Tensor stored = file.tensor("blk.1.attn_qkv.weight");
    for (std::int64_t n = 0; n < 48; ++n)
      for (std::int64_t k = 0; k < 16; ++k)
        ASSERT_EQ(stored.data<BFloat16>()[n * 16 + k].bits, weight.values.data<BFloat16>()[k * 48 + n].bits);
  });
  EXPECT_TRUE(seen);
}

TEST(Gguf, MatricesStayWhereTheyAreMapped) {
  const TempDir dir;
  const Model model = model_of(config_of(16));
  save_gguf(model, dir / "m.gguf");
  const auto layouts = [&](const LoadOptions& options) {
    bool as_stored = true;
    Model::load(dir / "m.gguf", options)
        .network()
        .visit_matrices([&](const std::string&, const ops::Weight& w) {
          as_stored = as_stored && w.layout == ops::WeightLayout::kOutIn;
        });
    return as_stored;
  };
  EXPECT_TRUE(layouts({}));
  EXPECT_FALSE(layouts({.map = false}));
  EXPECT_FALSE(layouts({.dtype = DType::f16}));
}

TEST(Gguf, ALoadedFileIsSavedForHuggingFaceAsBefore) {
  const TempDir dir;
  for (const bool square :
       {true, false}) {  // a square matrix in the wrong layout would go unnoticed by its shape
    const Model model = model_of(config_of(square ? 16 : 32), DType::f32);
    model.save(dir / "original");
    save_gguf(model, dir / "m.gguf");
    Model::load(dir / "m.gguf", strict()).save(dir / "again");
    EXPECT_TRUE(test::read_file(dir / "again/model.safetensors") ==
                test::read_file(dir / "original/model.safetensors"));
  }
}

TEST(Gguf, ConvertsToWhatIsAskedFor) {
  const TempDir dir;
  const Model model = model_of(config_of(32));
  for (const auto& [weights, dtype] :
       {std::pair(GgufWeights::kF16, DType::f16), {GgufWeights::kBF16, DType::bf16}}) {
    save_gguf(model, dir / "m.gguf", {.weights = weights});
    model.save(dir / "hf");
    // Of a Hugging Face directory everything is rounded; here the vectors and positions are not.
    Model expected = Model::load(dir / "hf");
    expected.network().visit_matrices([&, to = dtype](const std::string& name, ops::Weight& w) {
      if (name != "wpe.weight") w.values = w.values.to(to);
    });
    EXPECT_TRUE(same_bits(logits_of(Model::load(dir / "m.gguf", strict())), logits_of(expected)));
  }
  Gpt2Config large = config_of(16);
  Model beyond = model_of(large);
  beyond.network().visit_matrices([](const std::string& name, ops::Weight& w) {
    if (name == "h.0.mlp.c_fc.weight") w.values.data<float>()[3] = 1e6f;
  });
  expect_error<NumericError>([&] { save_gguf(beyond, dir / "x.gguf", {.weights = GgufWeights::kF16}); },
                             {"[h.0.mlp.c_fc.weight]", "1e+06", "float16"});
  EXPECT_FALSE(std::filesystem::exists(dir / "x.gguf"));
  expect_error<NumericError>([&] { beyond.save(dir / "x", {.dtype = DType::f16}); },
                             {"[transformer.h.0.mlp.c_fc.weight]", "1e+06", "float16"});
  EXPECT_FALSE(std::filesystem::exists(dir / "x"));
}

TEST(Gguf, QuantizedMatricesComeBackToTheBit) {
  const TempDir dir;
  for (const auto format : {ops::WeightFormat::int8, ops::WeightFormat::int4}) {
    Model model = model_of(config_of(32));
    quantize(model.network(), {.format = {.format = format, .group_size = 32}});
    save_gguf(model, dir / "m.gguf");
    const Model loaded = Model::load(dir / "m.gguf", strict());
    EXPECT_TRUE(same_bits(logits_of(loaded), logits_of(model)));
    // Asking for what they are changes nothing.
    save_gguf(loaded, dir / "n.gguf",
              {.weights = format == ops::WeightFormat::int8 ? GgufWeights::kQ8_0 : GgufWeights::kQ4_0});
    EXPECT_TRUE(test::read_file(dir / "n.gguf") == test::read_file(dir / "m.gguf"));
    loaded.save(dir / "hf");
    model.save(dir / "hf_before");
    EXPECT_TRUE(test::read_file(dir / "hf/model.safetensors") ==
                test::read_file(dir / "hf_before/model.safetensors"));
  }
  Model wide = model_of(config_of(64));
  quantize(wide.network(), {.format = {.format = ops::WeightFormat::int8, .group_size = 64}});
  expect_error<UnsupportedError>([&] { save_gguf(wide, dir / "x.gguf"); }, {"group_size 64", "32"});
}

TEST(Gguf, QuantizesOnTheWay) {
  const TempDir dir;
  const Model model = model_of(config_of(32));
  for (const auto& [weights, block] :
       {std::pair(GgufWeights::kQ8_0, ops::GgufBlock::kQ8_0), {GgufWeights::kQ4_0, ops::GgufBlock::kQ4_0}}) {
    save_gguf(model, dir / "m.gguf", {.weights = weights});
    const GgufFile file(dir / "m.gguf");
    EXPECT_EQ(name_of(file.info("blk.0.ffn_down.weight").type), ops::name_of(block));
    EXPECT_EQ(file.info("position_embd.weight").type, GgufType::kF32);
    model.network().visit_matrices([&, kind = block](const std::string& name, const ops::Weight& w) {
      if (name != "h.0.mlp.c_proj.weight") return;
      const auto expected = ops::quantize_gguf(name, kind, ops::dequantize(w, ops::WeightLayout::kOutIn));
      const auto stored = file.bytes("blk.0.ffn_down.weight");
      EXPECT_TRUE(std::equal(stored.begin(), stored.end(), expected.begin(), expected.end()));
    });
    static_cast<void>(logits_of(Model::load(dir / "m.gguf", strict())));
  }
  expect_error<UnsupportedError>(
      [&] { save_gguf(model_of(config_of(16)), dir / "x.gguf", {.weights = GgufWeights::kQ8_0}); },
      {"[wte.weight]", "rows of 16", "Q8_0"});
  EXPECT_FALSE(std::filesystem::exists(dir / "x.gguf"));
}

/// Writes a file again, its tensors through `change`, which may return blocks of another type.
void rewrite(const std::filesystem::path& from, const std::filesystem::path& to,
             const std::function<void(GgufTensor& tensor)>& change, const GgufMetadata& metadata) {
  const GgufFile file(from);
  std::vector<GgufTensor> tensors;
  for (const std::string& name : file.names()) {
    const auto bytes = file.bytes(name);
    tensors.push_back({name, file.info(name).type, file.info(name).shape,
                       [bytes] { return std::vector<std::byte>(bytes.begin(), bytes.end()); }});
    change(tensors.back());
  }
  AtomicFile out(to);
  write_gguf(out, metadata, tensors);
  out.commit();
}

GgufMetadata metadata_of(std::uint32_t n_embd, std::string_view architecture = "gpt2") {
  GgufMetadata m;
  m.set_string("general.architecture", architecture);
  m.set_uint32("gpt2.context_length", 32);
  m.set_uint32("gpt2.embedding_length", n_embd);
  m.set_uint32("gpt2.block_count", 2);
  m.set_uint32("gpt2.feed_forward_length", 3 * n_embd);
  m.set_uint32("gpt2.attention.head_count", 2);
  m.set_float32("gpt2.attention.layer_norm_epsilon", 1e-5f);
  return m;
}

TEST(Gguf, BlocksOfEveryKindRunAsTheirFloats) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const TempDir dir;
  const std::pair<GgufType, ops::GgufBlock> kinds[] = {
      {GgufType::kQ4_1, ops::GgufBlock::kQ4_1}, {GgufType::kQ5_0, ops::GgufBlock::kQ5_0},
      {GgufType::kQ5_1, ops::GgufBlock::kQ5_1}, {GgufType::kQ4_K, ops::GgufBlock::kQ4_K},
      {GgufType::kQ5_K, ops::GgufBlock::kQ5_K}, {GgufType::kQ6_K, ops::GgufBlock::kQ6_K}};
  save_gguf(model_of(config_of(256)), dir / "plain.gguf");
  for (const auto& [type, block] : kinds) {
    SCOPED_TRACE(name_of(type));
    // The head alone becomes blocks, as llama.cpp's quantizer makes it another type than the embedding; and one matrix.
    std::vector<std::byte> head;
    const auto make = [&, kind = block](const Shape& shape) {
      std::vector<std::byte> bytes(ops::gguf_size(kind, shape[1], shape[0]));
      const CounterRng rng(9);
      for (std::size_t i = 0; i < bytes.size(); ++i)  // no exponent of 31 in any f16, wherever they are
        bytes[i] = static_cast<std::byte>(rng.bits(i) & 0x33);
      return bytes;
    };
    const auto is_changed = [](const std::string& name) {
      return name == "output.weight" || name == "blk.1.ffn_down.weight";
    };
    rewrite(
        dir / "plain.gguf", dir / "blocks.gguf",
        [&, to = type](GgufTensor& t) {
          if (!is_changed(t.name)) return;
          t.make = [&make, shape = t.shape] { return make(shape); };
          t.type = to;
        },
        metadata_of(256));
    rewrite(
        dir / "plain.gguf", dir / "floats.gguf",
        [&, kind = block](GgufTensor& t) {
          if (!is_changed(t.name)) return;
          t.make = [&make, kind, shape = t.shape] {
            const Tensor w = ops::dequantize_gguf("w", kind, make(shape), shape[1], shape[0]);
            return std::vector<std::byte>(w.view().raw(), w.view().raw() + w.nbytes());
          };
        },
        metadata_of(256));
    const Model blocks = Model::load(dir / "blocks.gguf", strict());
    EXPECT_FALSE(blocks.config().tie_word_embeddings);
    EXPECT_TRUE(same_bits(logits_of(blocks), logits_of(Model::load(dir / "floats.gguf", strict()))));
    LoadOptions options = strict();
    options.dtype = DType::bf16;
    options.pack = true;
    const Model rounded = Model::load(dir / "blocks.gguf", options);
    EXPECT_TRUE(same_bits(logits_of(rounded), logits_of(Model::load(dir / "floats.gguf", options))));
    EXPECT_EQ(rounded.network().head().format(), ops::WeightFormat::bf16);
  }
}

TEST(Gguf, NamesWhatIsMissingOrOfAnotherKind) {
  const TempDir dir;
  save_gguf(model_of(config_of(32)), dir / "m.gguf");
  const auto with = [&](
                        const GgufMetadata& metadata,
                        const std::function<void(GgufTensor&)>& change = [](auto&) {}) {
    rewrite(dir / "m.gguf", dir / "x.gguf", change, metadata);
    return [&] { Model::load(dir / "x.gguf"); };
  };
  expect_error<UnsupportedError>(with(metadata_of(32, "llama")),
                                 {"x.gguf", "general.architecture", "llama", "gpt2"});
  expect_error<FormatError>(with(GgufMetadata()), {"x.gguf", "general.architecture is missing"});
  GgufMetadata m;
  m.set_string("general.architecture", "gpt2");
  expect_error<FormatError>(with(m), {"x.gguf", "gpt2.context_length is missing"});
  m.set_float32("gpt2.context_length", 32);
  expect_error<FormatError>(with(m), {"gpt2.context_length is float32", "an integer"});
  m = metadata_of(32);
  m.set_uint32("gpt2.attention.head_count_kv", 1);
  expect_error<UnsupportedError>(with(m), {"head_count_kv is 1"});
  m = metadata_of(32);
  m.set_uint32("split.count", 3);
  expect_error<UnsupportedError>(with(m), {"split.count"});
  expect_error<ShapeError>(with(metadata_of(64)), {"x.gguf", "token_embd.weight", "[97, 32]", "[97, 64]"});
  const auto rename = [](GgufTensor& t) {
    if (t.name == "blk.1.attn_norm.weight") t.name = "blk.7.attn_norm.weight";
  };
  expect_error<FormatError>(with(metadata_of(32), rename), {"x.gguf", "blk.1.attn_norm.weight"});
  const auto vector_as_blocks = [](GgufTensor& t) {
    if (t.name != "blk.0.ffn_up.bias") return;
    t.type = GgufType::kQ8_0;
    t.make = [] { return std::vector<std::byte>(3 * 34); };
  };
  expect_error<FormatError>(with(metadata_of(32), vector_as_blocks), {"blk.0.ffn_up.bias", "Q8_0", "F32"});
  test::write_file(dir / "y.gguf", "GG");
  expect_error<FormatError>([&] { Model::load(dir / "y.gguf"); }, {"y.gguf"});
  expect_error<IoError>([&] { Model::load(dir / "missing.gguf"); }, {"missing.gguf"});
}

TEST(Gguf, IsKnownByItsBeginningToo) {
  const TempDir dir;
  save_gguf(model_of(config_of(16)), dir / "blob");
  EXPECT_EQ(Model::load(dir / "blob", strict()).config().n_embd, 16);
}

TEST(Gguf, WarnsOfWhatHasNoEffect) {
  const TempDir dir;
  save_gguf(model_of(config_of(16)), dir / "m.gguf");
  GgufMetadata m = metadata_of(16);
  m.set_uint32("gpt2.rope.dimension_count", 4);
  m.set_string("general.name", "harmless");
  rewrite(
      dir / "m.gguf", dir / "x.gguf",
      [](GgufTensor& t) {
        if (t.name == "output.weight") t.name = "rope_freqs.weight";
      },
      m);
  std::vector<std::string> warnings;
  LoadOptions options;
  options.on_warning = [&](std::string_view message) { warnings.emplace_back(message); };
  Model::load(dir / "x.gguf", options);
  EXPECT_THAT(warnings, ElementsAreArray(
                            {HasSubstr("tensor rope_freqs.weight"), HasSubstr("gpt2.rope.dimension_count")}));
}

TEST(Gguf, StopsBetweenTensors) {
  const TempDir dir;
  const Model model = model_of(config_of(16));
  save_gguf(model, dir / "m.gguf");
  std::stop_source source;
  source.request_stop();
  expect_error<CancelledError>([&] { Model::load(dir / "m.gguf", {.stop = source.get_token()}); },
                               {"m.gguf"});
  expect_error<CancelledError>([&] { save_gguf(model, dir / "n.gguf", {.stop = source.get_token()}); },
                               {"stopped"});
  EXPECT_FALSE(std::filesystem::exists(dir / "n.gguf"));
}

TEST(GgufTokenizer, ReadsFilesOfOtherWriters) {
  const TempDir dir;
  save_gguf(model_of(config_of(16)), dir / "m.gguf");
  const std::vector<std::string> tokens = {"a", "b", "ab", "<s>"}, merges = {"a b"}, bad = {"ab"};
  GgufMetadata m = metadata_of(16);
  m.set_string("tokenizer.ggml.model", "gpt2");
  m.set_strings("tokenizer.ggml.tokens", tokens);
  m.set_strings("tokenizer.ggml.merges", merges);
  m.set_uint32("tokenizer.ggml.eos_token_id", 3);
  // No types, no name of the way of splitting: as in 2023.
  rewrite(
      dir / "m.gguf", dir / "x.gguf", [](auto&) {}, m);
  std::vector<std::string> warnings;
  LoadOptions options;
  options.on_warning = [&](std::string_view message) { warnings.emplace_back(message); };
  const Model model = Model::load(dir / "x.gguf", options);
  EXPECT_THAT(warnings, ElementsAreArray({HasSubstr("tokenizer.ggml.pre is missing")}));
  EXPECT_THAT(model.tokenizer().encode("ab<s>"), ElementsAreArray({2, 3}));
  EXPECT_TRUE(model.tokenizer().is_special(3));
  // Where there are types, they say what is special.
  const std::int32_t normal[] = {1, 1, 1, 1};
  m.set_int32s("tokenizer.ggml.token_type", normal);
  rewrite(
      dir / "m.gguf", dir / "typed.gguf", [](auto&) {}, m);
  const Model typed = Model::load(dir / "typed.gguf");
  EXPECT_FALSE(typed.tokenizer().is_special(3));
  EXPECT_EQ(typed.tokenizer().eos_token_id(), 3);

  const auto refused_with = [&](const std::function<void(GgufMetadata&)>& change) {
    GgufMetadata other = metadata_of(16);
    change(other);
    rewrite(
        dir / "m.gguf", dir / "x.gguf", [](auto&) {}, other);
    return [&] { Model::load(dir / "x.gguf"); };
  };
  expect_error<UnsupportedError>(refused_with([](auto& o) { o.set_string("tokenizer.ggml.model", "llama"); }),
                                 {"x.gguf", "tokenizer.ggml.model", "llama"});
  expect_error<UnsupportedError>(refused_with([](auto& o) {
                                   o.set_string("tokenizer.ggml.model", "gpt2");
                                   o.set_string("tokenizer.ggml.pre", "llama-bpe");
                                 }),
                                 {"tokenizer.ggml.pre", "llama-bpe", "gpt-2"});
  const auto gpt2_with = [&](const std::function<void(GgufMetadata&)>& change) {
    return refused_with([&](GgufMetadata& o) {
      o.set_string("tokenizer.ggml.model", "gpt2");
      o.set_string("tokenizer.ggml.pre", "gpt-2");
      change(o);
    });
  };
  expect_error<FormatError>(gpt2_with([](auto&) {}), {"tokenizer.ggml.tokens is missing"});
  expect_error<FormatError>(gpt2_with([&](auto& o) { o.set_strings("tokenizer.ggml.tokens", tokens); }),
                            {"tokenizer.ggml.merges is missing"});
  const auto with_tokens = [&](const std::function<void(GgufMetadata&)>& change) {
    return gpt2_with([&](GgufMetadata& o) {
      o.set_strings("tokenizer.ggml.tokens", tokens);
      change(o);
    });
  };
  expect_error<FormatError>(with_tokens([&](auto& o) { o.set_strings("tokenizer.ggml.merges", bad); }),
                            {"merges", "entry 0", "\"ab\""});
  expect_error<FormatError>(with_tokens([&](auto& o) { o.set_strings("tokenizer.ggml.merges", {}); }),
                            {"x.gguf", "tokenizer.ggml.merges", "has no merge", "\"ab\""});
  const std::int32_t few[] = {1, 1}, odd[] = {1, 1, 1, 6}, unused[] = {1, 1, 1, 5};
  expect_error<FormatError>(with_tokens([&](auto& o) { o.set_int32s("tokenizer.ggml.token_type", few); }),
                            {"token_type has 2 entries", "4"});
  expect_error<UnsupportedError>(
      with_tokens([&](auto& o) { o.set_int32s("tokenizer.ggml.token_type", odd); }),
      {"token_type of token 3 is 6"});
  for (const std::uint32_t id : {3u, 4u, 0xffffffffu})
    expect_error<FormatError>(with_tokens([&](auto& o) {
                                o.set_int32s("tokenizer.ggml.token_type", unused);
                                o.set_uint32("tokenizer.ggml.eos_token_id", id);
                              }),
                              {"eos_token_id is", concat(id)});
}

TEST(Gguf, RefusesNetworksThatLlamaCppWouldRunOtherwise) {
  const TempDir dir;
  const auto refuse = [&](const std::function<void(Gpt2Config&)>& change, std::string_view key) {
    Gpt2Config c = config_of(16);
    change(c);
    expect_error<UnsupportedError>([&] { save_gguf(model_of(c), dir / "x.gguf"); },
                                   {"x.gguf", key, "llama.cpp"});
  };
  using ops::Activation;
  for (const Activation f :
       {Activation::kGelu, Activation::kRelu, Activation::kSilu, Activation::kTanh, Activation::kQuickGelu})
    refuse([f](auto& c) { c.activation_function = f; }, ops::name_of(f));
  refuse([](auto& c) { c.scale_attn_weights = false; }, "scale_attn_weights");
  refuse([](auto& c) { c.scale_attn_by_inverse_layer_idx = true; }, "scale_attn_by_inverse_layer_idx");
  expect_error<ShapeError>([&] { save_gguf(Model(Gpt2(config_of(16)), HfConfig()), dir / "x.gguf"); },
                           {"wte.weight"});
}

}  // namespace
}  // namespace gpt
