#include "gpt/evaluate/bag_of_words.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "core/float_environment.h"
#include "core/memory.h"
#include "evaluate/minimize.h"
#include "gpt/core/error.h"
#include "gpt/core/math.h"
#include "gpt/core/tensor.h"
#include "gpt/io/safetensors.h"
#include "gpt/text/utf8.h"

namespace gpt {
namespace {

constexpr std::string_view kBag = "bag_of_words";

/// Scripts that put no blanks between words.
bool stands_alone(char32_t c) noexcept {
  return (c >= 0x2E80 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7AF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0xFF00 && c <= 0xFFEF) || (c >= 0x20000 && c <= 0x3FFFF);
}

/// Symbols below the scripts: punctuation of Latin-1, and the general blocks.
bool is_punctuation(char32_t c) noexcept {
  return (c >= 0x80 && c < 0xC0) || (c >= 0x2000 && c < 0x2070) || (c >= 0x3000 && c < 0x3004);
}

std::vector<std::string> feature_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) words.push_back(std::exchange(word, {}));
  };
  while (!text.empty()) {
    const Utf8Prefix prefix = read_utf8(text);
    const std::string_view bytes = text.substr(0, prefix.length);
    text.remove_prefix(prefix.length);
    const char32_t c = prefix.code_point;
    if (prefix.kind != Utf8Prefix::Kind::kCharacter) {
      end_word();
      for (const char byte : bytes) words.emplace_back(1, byte);
    } else if (c < 0x80) {
      if (c >= 'A' && c <= 'Z')
        word += static_cast<char>(c - 'A' + 'a');
      else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
        word += static_cast<char>(c);
      else
        end_word();
    } else if (is_punctuation(c)) {
      end_word();
    } else if (stands_alone(c)) {
      end_word();
      words.emplace_back(bytes);
    } else {
      word += bytes;
    }
  }
  end_word();
  return words;
}

/// Words and pairs with their counts, by their bytes.
std::vector<std::pair<std::string, std::int64_t>> counts_of(std::string_view text) {
  std::vector<std::string> all = feature_words(text);
  const std::size_t words = all.size();
  for (std::size_t i = 0; i + 1 < words; ++i) all.push_back(all[i] + ' ' + all[i + 1]);
  std::ranges::sort(all);
  std::vector<std::pair<std::string, std::int64_t>> counts;
  for (std::string& word : all) {
    if (counts.empty() || counts.back().first != word) counts.emplace_back(std::move(word), 0);
    ++counts.back().second;
  }
  return counts;
}

struct Feature {
  std::size_t index;
  double value;
};
using Features = std::vector<Feature>;

}  // namespace

struct BagOfWords::Data {
  std::map<std::string, std::size_t> index;
  std::vector<double> rarity;   // of each feature
  std::vector<double> weights;  // [features, classes], then [classes] biases
  std::size_t classes = 0;

  Features features(std::string_view text) const {
    Features found;
    double squares = 0;
    for (const auto& [word, count] : counts_of(text)) {
      const auto it = index.find(word);
      if (it == index.end()) continue;
      const double value = (1 + math::log(static_cast<double>(count))) * rarity[it->second];
      found.push_back({it->second, value});
      squares += value * value;
    }
    for (Feature& f : found) f.value /= std::sqrt(squares);
    return found;
  }

  /// softmax of the scores, into p.
  void classify(const Features& features, std::span<const double> w, std::span<double> p) const {
    const double* bias = w.data() + index.size() * classes;
    for (std::size_t c = 0; c < classes; ++c) p[c] = bias[c];
    for (const auto& [i, value] : features)
      for (std::size_t c = 0; c < classes; ++c) p[c] += value * w[i * classes + c];
    const double most = *std::ranges::max_element(p);
    double sum = 0;
    for (double& x : p) sum += x = math::exp(x - most);
    for (double& x : p) x /= sum;
  }
};

