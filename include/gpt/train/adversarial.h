// Learning from the worst embeddings near those of the text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "gpt/train/objectives.h"

namespace gpt {

enum class AdversarialMethod : std::uint8_t {
  kFgm,     // Miyato et al., arXiv 1605.07725
  kPgd,     // Madry et al., arXiv 1706.06083
  kFreeLb,  // Zhu et al., arXiv 1909.11764, algorithm 1
};

/// "fgm", "pgd", "freelb"
std::string_view name_of(AdversarialMethod method) noexcept;
std::optional<AdversarialMethod> adversarial_method_from_name(std::string_view name) noexcept;

struct AdversarialOptions {
  AdversarialMethod method = AdversarialMethod::kFgm;
  double epsilon = 1.0;      // the largest norm of what is added to a sequence
  double step_size = 0.3;    // of kPgd and kFreeLb (alpha there): the norm of a step; more than 0
  std::int64_t steps = 3;    // of kPgd and kFreeLb (K there), 1 or more
  double loss_weight = 1.0;  // of kFgm and kPgd: of the adversarial loss, beside that of the text as it is
};

/// An objective L, whatever it is, of embeddings to which a delta is added that makes it worse. With g the gradient of L with respect to
/// the embeddings of a sequence (the sum of token and position embeddings, as one vector), and all norms L2 over a sequence:
///   kFgm     L(0) + loss_weight L(d),  d = epsilon g(0) / |g(0)|
///   kPgd     L(0) + loss_weight L(d_K),  d_0 = 0,  d_k = P(d_(k-1) + step_size g(d_(k-1)) / |g(d_(k-1))|)
///   kFreeLb  the mean of L(d_0) ... L(d_(K-1)),  d_0 uniform in +-epsilon / sqrt(numbers of the sequence),  d_k as above
/// where P scales what is longer than epsilon down to it. The delta is a constant to the gradients of the weights. All passes of an update
/// have the same dropout. Passes that only look for the delta compute no gradients of weights; kFgm has two passes, kPgd steps + 1,
/// kFreeLb steps. An evaluation is that of L.
class AdversarialObjective final : public WrappedObjective {
 public:
  /// Throws ArgumentError naming an option out of its range.
  AdversarialObjective(std::shared_ptr<Objective> inner, AdversarialOptions options = {});

  /// With a tape, replays it after every pass, with what else was recorded on it: nothing is left to be replayed. Throws UnsupportedError
  /// for an adapter with virtual tokens, ArgumentError for an embedding_offset of the options.
  LossSum loss(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
               const ObjectiveOptions& options) const override;

 private:
  LossSum around_the_text(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                          const ObjectiveOptions& options) const;
  LossSum for_free(const Gpt2& network, std::span<const Sample> samples, Arena& arena,
                   const ObjectiveOptions& options) const;

  AdversarialOptions options_;
};

}  // namespace gpt
