// Law 3: whichever allocation fails, it is a gpt::Error.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "allocations.h"
#include "core/input_file.h"
#include "gpt/core/arena.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/directory_lock.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/core/rng.h"
#include "gpt/core/tensor.h"
#include "gpt/evaluate/bag_of_words.h"
#include "gpt/evaluate/classification.h"
#include "gpt/evaluate/embed.h"
#include "gpt/evaluate/explain.h"
#include "gpt/evaluate/explanation_page.h"
#include "gpt/evaluate/score.h"
#include "gpt/generate/constraints.h"
#include "gpt/generate/filters.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/penalties.h"
#include "gpt/generate/sampler.h"
#include "gpt/generate/scheduler.h"
#include "gpt/io/gguf.h"
#include "gpt/io/hf_config.h"
#include "gpt/io/safetensors.h"
#include "gpt/models/average.h"
#include "gpt/models/classifier.h"
#include "gpt/models/gguf.h"
#include "gpt/models/gpt2.h"
#include "gpt/models/gpt2_config.h"
#include "gpt/models/language_model_loss.h"
#include "gpt/models/llmc.h"
#include "gpt/models/model.h"
#include "gpt/models/prune.h"
#include "gpt/models/quantize.h"
#include "gpt/models/special_tokens.h"
#include "gpt/nn/kv_cache.h"
#include "gpt/nn/kv_pool.h"
#include "gpt/ops/activation.h"
#include "gpt/ops/elementwise.h"
#include "gpt/ops/gguf_blocks.h"
#include "gpt/ops/optimizer.h"
#include "gpt/ops/quantize.h"
#include "gpt/ops/softmax.h"
#include "gpt/ops/weight.h"
#include "gpt/peft/bottleneck.h"
#include "gpt/peft/lora.h"
#include "gpt/peft/prompt_tuning.h"
#include "gpt/text/bpe_trainer.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/chat_template.h"
#include "gpt/text/stream_decoder.h"
#include "gpt/text/tokenizer.h"
#include "gpt/text/utf8.h"
#include "gpt/text/wordpiece.h"
#include "gpt/train/batches.h"
#include "gpt/train/classification_dataset.h"
#include "support/random_model.h"
#include "support/temp_dir.h"
#include "support/torch_file.h"

namespace gpt {
namespace {

using test::EntryPoints;
using test::expect_memory_errors;
using test::expect_refused;
using test::kDemo;
using test::made_by_the_caller;

TEST(HfConfig, MayRunOutOfMemoryAnywhereInACopy) {
  const HfConfig config = HfConfig::parse(
      R"({"a_list": [1, "a text too long for the string itself", {"of": ["a text too long for the string itself"]}],
          "a_key_too_long_for_the_string_itself": {"another_key_too_long_for_itself": "a text too long for itself"}})",
      "config.json");
  int failures = 0;
  for (bool copied = false; !copied; ++failures) {
    test::run_out_after(failures, test::Shortage::kOnce);
    try {
      const HfConfig copy = config;
      copied = true;
    } catch (const std::bad_alloc&) {
    }
    test::with_all_memory();
    ASSERT_LT(failures, 100);
  }
  EXPECT_GT(failures, 8);
}

// Law 3: whichever allocation fails, it is a gpt::Error, and nothing on the way out needs memory.
TEST_F(EntryPoints, TurnMissingMemoryIntoAMemoryError) {
  const Model model = Model::load(kDemo);
  const Generator generator(model);
  expect_memory_errors(60, [&] { model.tokenizer().encode("Shall I compare thee"); });
  expect_memory_errors(60, [&] { generator.generate("ROMEO:", {.max_new_tokens = 3}); });
  expect_memory_errors(200, [] { Model::load(kDemo); });
  expect_memory_errors(150, [&] {
    Scheduler scheduler(model, {.max_batch = 2, .kv_cache_bytes = 16 << 20});
    RequestId requests[3];
    for (RequestId& id : requests) id = scheduler.submit("ROMEO:", {.max_new_tokens = 3});
    scheduler.run();
    for (const RequestId id : requests) scheduler.take(id)->get();
  });
  expect_memory_errors(20, [&] {
    Model changed = made_by_the_caller([&] { return model; });
    changed.network().set_special_tokens({}, {}, {});
    align_special_tokens(changed);
  });
  const test::TempDir dir;
  const std::filesystem::path copy = dir.path() / "copy";
  expect_memory_errors(50, [&] { model.save(copy); });
  const std::vector<LabelledRow> rows{{"a", {"bad"}}, {"b", {"good"}}, {"c", {"bad"}}};
  const ClassificationDataset data(Classifier(model, {"bad", "good"}), rows);
  expect_memory_errors(20, [&] {
    data.at(0);
    data.rows();
    const auto folds = stratified_folds(data.classes(), 2, 1);
    data.subset(folds.front());
  });
}

