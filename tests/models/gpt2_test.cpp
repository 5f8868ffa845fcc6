// The forward pass: law 1 across batches, chunks and threads; what it refuses; that it leaves a valid state.
// Its values are compared with PyTorch's by golden_check.
#include "gpt/models/gpt2.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <utility>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/train/parameters.h"
#include "support/expect_error.h"
#include "support/isa.h"
#include "support/random_model.h"
#include "support/random_tensor.h"

namespace gpt {
namespace {

using test::message_of;
using test::random_network;
using test::same_bits;
using test::tiny_config;
using test::tokens;
using ::testing::HasSubstr;

/// Logits of every position of one sequence, fed in the given chunk size.
Tensor all_logits(const Gpt2& network, std::span<const TokenId> ids, std::size_t step) {
  nn::KvCache cache = network.make_cache();
  Arena arena;
  Tensor out = Tensor::empty({static_cast<std::int64_t>(ids.size()), network.config().vocab_size});
  float* to = out.data<float>();
  for (std::size_t at = 0; at < ids.size(); at += step) {
    arena.reset();
    const Chunk chunk{ids.subspan(at, std::min(step, ids.size() - at)), &cache};
    const TensorView logits = network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kAll}).logits;
    to = std::copy_n(logits.data<float>(), logits.numel(), to);
  }
  return out;
}

class Gpt2Bits : public ::testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(WeightTypes, Gpt2Bits, ::testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& suite) { return std::string(name_of(suite.param)); });

TEST_P(Gpt2Bits, DoNotDependOnPrefillChunking) {
  const Gpt2 network = random_network(tiny_config(), 1, GetParam());
  const auto ids = tokens(32);
  const Tensor whole = all_logits(network, ids, 32);
  for (const std::size_t step : {1u, 2u, 5u, 6u, 7u, 16u, 31u})
    EXPECT_TRUE(same_bits(whole, all_logits(network, ids, step))) << "chunks of " << step;
}

TEST_P(Gpt2Bits, DoNotDependOnTheNumberOfThreads) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  Gpt2Config config = tiny_config();  // made large enough that each thread gets its share of a single row too
  config.vocab_size = 5000;
  config.n_embd = 256;
  const Gpt2 network = random_network(config, 1, GetParam());
  const auto ids = tokens(32);
  set_num_threads(1);
  const Tensor one = all_logits(network, ids, 32), one_by_one = all_logits(network, ids, 1);
  for (const int threads : {2, 3}) {
    set_num_threads(threads);
    EXPECT_TRUE(same_bits(one, all_logits(network, ids, 32))) << threads;
    EXPECT_TRUE(same_bits(one_by_one, all_logits(network, ids, 1))) << threads;
  }
  set_num_threads(0);
}

TEST_P(Gpt2Bits, DoNotDependOnTheRestOfTheBatch) {
  const Gpt2 network = random_network(tiny_config(), 1, GetParam());
  const std::vector<std::vector<TokenId>> rows{tokens(7), tokens(1, 50), tokens(20, 11), tokens(32, 90),
                                               tokens(3, 8)};
  std::vector<nn::KvCache> caches;
  std::vector<Chunk> batch;
  for (std::size_t i = 0; i < rows.size(); ++i) caches.push_back(network.make_cache());
  for (std::size_t i = 0; i < rows.size(); ++i) batch.push_back({rows[i], &caches[i]});
  Arena arena;
  const TensorView logits = network.forward(batch, arena, {.logits = LogitsRows::kAll}).logits;
  std::int64_t row = 0;
  for (const auto& ids : rows) {
    const Tensor alone = all_logits(network, ids, ids.size());
    const ConstTensorView part(logits.data<float>() + row * 97, alone.shape());
    EXPECT_TRUE(same_bits(alone, part)) << ids.size() << " tokens";
    row += alone.dim(0);
  }
}

