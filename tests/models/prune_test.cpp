// Pruning: which weights go, that nothing else changes, and networks without some of their layers.
#include "gpt/models/prune.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/models/quantize.h"
#include "models/tiny_models.h"
#include "support/expect_error.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt {
namespace {

using test::expect_error;
using test::random_network;
using test::same_bits;
using test::tiny_config;
using test::tokens;

using Matrix = std::vector<std::vector<float>>;  // [output][input]

std::map<std::string, Matrix> matrices(const Gpt2& network) {
  std::map<std::string, Matrix> all;
  network.visit_matrices([&](const std::string& name, const ops::Weight& weight) {
    const Tensor values = ops::unpack(weight, ops::WeightLayout::kOutIn).to(DType::f32);
    Matrix& matrix = all[name];
    for (std::int64_t out = 0; out < weight.out; ++out)
      matrix.emplace_back(values.data<float>() + out * weight.in,
                          values.data<float>() + (out + 1) * weight.in);
  });
  return all;
}

/// Which inputs of an output are dropped: the `count` least of [first, first + group).
void drop_least(const std::vector<float>& scores, std::size_t first, std::size_t group, std::size_t count,
                std::set<std::size_t>& dropped) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < group; ++i) order.push_back(first + i);
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    return scores[a] != scores[b] ? scores[a] < scores[b] : a < b;
  });
  dropped.insert(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count));
}

/// Expects the pruned matrix to be the first with zeros where `dropped_of(row)` says so.
template <class F>
void expect_dropped(const Matrix& before, const Matrix& after, const F& dropped_of) {
  for (std::size_t out = 0; out < before.size(); ++out) {
    const std::set<std::size_t> dropped = dropped_of(before[out]);
    for (std::size_t in = 0; in < before[out].size(); ++in)
      EXPECT_EQ(after[out][in], dropped.contains(in) ? 0.0f : before[out][in]) << out << ", " << in;
  }
}

std::vector<float> magnitudes(std::vector<float> row) {
  for (float& w : row) w = std::abs(w);
  return row;
}

TEST(Prune, DropsTheSmallestWeightsOfEveryOutput) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    Gpt2 network = random_network(tiny_config(), 1, dtype);
    const auto before = matrices(network);
    const auto report = prune(network, {.sparsity = 0.3});
    const auto after = matrices(network);
    ASSERT_EQ(report.size(), 8u);
    EXPECT_EQ(report[0].name, "h.0.attn.c_attn.weight");
    EXPECT_EQ(report[0].zeros, 48 * 4);  // 0.3 of 16 inputs, rounded down
    EXPECT_EQ(report[0].weights, 48 * 16);
    for (const auto& [name, matrix] : before) {
      if (!name.starts_with("h.")) {
        EXPECT_EQ(matrix, after.at(name)) << name;
        continue;
      }
      expect_dropped(matrix, after.at(name), [](const std::vector<float>& row) {
        std::set<std::size_t> dropped;
        drop_least(magnitudes(row), 0, row.size(), row.size() * 3 / 10, dropped);
        return dropped;
      });
    }
  }
}

TEST(Prune, KeepsTwoOfEveryFour) {
  Gpt2 network = random_network(tiny_config(), 1);
  const Matrix before = matrices(network).at("h.1.mlp.c_proj.weight");
  const auto report = prune(network, {.keep = 2, .of_each = 4});
  for (const PrunedMatrix& m : report) EXPECT_EQ(2 * m.zeros, m.weights) << m.name;
  expect_dropped(before, matrices(network).at("h.1.mlp.c_proj.weight"), [](const std::vector<float>& row) {
    std::set<std::size_t> dropped;
    for (std::size_t i = 0; i < row.size(); i += 4) drop_least(magnitudes(row), i, 4, 2, dropped);
    return dropped;
  });
  Gpt2 uneven = random_network(tiny_config(), 1);  // 16 inputs are three fives, and one that stays
  EXPECT_EQ(prune(uneven, {.keep = 4, .of_each = 5})[0].zeros, 48 * 3);
  Gpt2 narrow = random_network(tiny_config(), 1);  // but for mlp.c_proj, which has 64 inputs
  for (const PrunedMatrix& m : prune(narrow, {.keep = 1, .of_each = 17}))
    EXPECT_EQ(m.zeros, m.name.ends_with("mlp.c_proj.weight") ? 16 * 3 * 16 : 0) << m.name;
}