TEST_F(EntryPoints, OfTheNetworkTurnMissingMemoryIntoAMemoryError) {
  Gpt2Config config = test::tiny_config();
  config.pruned_heads = {{0, {1}}};
  expect_memory_errors(100, [&] { Gpt2 network(config); });
  Gpt2 network = test::random_network(test::tiny_config(), 1);
  const std::vector<TokenId> ids{1, 2, 3};
  const Chunk chunk{ids};
  for (const ForwardOptions& options :
       {ForwardOptions{.hidden_states = true}, ForwardOptions{.attentions = true}}) {
    expect_memory_errors(100, [&] {
      Arena arena;
      network.forward({&chunk, 1}, arena, options);
    });
  }
  const std::vector<std::int64_t> input_ids{1, 2, 3, 4}, mask{1, 1, 1, 0};
  expect_memory_errors(100, [&] {
    logits_of_padded(network, ConstTensorView(input_ids.data(), Shape{1, 4}),
                     ConstTensorView(mask.data(), Shape{1, 4}));
  });
  expect_memory_errors(100, [&] { network.pack(); });
  expect_memory_errors(100, [&] { network.fingerprint(); });

  const std::vector<float> logits(100, 1.0f);
  expect_memory_errors(100, [&] {
    LogitsProcessors processors = made_by_the_caller([] {
      LogitsProcessors list;
      list.push_back(std::make_unique<Mirostat>(5.0, 0.1));
      list.push_back(std::make_unique<TopP>(0.9));
      return list;
    });
    Sampler sampler(std::move(processors), CounterRng(1));
    std::vector<double> state = sampler.initial_state();
    sampler.next(logits, DecodingStep{.history = ids}, state);
  });
  const GenerateOptions options{.sequence_bias = std::vector<BiasedSequence>{{ids, 1.0}},
                                .bad_words_ids = std::vector<std::vector<TokenId>>{ids}};
  expect_memory_errors(100, [&] { options.validate(); });
}

TEST_F(EntryPoints, OfTheConfigurationTurnMissingMemoryIntoAMemoryError) {
  const test::TempDir dir;
  const std::filesystem::path path = kDemo / "config.json", copy = dir / "config.json";
  const std::string text = read_text_file(path), key = "a_key_too_long_for_the_string_itself";
  const HfConfig read = HfConfig::load(path);
  expect_memory_errors(50, [&] { HfConfig::parse(text, "config.json"); });
  expect_memory_errors(50, [&] { HfConfig::load(path); });
  expect_memory_errors(50, [&] { read.save(copy); });
  expect_memory_errors(100, [&] {
    HfConfig config;
    config.set_string(key, key);
    config.set_string_list("a", {&key, 1});
    config.set_object("b", read);
    config.set_int("a_number_of_a_key_too_long_for_the_string_itself", 1);
    static_cast<void>(config.keys());
    static_cast<void>(config.get_string(key));
    static_cast<void>(config.get_string_list("a"));
    static_cast<void>(config.get_object("b"));
    static_cast<void>(config.get_json("b"));
    static_cast<void>(config.has("another_key_too_long_for_the_string_itself"));
    static_cast<void>(config.unread_keys());
    static_cast<void>(config.dump());
  });
  expect_memory_errors(100, [&] {
    const HfConfig unread = made_by_the_caller([&] { return HfConfig::parse(text, "config.json"); });
    Gpt2Config::from_hf(unread);
  });
  const Gpt2Config config = test::tiny_config();
  expect_memory_errors(100, [&] {
    HfConfig file;
    config.to_hf(file);
  });
}

