// A head and a loss of one's own in libgpt's trainer, from outside the library: texts of two classes are told apart by the mean of
// the hidden states of all their tokens, and what is already told well counts less (the focal loss: Lin et al., arXiv 1708.02002).
//
//   own_objective MODEL TRAIN.csv VALIDATION.csv          files with the columns text and label, 0 or 1
#include <algorithm>
#include <cmath>
#include <iostream>

#include <gpt/gpt.h>

namespace {

/// Texts of a file, for a trainer.
class Texts final : public gpt::Dataset {
 public:
  Texts(const std::string& file, const gpt::Model& model) {
    const auto longest = static_cast<std::size_t>(std::min<std::int64_t>(64, model.config().n_positions));
    for (const gpt::LabelledRow& row : gpt::read_labelled_rows(file).rows) {
      gpt::Sample& sample = samples_.emplace_back();
      sample.ids = model.tokenizer().encode(row.text);
      if (sample.ids.size() > longest) sample.ids.resize(longest);
      if (sample.ids.empty()) sample.ids.push_back(0);
      sample.targets = {row.labels == std::vector<std::string>{"1"} ? 1.0f : 0.0f};
    }
  }
  std::int64_t size() const noexcept override { return std::ssize(samples_); }
  gpt::Sample at(std::int64_t index) const override { return samples_.at(static_cast<std::size_t>(index)); }
  std::int64_t length(std::int64_t index) const override { return std::ssize(at(index).ids); }
  std::uint64_t fingerprint() const noexcept override {
    return samples_.size();
  }  // runs are not resumed here

 private:
  std::vector<gpt::Sample> samples_;
};

/// The part of the texts that are told right.
class Accuracy final : public gpt::Metrics {
 public:
  void add(const gpt::Sample& sample, std::span<const float> output) override {
    right_ += (output.front() > 0) == (sample.targets.front() > 0);
    ++all_;
  }
  Values values() const override { return {{"accuracy", right_ / all_}}; }

 private:
  double right_ = 0, all_ = 0;
};

/// s = w mean(h), p = sigmoid(s) for class 1 and sigmoid(-s) for class 0; the loss is -(1 - p)^2 log p.
class FocalMeanHead final : public gpt::Objective {
 public:
  explicit FocalMeanHead(const gpt::Gpt2& network) : w_(gpt::Tensor::zeros({network.config().n_embd})) {}

  std::int64_t terms(const gpt::Sample&) const override { return 1; }
  void visit(const gpt::nn::Adapter::Visitor& f) override { f("focal_head.w", w_, w_.shape()); }
  std::unique_ptr<gpt::Metrics> metrics() const override { return std::make_unique<Accuracy>(); }
  std::string describe() const override { return "focal loss of the mean hidden state"; }

  gpt::LossSum loss(const gpt::Gpt2& network, std::span<const gpt::Sample> samples, gpt::Arena& arena,
                    const gpt::ObjectiveOptions& options) const override {
    std::vector<gpt::Chunk> chunks;
    for (const gpt::Sample& sample : samples) chunks.push_back({sample.ids});
    const gpt::TensorView hidden = network
                                       .forward(chunks, arena,
                                                {.logits = gpt::LogitsRows::kNone,
                                                 .final_hidden = true,
                                                 .stop = options.stop,
                                                 .dropout = options.dropout,
                                                 .tape = options.tape,
                                                 .gradient_checkpointing = options.gradient_checkpointing,
                                                 .activations = options.activations,
                                                 .embedding_offset = options.embedding_offset})
                                       .final_hidden;
    const std::int64_t d = hidden.dim(1);
    const gpt::TensorView slopes =
        arena.take(hidden.shape());  // of the loss with respect to the hidden states
    const float* h = hidden.data<float>();
    float* slope = slopes.data<float>();
    const float* w = w_.data<float>();
    gpt::LossSum total;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto rows = std::ssize(samples[i].ids);
      double s = 0;
      for (std::int64_t j = 0; j < rows * d; ++j)
        s += static_cast<double>(w[j % d]) * static_cast<double>(h[j]);
      s /= static_cast<double>(rows);
      const double sign = samples[i].targets.front() > 0 ? 1 : -1;
      // Finite for a text that is told as wrong as can be, too.
      const double log_p = std::min(sign * s, 0.0) - gpt::math::log(1 + gpt::math::exp(-std::fabs(s)));
      const double p = gpt::math::exp(log_p), q = 1 - p;
      const double loss = -q * q * log_p;
      total.sum += loss;
      total.count += 1;
      if (!options.per_sample.empty()) options.per_sample[i] = {loss, 1};
      if (options.outputs != nullptr) options.outputs->push_back({static_cast<float>(s)});
      if (options.tape != nullptr) {
        const gpt::TensorView dw = options.tape->gradient_of(w_);
        const double ds =
            options.scale * sign * (2 * p * q * q * log_p - q * q * q) / static_cast<double>(rows);
        for (std::int64_t j = 0; j < rows * d; ++j) {
          slope[j] = static_cast<float>(ds * static_cast<double>(w[j % d]));
          dw.data<float>()[j % d] += static_cast<float>(ds * static_cast<double>(h[j]));
        }
      }
      h += rows * d;
      slope += rows * d;
    }
    if (options.tape != nullptr) options.tape->seed(hidden, slopes);  // from here on the tape knows the way
    return total;
  }

 private:
  gpt::Tensor w_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: own_objective MODEL TRAIN.csv VALIDATION.csv\n";
    return 2;
  }
  try {
    gpt::Model model = gpt::Model::load(argv[1]);
    const Texts train(argv[2], model), validation(argv[3], model);
    // What the library puts around its own objectives goes around this one, too: here FGM.
    const auto objective = std::make_shared<gpt::AdversarialObjective>(
        std::make_shared<FocalMeanHead>(model.network()), gpt::AdversarialOptions{.epsilon = 0.1});
    gpt::Trainer trainer(model, {.learning_rate = 1e-3, .num_train_epochs = 3, .layerwise_lr_decay = 0.9},
                         objective);
    const auto show = [](const gpt::EvaluationLog& log) {
      std::cout << "epoch " << log.epoch << ": loss " << log.eval_loss << ", accuracy "
                << log.metrics[0].second << '\n';
    };
    show(trainer.evaluate(validation));
    trainer.fit(train, &validation, {.on_evaluate = show});
  } catch (const gpt::Error& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
