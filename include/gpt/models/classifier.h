// A network that tells classes of text apart, instead of the next token: transformers' GPT2ForSequenceClassification.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/core/arena.h"
#include "gpt/core/tensor.h"
#include "gpt/models/loss_rows.h"
#include "gpt/models/model.h"
#include "gpt/ops/weight.h"

namespace gpt {

/// "regression", "single_label_classification", "multi_label_classification"
std::string_view name_of(ProblemType type) noexcept;
std::optional<ProblemType> problem_type_from_name(std::string_view name) noexcept;

/// A sequence with what is known of it as a whole.
struct TargetedSequence {
  std::span<const TokenId> ids;  // 1 to n_positions of them
  /// kSingleLabel: one number, the label's; kMultiLabel: 0 to 1 for each label; kRegression: a number for each logit.
  std::span<const float> targets;
};

struct ClassificationLossOptions {
  Tape* tape = nullptr;                         // receives the gradient of scale times the sum of the losses
  double scale = 1;                             // as LossOptions
  std::optional<DropoutSeed> dropout = {};      // as ForwardOptions
  bool gradient_checkpointing = false;          // as ForwardOptions
  DType activations = DType::f32;               // as ForwardOptions
  EmbeddingOffset* embedding_offset = nullptr;  // as ForwardOptions
  std::stop_token stop = {};                    // asked before every matrix product
  std::span<LossSum> per_sequence = {};         // receives the sum of each sequence, unless empty
  TensorView logits = {};                       // receives them, float32 [sequences, labels], unless empty
  double label_smoothing_factor = 0;            // of kSingleLabel: see ops::CrossEntropy
  /// A factor of the loss for each label: of kSingleLabel, where that label is right; of kMultiLabel, of its term. The mean
  /// stays one over the sequences, as scikit-learn's class_weight has it. Empty: 1 for all.
  std::span<const double> class_weights = {};
};

/// A model with a head in the place of the language model's: logits = score h, where h is the final hidden state at the last
/// token of a sequence that is not pad_token_id (at its first one, where all are). What follows that token changes nothing. A
/// sequence's bits are those of the sequence alone. Const and shareable between threads while nothing is trained.
class Classifier {
 public:
  /// Loads a checkpoint of GPT2ForSequenceClassification: as Model::load, with score.weight [num_labels, D], and from config.json
  /// num_labels, id2label, problem_type, and pad_token_id. Where they are missing, as in transformers: two labels LABEL_0 and
  /// LABEL_1; regression for one label, else single_label_classification. Throws as Model::load; FormatError naming a key or
  /// tensor.
  static Classifier load(const std::filesystem::path& directory, const LoadOptions& options = {});

  /// A model with a new head, N(0, initializer_range) as in transformers. The language model's own head goes, where it is not tied
  /// to the embeddings. A model without a pad_token_id gets its first eos_token_id for one. Throws ArgumentError: no labels, two of
  /// the same name; one label, unless it is for regression or kMultiLabel.
  Classifier(Model model, std::vector<std::string> labels,
             ProblemType problem_type = ProblemType::kSingleLabel, std::uint64_t seed = 0);

  /// Writes a directory that transformers (and load) read; where an adapter is attached to the network, that with the head, as
  /// PEFT reads it: task_type SEQ_CLS, modules_to_save ["score"]. Throws as Model::save.
  void save(const std::filesystem::path& directory, const SaveOptions& options = {}) const;

  Model& model() noexcept { return model_; }
  const Model& model() const noexcept { return model_; }
  ProblemType problem_type() const noexcept { return problem_type_; }
  /// id2label, in the order of the logits.
  const std::vector<std::string>& labels() const noexcept { return labels_; }
  std::int64_t num_labels() const noexcept { return score_.out; }
  /// The model's (config.json), which Gpt2::set_special_tokens and align_special_tokens change.
  const std::optional<TokenId>& pad_token_id() const noexcept { return model_.config().pad_token_id; }
  /// score.weight, [num_labels, D].
  ops::Weight& score() noexcept { return score_; }
  const ops::Weight& score() const noexcept { return score_; }
  /// Shows the head to f, as nn::Adapter::visit does its tensors.
  void visit_head(const nn::Adapter::Visitor& f) { f("score.weight", score_.values, score_.file_shape()); }

  /// Of each sequence of 1 to n_positions tokens: float32 [sequences, num_labels]. Throws as Gpt2::forward; ArgumentError where there
  /// are no sequences; NumericError for logits that are not finite, naming a parameter that is not.
  Tensor logits(std::span<const std::vector<TokenId>> sequences, const std::stop_token& stop = {}) const;

  /// The ids of a text: those of the tokenizer, at most `max_length` (and n_positions) of its first ones; pad_token_id, or else token
  /// 0, where there are none. Special tokens in the text are taken for ordinary text. `truncated`, unless null, is told whether there were
  /// more ids.
  std::vector<TokenId> encode(std::string_view text, std::int64_t max_length = 0,
                              bool* truncated = nullptr) const;

  /// The ids that the logits depend on: all up to the last that is not pad_token_id.
  std::span<const TokenId> used(std::span<const TokenId> ids) const noexcept;

 private:
  Classifier(Model model, ProblemType problem_type) : model_(std::move(model)), problem_type_(problem_type) {}
  void save_adapter(const std::filesystem::path& directory, const SaveOptions& options) const;

  Model model_;
  ProblemType problem_type_;
  std::vector<std::string> labels_;
  ops::Weight score_;
};

/// The loss over sequences of any lengths, summed: one term for each with kSingleLabel, else one for each of its logits, so that the
/// mean is transformers' loss. Throws as Gpt2::forward; ArgumentError naming a sequence whose targets are not as documented.
LossSum classification_loss(const Classifier& classifier, std::span<const TargetedSequence> batch,
                            Arena& arena, const ClassificationLossOptions& options = {});

/// What that loss is made of: the pass alone, on the tape, if there is one. Of a sequence the last row has the loss; its label is 0 unless
/// the type is kSingleLabel. Throws likewise.
LossRows classification_rows(const Classifier& classifier, std::span<const TargetedSequence> batch,
                             Arena& arena, const ClassificationLossOptions& options = {});

/// Probabilities of a row of logits, in double: softmax for kSingleLabel, the sigmoid of each for kMultiLabel, the logits
/// themselves for kRegression; of logits divided by `temperature` (Guo et al., arXiv 1706.04599).
std::vector<double> probabilities(ProblemType type, std::span<const float> logits, double temperature = 1);

}  // namespace gpt