TEST_F(EntryPoints, OfFilesTurnMissingMemoryIntoAMemoryError) {
  const test::TempDir dir;
  const std::filesystem::path first = dir / "a_name_too_long_for_the_string_itself",
                              second = dir / "another_name_too_long_for_the_string_itself",
                              missing = dir / "nothing_of_a_name_too_long_for_the_string_itself";
  for (const std::filesystem::path& path : {first, second}) write_file_atomically(path, "old");
  const auto next_descriptor = [&] { return InputFile(first).descriptor(); };
  const int descriptor = next_descriptor();
  expect_memory_errors(50, [&] { MappedFile file(first); });
  expect_memory_errors(50, [&] { MappedFile file(first, MappedFile::Mode::kRead); });
  expect_memory_errors(50, [&] { read_text_file(first); });
  expect_memory_errors(50, [&] { write_file_atomically(first, "old"); });
  expect_memory_errors(50, [&] {
    AtomicFile file(first);
    file.write("old");
    static_cast<void>(file.commit_and_map());
  });
  expect_memory_errors(100, [&] {
    AtomicFiles files;
    files.add(first).write("old");
    files.add(second).write("old");
    files.remove(missing);
    files.commit();
  });
  int left = 0;  // of what was written beside them, nothing
  for (const auto& entry : std::filesystem::directory_iterator(dir.path())) {
    EXPECT_EQ(test::read_file(entry.path()), "old");
    ++left;
  }
  EXPECT_EQ(left, 2);
  EXPECT_EQ(next_descriptor(), descriptor);
}

TEST_F(EntryPoints, OfTextTurnMissingMemoryIntoAMemoryError) {
  const std::string text = "text that is too long for the string itself",
                    vocab = R"({"a": 0, "b": 1, "ab": 2})", merges = "#version: 0.2\na b\n";
  expect_memory_errors(50, [&] { parse_vocab_and_merges(vocab, merges); });
  ByteBpeModel model = parse_vocab_and_merges(vocab, merges);
  model.added_tokens.push_back({.content = "<an added token of some length>"});
  expect_memory_errors(50, [&] { ByteBpe tokenizer(made_by_the_caller([&] { return model; })); });
  const ByteBpe tokenizer(model);
  expect_memory_errors(50, [&] { tokenizer.model(); });
  expect_memory_errors(100, [&] { tokenizer.files(); });
  expect_memory_errors(50, [&] { replace_invalid_utf8(text); });
  expect_memory_errors(50, [] { has_tokenizer(kDemo); });
  expect_memory_errors(50, [] { load_tokenizer(kDemo); });
  const std::vector<TokenId> ids{0, 1, 2};
  expect_memory_errors(20, [&] { tokenizer.decode(ids); });
  const std::vector<std::string> texts{"abababababababababababab", "ab"};
  expect_memory_errors(20, [&] { tokenizer.encode_batch(texts); });
  expect_memory_errors(20, [&] { tokenizer.fingerprint(); });
  expect_memory_errors(20, [&] { expect_refused([&] { tokenizer.bytes_of(99); }); });
  expect_memory_errors(20, [&] {
    StreamDecoder decoder(tokenizer);
    for (const TokenId id : {3, 0, 3}) decoder.push(id);
    decoder.flush();
  });
  const std::vector<std::string_view> views{text, "a a a a b b"};
  const BpeTrainingOptions training{.vocab_size = 260};
  expect_memory_errors(50, [&] { train_byte_bpe(views, training); });
  expect_memory_errors(10, [] { ChatTemplate::names(); });
  expect_memory_errors(
      10, [] { expect_refused([] { ChatTemplate::by_name("none of that name, which is long"); }); });
  const std::vector<ChatMessage> messages{{"user", text}};
  for (const std::string_view name : ChatTemplate::names()) {
    const ChatTemplate form = ChatTemplate::by_name(name);
    expect_memory_errors(20, [&] { form.problem(messages); });
    expect_memory_errors(20, [&] { form.parts(messages, true); });
    expect_memory_errors(20, [&] { form.prompt(messages); });
    expect_memory_errors(20, [&] { form.reply_end(true); });
  }
  const std::string words =
      "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ntext\nthat\n##s\na_word_that_is_too_long_for_itself\n";
  expect_memory_errors(50, [&] { parse_wordpiece_vocab(words); });
  const WordPieceModel pieces = parse_wordpiece_vocab(words);
  expect_memory_errors(50, [&] { WordPiece made(made_by_the_caller([&] { return pieces; })); });
  const WordPiece wordpiece(pieces);
  expect_memory_errors(50, [&] { wordpiece.encode(text); });
  expect_memory_errors(50, [&] { wordpiece.decode(ids); });
  expect_memory_errors(50, [&] { wordpiece.files(); });
  expect_memory_errors(50, [&] { wordpiece.fingerprint(); });
  expect_memory_errors(50, [&] {
    const std::unique_ptr<Detokenizer> decoder = wordpiece.start_decoding();
    std::string out;
    for (const TokenId id : {8, 7, 8, 6, 8}) decoder->push(id, out);
    decoder->flush(out);
  });
  expect_memory_errors(50, [&] { wordpiece.id_of("a_word_that_is_too_long_for_itself"); });
  expect_memory_errors(50, [&] { tokenizer.id_of("<an added token of some length>"); });
}