TEST_P(Gpt2Bits, DoNotDependOnChunksOrTheBatchWhateverTypeTheCachesHave) {
  const Gpt2 network = random_network(tiny_config(), 1, GetParam());
  const auto ids = tokens(32);
  std::vector<nn::KvCache> caches;
  std::vector<Chunk> batch;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i8})
    caches.push_back(network.make_cache(0, dtype));
  for (nn::KvCache& cache : caches) batch.push_back({ids, &cache});
  Arena arena, single;
  const TensorView together = network.forward(batch, arena, {.logits = LogitsRows::kAll}).logits;
  for (nn::KvCache& cache : caches) cache.truncate(0);
  const TensorView last = network.forward(batch, arena).logits;
  for (std::size_t i = 0; i < caches.size(); ++i) {
    nn::KvCache cache = network.make_cache(32, caches[i].dtype());
    for (std::size_t t = 0; t < 32; ++t) {
      single.reset();
      const Chunk chunk{std::span(ids).subspan(t, 1), &cache};
      const ConstTensorView row(together.data<float>() + (i * 32 + t) * 97, {1, 97});
      EXPECT_TRUE(same_bits(row, network.forward({&chunk, 1}, single).logits))
          << name_of(caches[i].dtype()) << " token " << t;
    }
    EXPECT_TRUE(same_bits(ConstTensorView(together.data<float>() + (i * 32 + 31) * 97, {97}),
                          ConstTensorView(last.data<float>() + i * 97, {97})));
    for (std::size_t j = 0; j < i; ++j)  // the type is heeded
      EXPECT_FALSE(same_bits(ConstTensorView(together.data<float>() + i * 32 * 97, {32, 97}),
                             ConstTensorView(together.data<float>() + j * 32 * 97, {32, 97})));
  }
}

TEST(Gpt2, GivesTheSameLastLogitsAsWhenAllAreAskedFor) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto a = tokens(9), b = tokens(4, 70);
  nn::KvCache ca = network.make_cache(), cb = network.make_cache();
  const Chunk batch[] = {{a, &ca}, {b, &cb}};
  Arena arena;
  const TensorView last = network.forward(batch, arena).logits;
  ASSERT_EQ(last.shape(), (Shape{2, 97}));
  const Tensor all_a = all_logits(network, a, 9), all_b = all_logits(network, b, 4);
  EXPECT_TRUE(std::equal(last.data<float>(), last.data<float>() + 97, all_a.data<float>() + 8 * 97));
  EXPECT_TRUE(std::equal(last.data<float>() + 97, last.data<float>() + 2 * 97, all_b.data<float>() + 3 * 97));
}

// The last block then works on no more rows than it must; the caches are as complete as ever.
TEST(Gpt2, GoesOnAfterChunksWithoutLogitsOrWithTheLast) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto a = tokens(21), b = tokens(14, 70);
  const Tensor all_a = all_logits(network, a, a.size()), all_b = all_logits(network, b, b.size());
  for (const LogitsRows first : {LogitsRows::kNone, LogitsRows::kLast})
    for (const LogitsRows second : {LogitsRows::kNone, LogitsRows::kLast}) {
      nn::KvCache ca = network.make_cache(), cb = network.make_cache();
      Arena arena;
      const auto forward = [&](std::size_t begin, std::size_t end_a, std::size_t end_b, LogitsRows rows) {
        const Chunk batch[] = {{std::span(a).subspan(begin, end_a - begin), &ca},
                               {std::span(b).subspan(begin, end_b - begin), &cb}};
        return network.forward(batch, arena, {.logits = rows}).logits;
      };
      const TensorView none = forward(0, 5, 5, first);
      EXPECT_EQ(none.raw() == nullptr, first == LogitsRows::kNone);
      forward(5, 6, 6, second);
      const TensorView last = forward(6, a.size(), b.size(), LogitsRows::kLast);
      const auto row = [](ConstTensorView x, std::int64_t r) {
        return ConstTensorView(x.data<float>() + r * 97, {97});
      };
      EXPECT_TRUE(same_bits(row(last, 0), row(all_a, 20)));
      EXPECT_TRUE(same_bits(row(last, 1), row(all_b, 13)));
    }
}