BagOfWords BagOfWords::train(std::span<const std::string_view> texts, std::span<const std::int32_t> classes,
                             std::int64_t class_count, const BagOfWordsOptions& options) {
  return with_memory_errors(kBag, [&] {
    const DefaultFloatEnvironment environment;
    if (texts.empty()) fail<ArgumentError>(kBag, "there are no texts");
    if (texts.size() != classes.size())
      fail<ArgumentError>(kBag, classes.size(), " classes for ", texts.size(), " texts");
    for (const std::int32_t c : classes)
      if (c < 0 || c >= class_count)
        fail<ArgumentError>(kBag, "class ", c, " is outside [0, ", class_count, ")");
    if (options.min_frequency < 1)
      fail<ArgumentError>(kBag, "min_frequency is ", options.min_frequency, ", expected 1 or more");
    if (!(options.inverse_penalty > 0) || !std::isfinite(options.inverse_penalty))
      fail<ArgumentError>(kBag, "inverse_penalty is ", options.inverse_penalty, ", expected more than 0");
    auto data = std::make_shared<Data>();
    data->classes = static_cast<std::size_t>(class_count);
    std::map<std::string, std::int64_t> frequencies;
    for (const std::string_view text : texts)
      for (const auto& [word, count] : counts_of(text)) ++frequencies[word];
    std::vector<std::string> kept;
    for (const auto& [word, frequency] : frequencies)
      if (frequency >= options.min_frequency) kept.push_back(word);
    std::ranges::sort(kept);  // the order of a hash table is no order
    for (std::size_t i = 0; i < kept.size(); ++i) {
      data->rarity.push_back(math::log((1 + static_cast<double>(texts.size())) /
                                       (1 + static_cast<double>(frequencies.at(kept[i])))) +
                             1);
      data->index.emplace(std::move(kept[i]), i);
    }
    std::vector<Features> rows;
    for (const std::string_view text : texts) rows.push_back(data->features(text));

    const std::size_t k = data->classes, features = data->index.size();
    if (k > data->weights.max_size() / (features + 1))
      fail<MemoryError>(kBag, "there is no memory for the weights of ", features, " features and ", k,
                        " classes");
    const std::size_t biases = features * k;
    const double penalty = 1 / (options.inverse_penalty * static_cast<double>(texts.size()));
    const auto loss = [&](std::span<const double> w, std::span<double> gradient) {
      if (options.stop.stop_requested()) fail<CancelledError>(kBag, "training was stopped");
      const double each = 1 / static_cast<double>(rows.size());
      double sum = 0;
      std::ranges::fill(gradient, 0.0);
      std::vector<double> p(k);
      for (std::size_t r = 0; r < rows.size(); ++r) {
        data->classify(rows[r], w, p);
        const auto right = static_cast<std::size_t>(classes[r]);
        sum -= math::log(std::max(p[right], 0x1p-1000));
        p[right] -= 1;
        for (const auto& [i, value] : rows[r])
          for (std::size_t c = 0; c < k; ++c) gradient[i * k + c] += each * value * p[c];
        for (std::size_t c = 0; c < k; ++c) gradient[biases + c] += each * p[c];
      }
      double squares = 0;
      for (std::size_t i = 0; i < biases; ++i) {
        squares += w[i] * w[i];
        gradient[i] += penalty * w[i];
      }
      return each * sum + penalty * squares / 2;
    };
    data->weights.assign(biases + k, 0.0);
    minimize(loss, data->weights, options.max_iterations);
    return BagOfWords(std::move(data));
  });
}

void BagOfWords::save(const std::filesystem::path& path) const {
  with_memory_errors(kBag, [&] {
    std::vector<const std::string*> words(data_->index.size());
    for (const auto& [word, i] : data_->index) words[i] = &word;
    std::string joined;
    for (const std::string* word : words) joined += concat(joined.empty() ? "" : "\n", *word);
    const auto count = [](const auto& values) { return static_cast<std::int64_t>(values.size()); };
    const NamedTensor tensors[] = {
        {"rarity", {data_->rarity.data(), {count(data_->rarity)}}},
        {"weights",
         {data_->weights.data(), {count(data_->rarity) + 1, static_cast<std::int64_t>(data_->classes)}}},
        {"words", {reinterpret_cast<const std::uint8_t*>(joined.data()), {count(joined)}}}};
    save_safetensors(path, tensors);
  });
}

BagOfWords BagOfWords::load(const std::filesystem::path& path) {
  return with_memory_errors(path.native(), [&] {
    const SafetensorsFile file(path);
    const auto read = [&](const std::string& name, DType dtype, int rank) {
      Tensor tensor = file.tensor(name);
      if (tensor.dtype() != dtype || tensor.shape().rank() != rank)
        fail<FormatError>(file.source(), "tensor ", name, " is ", name_of(tensor.dtype()), " ",
                          tensor.shape().to_string(), ", expected ", name_of(dtype), " of rank ", rank);
      return tensor;
    };
    const Tensor rarity = read("rarity", DType::f64, 1), weights = read("weights", DType::f64, 2),
                 words = read("words", DType::u8, 1);
    auto data = std::make_shared<Data>();
    std::ranges::copy(rarity.span<double>(), std::back_inserter(data->rarity));
    std::ranges::copy(weights.span<double>(), std::back_inserter(data->weights));
    data->classes = static_cast<std::size_t>(weights.dim(1));
    const auto bytes = words.span<std::uint8_t>();
    std::string_view rest(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      data->index.emplace(rest.substr(0, end), data->index.size());
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    if (data->index.size() != data->rarity.size() || weights.dim(0) != rarity.dim(0) + 1 ||
        data->classes == 0)
      fail<FormatError>(file.source(), "has ", data->index.size(), " words, ", rarity.dim(0),
                        " of their rarities, and weights ", weights.shape().to_string());
    return BagOfWords(std::move(data));
  });
}

std::vector<double> BagOfWords::probabilities(std::string_view text) const {
  return with_memory_errors(kBag, [&] {
    const DefaultFloatEnvironment environment;
    std::vector<double> p(data_->classes);
    data_->classify(data_->features(text), data_->weights, p);
    return p;
  });
}

std::int64_t BagOfWords::class_count() const noexcept { return static_cast<std::int64_t>(data_->classes); }

std::int64_t BagOfWords::feature_count() const noexcept {
  return static_cast<std::int64_t>(data_->index.size());
}

}  // namespace gpt