TEST(FileReaders, TurnMissingMemoryIntoAMemoryError) {
  const test::TempDir dir;
  const std::filesystem::path gguf = dir / "m.gguf", safe = kDemo / "model.safetensors";
  save_gguf(Model::load(kDemo), gguf);
  expect_memory_errors(100, [&] {
    const GgufFile file(gguf);
    static_cast<void>(file.keys());
    static_cast<void>(file.get_string("general.architecture"));
    static_cast<void>(file.get_strings("tokenizer.ggml.tokens"));
    static_cast<void>(file.get_ints("tokenizer.ggml.token_type"));
    static_cast<void>(file.tensor(file.names().front()));
  });
  for (const auto mode : {MappedFile::Mode::kMap, MappedFile::Mode::kRead}) {
    expect_memory_errors(100, [&] {
      const SafetensorsFile file(safe, mode);
      static_cast<void>(file.tensor(file.names().front()));
    });
    expect_memory_errors(100, [&] { static_cast<void>(Checkpoint(kDemo, mode).files()); });
  }
  const std::string tensor = test::pickle::tensor(test::pickle::storage("FloatStorage", "0", 6), 0, {6}, {1});
  test::write_file(
      dir / "pytorch_model.bin",
      test::ZipBytes{.members = {{"m/data.pkl", test::pickle::dict(test::pickle::text("w") + tensor)},
                                 {"m/data/0", std::string(24, '\0')}}}
          .bytes());
  expect_memory_errors(100, [&] { Checkpoint::pickled(dir.path()); });
}

TEST_F(EntryPoints, ThatWriteFilesTurnMissingMemoryIntoAMemoryError) {
  const test::TempDir dir;
  const std::string name = "a_name_that_is_too_long_for_the_string_itself";
  const std::filesystem::path path = dir / name;
  const Tensor tensor = Tensor::zeros({2, 3});
  const std::vector<NamedTensor> tensors{{name, tensor}, {name + "_2", tensor, DType::bf16}};
  const Metadata metadata{{"format", "pt"}};
  expect_memory_errors(100, [&] { save_safetensors(path, tensors, metadata); });
  expect_memory_errors(100, [&] {
    AtomicFile file(path);
    write_safetensors(file, tensors, metadata);
  });
  const std::vector<NamedTensor> twice{{name, tensor}, {name, tensor}};
  expect_memory_errors(20, [&] { expect_refused([&] { save_safetensors(path, twice); }); });
  const std::vector<std::string> texts{name, name};
  const std::vector<std::int32_t> numbers{1, 2};
  const std::vector<GgufTensor> gguf{
      {name, GgufType::kF32, {2, 3}, [] { return std::vector<std::byte>(24); }}};
  expect_memory_errors(100, [&] {
    GgufMetadata of;
    of.set_uint32("general.a_key_that_is_long", 1);
    of.set_float32("general.another_key_that_is_long", 1);
    of.set_bool("general.a_third_key_that_is_long", true);
    of.set_string(name, name);
    of.set_strings("general.a_fifth_key_that_is_long", texts);
    of.set_int32s("general.a_sixth_key_that_is_long", numbers);
    AtomicFile file(path);
    write_gguf(file, of, gguf);
  });
  expect_memory_errors(
      10, [&] { expect_refused([&] { gguf_tensor_size(name, static_cast<GgufType>(99), {1}); }); });
  test::write_file(dir / ".f.tmp-1-2", "");
  expect_memory_errors(20, [&] {
    made_by_the_caller([&] { return test::write_file(dir / ".f_of_a_long_name.tmp-1-2", ""), 0; });
    remove_temporaries(dir.path());
  });
  const std::filesystem::path locked = dir / "locked";
  expect_memory_errors(20, [&] { DirectoryLock lock(locked); });
  const Model model = Model::load(kDemo);
  const std::filesystem::path tokenizer = dir.path(), model_file = dir / "m.gguf";
  expect_memory_errors(20, [&] { model.tokenizer().save(tokenizer); });
  expect_memory_errors(20, [&] { save_gguf(model, model_file); });
  expect_memory_errors(100, [&] { Model::load(model_file); });
}