TEST(Gpt2, ShowsTheHiddenStatesOfTheLastTokensAlone) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto a = tokens(9), b = tokens(1, 3), c = tokens(4, 70);
  const Chunk batch[] = {{a}, {b}, {c}};
  Arena arena;
  const TensorView all =
      network.forward(batch, arena, {.logits = LogitsRows::kNone, .final_hidden = true}).final_hidden;
  const std::int64_t d = network.config().n_embd;
  for (const LogitsRows rows : {LogitsRows::kNone, LogitsRows::kLast, LogitsRows::kAll})
    for (const bool is_asked_for : {true, false}) {
      const ForwardOutput out = network.forward(batch, arena, {.logits = rows, .last_hidden = is_asked_for});
      EXPECT_EQ(out.final_hidden.raw(), nullptr);
      if (!is_asked_for && rows != LogitsRows::kLast) {
        EXPECT_EQ(out.last_hidden.raw(), nullptr);
        continue;
      }
      ASSERT_EQ(out.last_hidden.shape(), (Shape{3, d}));
      for (const auto& [last, row] : {std::pair{0, 8}, {1, 9}, {2, 13}})
        EXPECT_TRUE(same_bits(ConstTensorView(out.last_hidden.data<float>() + last * d, {d}),
                              ConstTensorView(all.data<float>() + row * d, {d})))
            << last;
    }
}

TEST(Gpt2, ShowsHiddenStatesWithoutChangingTheLogits) {
  const Gpt2 network = random_network(tiny_config(), 2);
  const auto ids = tokens(9);
  nn::KvCache cache = network.make_cache();
  const Chunk chunk{ids, &cache};
  Arena arena;
  const ForwardOutput out =
      network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kAll, .hidden_states = true, .stop = {}});
  ASSERT_EQ(out.hidden_states.size(), 4u);  // embedding, two blocks, final norm
  for (const TensorView& h : out.hidden_states) EXPECT_EQ(h.shape(), (Shape{9, 16}));
  EXPECT_TRUE(same_bits(out.logits, all_logits(network, ids, 9)));
  for (std::size_t i = 1; i < 4; ++i) EXPECT_FALSE(same_bits(out.hidden_states[i - 1], out.hidden_states[i]));
}

TEST(Gpt2, UsesItsOwnHeadWhenItIsNotTied) {
  Gpt2Config config = tiny_config();
  config.tie_word_embeddings = false;
  Gpt2 network = random_network(config, 3);
  const auto ids = tokens(3);
  const Tensor before = all_logits(network, ids, 3);
  network.visit([](const std::string& name, Tensor& t, const Shape&) {
    if (name == "lm_head.weight")
      for (float& w : t.span<float>()) w *= 2;
  });
  const Tensor after = all_logits(network, ids, 3);
  for (std::int64_t i = 0; i < before.numel(); ++i)
    ASSERT_EQ(after.data<float>()[i], 2 * before.data<float>()[i]);
}

TEST(Gpt2, ContinuesAfterTruncatingTheCache) {
  const Gpt2 network = random_network(tiny_config(), 4);
  const auto ids = tokens(20);
  const Tensor whole = all_logits(network, ids, 20);
  nn::KvCache cache = network.make_cache();
  Arena arena;
  const auto detour = tokens(25, 60);
  std::vector<TokenId> wrong(ids.begin(), ids.begin() + 13);
  wrong.insert(wrong.end(), detour.begin(), detour.begin() + 10);
  const Chunk first{wrong, &cache};
  network.forward({&first, 1}, arena);
  cache.truncate(13);
  const Chunk rest{std::span(ids).subspan(13), &cache};
  const TensorView logits = network.forward({&rest, 1}, arena).logits;
  EXPECT_TRUE(std::equal(logits.data<float>(), logits.data<float>() + 97, whole.data<float>() + 19 * 97));
}

TEST(Gpt2, RefusesWhatItCannotRunAndKeepsTheCaches) {
  const Gpt2 network = random_network(tiny_config(), 5);
  nn::KvCache cache = network.make_cache(), small = network.make_cache(4);
  nn::KvCache foreign({1, 1, 16}, 8);
  Arena arena;
  const auto ids = tokens(5);
  const auto refused = [&](std::vector<Chunk> batch) {
    return message_of<ArgumentError>([&] { network.forward(batch, arena); });
  };
  EXPECT_THAT(refused({}), HasSubstr("the batch is empty"));
  EXPECT_THAT(refused({{{}, &cache}}), HasSubstr("chunk 0 has no tokens"));
  EXPECT_THAT(refused({{ids, &foreign}}), HasSubstr("was made for another network"));
  EXPECT_THAT(refused({{ids, &cache}, {ids, &cache}}), HasSubstr("chunks 0 and 1 have the same cache"));
  EXPECT_THAT(refused({{ids, &small}}),
              HasSubstr("0 cached and 5 new tokens do not fit into the cache's capacity of 4"));
  const auto too_long = tokens(33);
  EXPECT_THAT(refused({{too_long, &cache}}),
              HasSubstr("0 cached and 33 new tokens do not fit into n_positions = 32"));
  const std::vector<TokenId> high{1, 97}, negative{-1};
  EXPECT_THAT(refused({{high, &cache}}), HasSubstr("token id 97 at index 1 of chunk 0 is outside [0, 97)"));
  EXPECT_THAT(refused({{negative, &cache}}), HasSubstr("token id -1"));
  EXPECT_EQ(cache.length(), 0);
}