TEST(Prune, WeighsByTheInputsOfAText) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto text = tokens(32);
  std::map<const ops::Weight*, std::vector<double>> squares;
  Arena arena;
  const Chunk chunk{text};
  network.forward({&chunk, 1}, arena, {.on_product = [&](const ops::Weight& weight, ConstTensorView x) {
                    auto& sums = squares[&weight];
                    sums.resize(static_cast<std::size_t>(x.dim(1)));
                    for (std::int64_t i = 0; i < x.numel(); ++i) {
                      const auto v = static_cast<double>(x.data<float>()[i]);
                      sums[static_cast<std::size_t>(i % x.dim(1))] += v * v;
                    }
                  }});
  const auto before = matrices(network);
  std::map<std::string, std::vector<double>> by_name;
  network.visit_matrices([&](const std::string& name, const ops::Weight& weight) {
    if (squares.contains(&weight)) by_name[name] = squares.at(&weight);
  });
  prune(network, {.method = PruneMethod::kWanda, .sparsity = 0.5, .calibration = text});
  const auto after = matrices(network);
  int differs = 0;
  for (const auto& entry : by_name) {
    const auto& name = entry.first;
    if (!name.starts_with("h.")) continue;
    const std::vector<double>& sums = entry.second;
    const auto dropped_by = [&](const std::vector<float>& row, bool weighed) {
      std::vector<float> scores = magnitudes(row);
      for (std::size_t i = 0; weighed && i < scores.size(); ++i)
        scores[i] *= static_cast<float>(std::sqrt(sums[i] / 32));
      std::set<std::size_t> dropped;
      drop_least(scores, 0, scores.size(), scores.size() / 2, dropped);
      return dropped;
    };
    expect_dropped(before.at(name), after.at(name),
                   [&](const std::vector<float>& row) { return dropped_by(row, true); });
    for (const auto& row : before.at(name)) differs += dropped_by(row, true) != dropped_by(row, false);
  }
  EXPECT_GT(differs, 100);
}

TEST(Prune, GivesAPackedNetworkTheSameWeights) {
  Gpt2 plain = random_network(tiny_config(), 1), packed = random_network(tiny_config(), 1);
  packed.pack();
  prune(plain, {});
  prune(packed, {});
  EXPECT_EQ(matrices(plain), matrices(packed));
  EXPECT_TRUE(same_bits(test::logits_of({plain, HfConfig()}), test::logits_of({packed, HfConfig()})));
}

TEST(Prune, SurvivesSaving) {
  const test::TempDir dir;
  Model model = test::model_of(tiny_config());
  const auto report = prune(model.network(), {.sparsity = 0.6});
  model.save(dir / "pruned");
  const auto loaded = count_zeros(Model::load(dir / "pruned").network());
  for (std::size_t i = 0; i < report.size(); ++i) EXPECT_EQ(loaded[i].zeros, report[i].zeros);
}

TEST(Prune, RefusesWhatCannotBe) {
  Gpt2 network = random_network(tiny_config(), 1);
  const auto wrong = [&](const PruneOptions& options, std::initializer_list<std::string_view> parts) {
    expect_error<ArgumentError>([&] { prune(network, options); }, parts);
  };
  wrong({.sparsity = 1.5}, {"sparsity is 1.5", "0 to 1"});
  wrong({.sparsity = std::nan("")}, {"sparsity is nan"});
  wrong({.keep = 4, .of_each = 4}, {"4:4"});
  wrong({.keep = 0, .of_each = 4}, {"0:4"});
  wrong({.keep = 1, .of_each = 65}, {"1:65", "no matrix has more than 64 inputs"});
  wrong({.method = PruneMethod::kWanda}, {"wanda", "calibration"});
  const std::vector<TokenId> outside{3, 97};
  wrong({.method = PruneMethod::kWanda, .calibration = outside}, {"token id 97"});
  std::stop_source stopped;
  stopped.request_stop();
  const auto before = network.fingerprint();
  expect_error<CancelledError>([&] { prune(network, {.stop = stopped.get_token()}); }, {});
  EXPECT_EQ(network.fingerprint(), before);
  Gpt2 bad = random_network(tiny_config(), 1);
  bad.visit([](const std::string& name, Tensor& tensor, const Shape&) {
    if (name == "h.1.ln_1.bias") tensor.data<float>()[3] = std::numeric_limits<float>::infinity();
  });
  expect_error<NumericError>([&] { prune(bad, {}); }, {"h.1.ln_1.bias", "[3]"});
  quantize(network, {});
  expect_error<UnsupportedError>([&] { prune(network, {}); }, {"h.0.attn.c_attn.weight", "quantized"});
}