TEST_F(EntryPoints, OfProcessorsTurnMissingMemoryIntoAMemoryError) {
  const auto expect_refusals = [](std::initializer_list<std::function<void()>> calls) {
    for (const auto& call : calls) expect_memory_errors(10, [&] { expect_refused(call); });
  };
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  expect_refusals({[] { Temperature(0.0); },
                   [] { TopNSigma(-1.0); },
                   [] { TopK(-1); },
                   [] { TopP(7.0); },
                   [] { MinP(7.0); },
                   [] { TypicalP(7.0); },
                   [] { EpsilonCutoff(7.0); },
                   [] { EtaCutoff(7.0); },
                   [] { Xtc(7.0, 0.0); },
                   [] { Mirostat(0.0, 0.0); },
                   [] { DynamicTemperature(0.0, 1.0, 1.0); },
                   [] { ClassifierFreeGuidance{kNan}; },
                   [] { HammingDiversity(-1.0); },
                   [] { RepetitionPenalty(0.0); },
                   [] { FrequencyPenalty(kNan, 0.0); },
                   [] { NoRepeatNGram(-1); },
                   [] { FunctionProcessor({}); },
                   [] { PrefixConstrained({}); },
                   [] {
                     ExponentialDecayLengthPenalty({-1, 1.0}, {});
                   },
                   [] { MinLength(-1, {}); },
                   [] { MinNewTokens(-1, {}); }});
  const std::vector<TokenId> history{1, 2, 3, 1, 2};
  std::vector<double> logits(100, 1.0);
  const std::vector<float> unconditional(100, 0.5f);
  const CounterRng rng(1);
  const auto expect_processor = [&](const std::function<std::shared_ptr<LogitsProcessor>()>& make) {
    expect_memory_errors(10, [&] { make(); });
    expect_memory_errors(10, [&] {
      const std::shared_ptr<LogitsProcessor> processor = made_by_the_caller(make);
      std::vector<double> state = processor->initial_state();
      ProcessorScratch scratch;
      processor->process(logits,
                         {.history = history,
                          .prompt_length = 1,
                          .unconditional_logits = unconditional,
                          .chosen_by_groups = history,
                          .rng = &rng,
                          .state = state},
                         scratch);
      processor->update(state, 1, 0.5);
      made_by_the_caller([&] { return logits.assign(100, 1.0), 0; });
    });
  };
  expect_processor([] { return test::constructed<Temperature>(0.7); });
  expect_processor([] { return test::constructed<DynamicTemperature>(0.7, 0.3, 1.0); });
  expect_processor([] { return test::constructed<TopNSigma>(1.0); });
  expect_processor([] { return test::constructed<TopK>(5); });
  expect_processor([] { return test::constructed<TopP>(0.5); });
  expect_processor([] { return test::constructed<MinP>(0.5); });
  expect_processor([] { return test::constructed<TypicalP>(0.5); });
  expect_processor([] { return test::constructed<EpsilonCutoff>(0.5); });
  expect_processor([] { return test::constructed<EtaCutoff>(0.5); });
  expect_processor([] { return test::constructed<Xtc>(1.0, 0.001); });
  expect_processor([] { return test::constructed<Mirostat>(5.0, 0.1); });
  expect_processor([] { return test::constructed<ClassifierFreeGuidance>(2.0); });
  expect_processor([] { return test::constructed<HammingDiversity>(1.0); });
  expect_processor([] { return test::constructed<RepetitionPenalty>(1.5); });
  expect_processor([] { return test::constructed<FrequencyPenalty>(1.0, 1.0); });
  expect_processor([] { return test::constructed<NoRepeatNGram>(2); });
  expect_processor([] { return test::constructed<ForcedBos>(1); });
  expect_processor(
      [] { return test::constructed<FunctionProcessor>([](std::span<double>, const DecodingStep&) {}); });
  expect_processor([] {
    return test::constructed<PrefixConstrained>([](std::size_t, std::span<const TokenId>) {
      return made_by_the_caller([] { return std::vector<TokenId>{1}; });
    });
  });
  expect_processor([&] {
    return test::constructed<SequenceBias>(made_by_the_caller([&] {
      return std::vector<BiasedSequence>{{{1, 2}, 1.0}, {{3}, 1.0}};
    }));
  });
  expect_processor([&] {
    return test::constructed<NoBadWords>(made_by_the_caller([&] {
      return std::vector<std::vector<TokenId>>{{1, 2}, {3}};
    }));
  });
  expect_processor([&] {
    return test::constructed<Dry>(made_by_the_caller([] {
      Dry::Options options{.multiplier = 1.0};
      options.sequence_breakers = {{1}, {2, 3}};
      return options;
    }));
  });
}