TEST(Gpt2, LeavesTheCacheAsItWasWhenCancelled) {
  const Gpt2 network = random_network(tiny_config(), 6);
  const auto ids = tokens(12);
  const Tensor whole = all_logits(network, ids, 12);
  nn::KvCache cache = network.make_cache();
  Arena arena;
  const Chunk first{std::span(ids).first(5), &cache};
  network.forward({&first, 1}, arena);
  std::stop_source stop;
  stop.request_stop();
  const Chunk rest{std::span(ids).subspan(5), &cache};
  EXPECT_THROW(network.forward({&rest, 1}, arena, {.stop = stop.get_token()}), CancelledError);
  EXPECT_EQ(cache.length(), 5);
  const TensorView logits = network.forward({&rest, 1}, arena).logits;
  EXPECT_TRUE(std::equal(logits.data<float>(), logits.data<float>() + 97, whole.data<float>() + 11 * 97));
}

TEST(Gpt2, AsksBeforeEveryProductWhetherToStop) {
  const Gpt2 network = random_network(tiny_config(), 6);
  const auto ids = tokens(12);
  const Chunk chunk{ids};
  constexpr int kProducts = 4 * 2 + 1;  // of two layers, and the head
  for (int last = 1; last <= kProducts; ++last) {
    Arena arena;
    std::stop_source stop;
    int seen = 0;
    const auto forward = [&] {
      network.forward({&chunk, 1}, arena, {.stop = stop.get_token(), .on_product = [&](const auto&, auto) {
                                             if (++seen == last) stop.request_stop();
                                           }});
    };
    if (last < kProducts)
      EXPECT_THROW(forward(), CancelledError);
    else
      forward();
    EXPECT_EQ(seen, last);
  }
}

TEST(Gpt2, HoldsOneLayersActivationsOnly) {
  Gpt2Config config = tiny_config();
  const auto capacity_for = [&](std::int64_t layers) {
    config.n_layer = layers;
    const Gpt2 network = random_network(config, 7);
    nn::KvCache cache = network.make_cache();
    Arena arena;
    const auto ids = tokens(32);
    const Chunk chunk{ids, &cache};
    network.forward({&chunk, 1}, arena);
    return arena.capacity();
  };
  EXPECT_EQ(capacity_for(2), capacity_for(12));
}

// Of a network of one block: an observer has to see all rows.
TEST(Gpt2, HoldsNoMoreRowsInTheLastBlockThanItMust) {
  Gpt2Config config = tiny_config();
  config.n_layer = 1;
  const Gpt2 network = random_network(config, 7);
  const auto ids = tokens(32);
  const auto peak = [&](ForwardOptions options, bool observed) {
    if (observed) options.on_product = [](const ops::Weight&, ConstTensorView) {};
    Arena arena;
    const Chunk chunk{ids};
    network.forward({&chunk, 1}, arena, options);
    return arena.peak();
  };
  EXPECT_LT(peak({.logits = LogitsRows::kNone}, false), peak({.logits = LogitsRows::kNone}, true));
  EXPECT_LT(peak({.logits = LogitsRows::kLast}, false), peak({.logits = LogitsRows::kLast}, true));
  EXPECT_LT(peak({.logits = LogitsRows::kNone}, false), peak({.logits = LogitsRows::kLast}, false));
  const Chunk chunk{ids};
  Arena arena;
  const TensorView all = network.forward({&chunk, 1}, arena, {.logits = LogitsRows::kAll}).logits;
  EXPECT_TRUE(same_bits(ConstTensorView(all.data<float>() + 31 * 97, {1, 97}),
                        network.forward({&chunk, 1}, arena).logits));
}