Gpt2 deep() {
  Gpt2Config config = tiny_config();
  config.n_layer = 4;
  return random_network(config, 1);
}

TEST(WithoutLayers, IsWhatTheOtherLayersCompute) {
  const Gpt2 network = deep();
  const auto ids = tokens(9);
  const Chunk chunk{ids};
  Arena arena, other;
  const auto states = network.forward({&chunk, 1}, arena, {.hidden_states = true}).hidden_states;
  const std::vector<std::int64_t> last{3, 2};
  const Gpt2 first = without_layers(network, last);
  EXPECT_EQ(first.config().n_layer, 2);
  const auto shorter = first.forward({&chunk, 1}, other, {.hidden_states = true}).hidden_states;
  ASSERT_EQ(shorter.size(), 4u);
  EXPECT_TRUE(same_bits(ConstTensorView(shorter[2]), ConstTensorView(states[2])));

  // The others keep their order, and share their memory with the whole.
  const std::vector<std::int64_t> middle{1};
  const Gpt2 rest = without_layers(network, middle);
  std::map<std::string, const std::byte*> places;
  const auto note = [&](const std::string& name, const Tensor& tensor, const Shape&) {
    places[name] = tensor.view().raw();
  };
  network.visit(note);
  rest.visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    std::string old = name;
    if (name.starts_with("h.1.")) old[2] = '2';
    if (name.starts_with("h.2.")) old[2] = '3';
    EXPECT_EQ(tensor.view().raw(), places.at(old)) << name;
  });
}

TEST(WithoutLayers, RefusesWhatIsNotThere) {
  const Gpt2 network = deep();
  const auto wrong = [&](std::vector<std::int64_t> layers, std::initializer_list<std::string_view> parts) {
    expect_error<ArgumentError>([&] { without_layers(network, layers); }, parts);
  };
  wrong({4}, {"layer 4", "[0, 4)"});
  wrong({-1}, {"layer -1"});
  wrong({1, 1}, {"layer 1 is given twice"});
  wrong({0, 1, 2, 3}, {"all 4 layers"});
  Gpt2Config scaled = tiny_config();
  scaled.scale_attn_by_inverse_layer_idx = true;
  const std::vector<std::int64_t> one{0};
  expect_error<UnsupportedError>([&] { without_layers(random_network(scaled, 1), one); },
                                 {"scale_attn_by_inverse_layer_idx"});
}

TEST(LayerImportance, IsNothingForALayerThatChangesNothing) {
  Gpt2 network = deep();
  network.visit([](const std::string& name, Tensor& tensor, const Shape&) {
    if (name.starts_with("h.2.") && name.find("c_proj") != std::string::npos)
      std::fill_n(tensor.data<float>(), tensor.numel(), 0.0f);
  });
  const auto text = tokens(70);  // more than two contexts
  const std::vector<double> importance = layer_importance(network, text);
  ASSERT_EQ(importance.size(), 4u);
  // A cosine of equal vectors, from sums of 16 doubles.
  EXPECT_NEAR(importance[2], 0, 16 * 0x1p-52);
  for (const std::size_t other : {0u, 1u, 3u}) EXPECT_GT(importance[other], 1e-3);
  EXPECT_EQ(layer_importance(network, text), importance);
  expect_error<ArgumentError>([&] { layer_importance(network, {}); }, {"the text is empty"});
}

}  // namespace
}  // namespace gpt