TEST_F(EntryPoints, OfModelsTurnMissingMemoryIntoAMemoryError) {
  const Gpt2Config config = test::tiny_config();
  expect_memory_errors(10, [&] {
    Gpt2Config wrong = made_by_the_caller([&] { return config; });
    wrong.n_head = 3;
    expect_refused([&] { wrong.validate(); });
  });
  expect_memory_errors(10, [&] { config.validate(); });
  expect_memory_errors(10, [&] { config.heads_left(0); });
  const Gpt2 network = test::random_network(config, 1), other = test::random_network(config, 2);
  Gpt2 changed = test::random_network(config, 1);
  expect_memory_errors(50, [&] { network.visit([](const std::string&, const Tensor&, const Shape&) {}); });
  expect_memory_errors(50, [&] { network.visit_matrices([](const std::string&, const ops::Weight&) {}); });
  expect_memory_errors(10, [&] { expect_refused([&] { changed.set_dropout(7, 7, 7); }); });
  expect_memory_errors(10, [&] { static_cast<void>(network.adapted_shape()); });
  expect_memory_errors(20, [&] {
    const nn::KvPool pool = network.make_pool(1 << 20, 16);
    nn::KvCache paged = pool.make_cache(20), cache = network.make_cache(20);
    paged.reserve(18);
    nn::KvCache copy = cache.clone();
    copy.copy_from(cache, 0);
    expect_refused([&] { cache.reserve(1000); });
  });
  expect_memory_errors(20, [&] { prune(changed, {}); });
  expect_memory_errors(20, [&] { count_zeros(network); });
  const std::vector<TokenId> ids = test::tokens(8);
  expect_memory_errors(50, [&] { layer_importance(network, ids); });
  expect_memory_errors(50, [&] { head_importance(network, ids); });
  const std::int64_t layer = 1;
  expect_memory_errors(50, [&] { without_layers(network, {&layer, 1}); });
  const Gpt2* const others[] = {&other};
  expect_memory_errors(50, [&] { average_weights(changed, others); });
  expect_memory_errors(50, [&] {
    Gpt2 quantized = made_by_the_caller([&] { return test::random_network(config, 1); });
    quantize(quantized, {});
  });
  const LabelledSequence sequence{ids, ids};
  expect_memory_errors(50, [&] {
    Arena arena;
    language_model_rows(network, {&sequence, 1}, arena, {});
  });
  const test::TempDir dir;
  const Model model(test::random_network(config, 1), HfConfig());
  const std::filesystem::path llmc = dir / "m.bin", directory = dir / "classifier";
  expect_memory_errors(50, [&] { save_llmc(model, llmc); });
  expect_memory_errors(50, [&] { load_llmc(llmc); });
  expect_memory_errors(10, [&] { expect_refused([&] { model.tokenizer(); }); });
  const Classifier classifier(Model(test::random_network(config, 1), HfConfig()), {"a", "b"});
  const std::vector<std::vector<TokenId>> sequences{ids, ids};
  expect_memory_errors(50, [&] { classifier.logits(sequences); });
  expect_memory_errors(50, [&] { classifier.save(directory); });
  expect_memory_errors(50, [&] { Classifier::load(directory); });
  const std::vector<float> logits{1, 2};
  expect_memory_errors(10, [&] { probabilities(ProblemType::kSingleLabel, logits); });
  expect_memory_errors(10, [&] { next_token_log_prob(network, 1); });
  expect_memory_errors(10, [&] { label_score(classifier, 1); });
  expect_memory_errors(50, [&] { gradient_times_input(network, ids, next_token_log_prob(network, 1)); });
  expect_memory_errors(50, [&] {
    ExplanationPage page;
    page.title = made_by_the_caller([] { return std::string(100, 'a'); });
    page.tokens = made_by_the_caller([] { return std::vector<std::string>{"a", "b"}; });
    page.scores = made_by_the_caller([] { return std::vector<double>{0.5, 1.5}; });
    to_html(page);
  });
  expect_memory_errors(50, [&] { perplexity(network, ids); });
  expect_memory_errors(50, [&] { score_tokens(network, ids, 2); });
  expect_memory_errors(50, [&] { embed(network, sequences); });
}