TEST(Gpt2, KeepsNoResultOnATapeThatIsQuicklyComputedAgain) {
  Gpt2Config config = tiny_config();
  config.n_layer = 3;
  Gpt2 network = random_network(config, 7);
  std::map<std::pair<std::int64_t, std::int64_t>, std::set<const void*>> inputs;  // of products from .. to ..
  const auto ids = tokens(12);
  const Chunk chunk{ids};
  const Parameters parameters(network);
  Tape tape;
  parameters.watch(tape);
  Arena arena;
  const auto see = [&](const ops::Weight& weight, ConstTensorView x) {
    inputs[{weight.in, weight.out}].insert(x.raw());
  };
  network.forward({&chunk, 1}, arena, {.on_product = see, .tape = &tape});
  EXPECT_EQ((inputs[{16, 48}].size()), 1u);  // a layer norm's
  EXPECT_EQ((inputs[{16, 64}].size()), 1u);  // another's
  EXPECT_EQ((inputs[{64, 16}].size()), 1u);  // an activation's
  EXPECT_EQ((inputs[{16, 16}].size()), 3u);  // attention's
}

TEST(LogitsOfPadded, EqualTheRowsWithoutTheirPadding) {
  const Gpt2 network = random_network(tiny_config(), 8);
  const std::int64_t ids[] = {96, 96, 5, 7, 9, 1, 2, 3, 4, 5, 8, 96, 6, 96, 4, 96, 96, 96, 96, 96};
  const std::int64_t mask[] = {0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0};
  const Tensor logits =
      logits_of_padded(network, ConstTensorView(ids, {4, 5}), ConstTensorView(mask, {4, 5}));
  ASSERT_EQ(logits.shape(), (Shape{4, 5, 97}));
  for (std::int64_t b = 0; b < 4; ++b) {
    std::vector<TokenId> row;
    for (std::int64_t t = 0; t < 5; ++t)
      if (mask[b * 5 + t] == 1) row.push_back(static_cast<TokenId>(ids[b * 5 + t]));
    const Tensor alone = row.empty() ? Tensor() : all_logits(network, row, row.size());
    const float* expected = alone.data<float>();
    for (std::int64_t t = 0; t < 5; ++t)
      for (std::int64_t v = 0; v < 97; ++v) {
        const float got = logits.data<float>()[(b * 5 + t) * 97 + v];
        ASSERT_EQ(got, mask[b * 5 + t] == 1 ? *expected++ : 0.0f) << b << " " << t;
      }
  }
}

TEST(Gpt2, RefusesDropoutForMoreSequencesThanThereAreRandomNumbersFor) {
  const Gpt2 network = random_network(tiny_config(), 1);
  const auto ids = tokens(1);
  const std::vector<Chunk> batch((std::size_t{1} << 20) + 1, Chunk{ids});
  Arena arena;
  EXPECT_EQ(message_of<ArgumentError>([&] { network.forward(batch, arena, {.dropout = DropoutSeed{}}); }),
            concat("[gpt2] dropout for 1048577 sequences and ", tiny_config().n_layer,
                   " layers, expected at most 1048576 and 585"));
}

TEST(LogitsOfPadded, NamesWhatDoesNotFit) {
  const Gpt2 network = random_network(tiny_config(), 8);
  const std::int64_t ids[] = {1, 97}, mask[] = {1, 1}, odd[] = {1, 2};
  EXPECT_THAT(message_of<ArgumentError>([&] {
                logits_of_padded(network, ConstTensorView(ids, {1, 2}), ConstTensorView(mask, {1, 2}));
              }),
              HasSubstr("input_ids[0, 1] is 97, outside [0, 97)"));
  EXPECT_THAT(message_of<ArgumentError>([&] {
                logits_of_padded(network, ConstTensorView(ids, {1, 2}), ConstTensorView(odd, {1, 2}));
              }),
              HasSubstr("attention_mask[0, 1] is 2, expected 0 or 1"));
  EXPECT_THAT(message_of<ShapeError>([&] {
                logits_of_padded(network, ConstTensorView(ids, {1, 2}), ConstTensorView(mask, {2, 1}));
              }),
              HasSubstr("attention_mask has shape [2, 1], expected [1, 2]"));
}

}  // namespace
}  // namespace gpt