TEST_F(EntryPoints, OfTensorsTurnMissingMemoryIntoAMemoryError) {
  const Tensor tensor = Tensor::zeros({32, 32});
  expect_memory_errors(10, [&] { tensor.clone(); });
  expect_memory_errors(10, [&] { tensor.to(DType::bf16); });
  expect_memory_errors(10, [&] { tensor.shape().to_string(); });
  expect_memory_errors(10, [] { ops::activation_names(); });
  expect_memory_errors(10, [&] { expect_refused([&] { static_cast<void>(tensor.data<std::int8_t>()); }); });
  expect_memory_errors(10, [&] { expect_refused([&] { ops::add(tensor, Tensor::zeros({31, 32})); }); });
  const ops::Weight weight{.in = 32, .out = 32, .layout = ops::WeightLayout::kInOut, .values = tensor};
  expect_memory_errors(10, [&] { ops::unpack(ops::pack(weight), ops::WeightLayout::kInOut); });
  expect_memory_errors(10, [&] {
    ops::dequantize(ops::quantize("w", weight, {.format = ops::WeightFormat::int8}),
                    ops::WeightLayout::kInOut);
  });
  std::vector<float> x(64, 1.0f);
  expect_memory_errors(10, [&] {
    std::vector<double> losses = made_by_the_caller([] { return std::vector<double>(2); });
    ops::log_sum_exp(ConstTensorView(x.data(), {2, 32}), losses);
  });
  expect_memory_errors(10, [&] {
    ops::quantize_gguf("w", ops::GgufBlock::kQ8_0, ConstTensorView(x.data(), {2, 32}));
  });
  expect_memory_errors(10, [&] { ops::sum_of_squares(tensor); });
}

// For which the standard library has another exception.
TEST_F(EntryPoints, RefuseSizesThatNoContainerCanHave) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  const std::int32_t zero[] = {0};
  const double one[] = {1.0};
  EXPECT_THROW(classification_scores(zero, zero, kHuge), Error);
  EXPECT_THROW(calibration_error(zero, one, 1, kHuge), Error);
  EXPECT_THROW(stratified_folds(zero, kHuge, 1), Error);
  EXPECT_THROW(epoch_order(kHuge, 1, 0), Error);
  const Gpt2 network = test::random_network(test::tiny_config(), 1);
  EXPECT_THROW(network.make_pool(1 << 20, 16).make_cache(kHuge), Error);
  EXPECT_THROW(network.make_pool(1 << 20, 16).make_cache(2 * (kHuge - 1) + 1), Error);
  const std::string_view text = "a text";
  EXPECT_THROW(BagOfWords::train({&text, 1}, zero, kHuge, {.min_frequency = 1}), Error);
  EXPECT_THROW(train_byte_bpe({&text, 1}, {.vocab_size = kHuge}), Error);
  const Model model = Model::load(kDemo);
  const Generator generator(model);
  for (const GenerateOptions& options :
       {GenerateOptions{.max_new_tokens = kHuge}, GenerateOptions{.max_new_tokens = 1, .num_beams = kHuge},
        GenerateOptions{.max_new_tokens = 1, .do_sample = true, .num_return_sequences = kHuge},
        GenerateOptions{.max_new_tokens = 1, .num_return_sequences = kHuge, .num_beams = kHuge}})
    EXPECT_THROW(generator.generate("ROMEO:", options), Error);
  EXPECT_THROW(LoraAdapter(network, LoraConfig{.r = kHuge}), Error);
  EXPECT_THROW(BottleneckAdapter(network, BottleneckConfig{.bottleneck_size = kHuge}), Error);
  EXPECT_THROW(PromptTuning(network, VirtualTokensConfig{.num_virtual_tokens = kHuge}), Error);
}

}  // namespace
}  // namespace gpt
