// The loop behind Generator: sequences that grow together, one forward pass per step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "generate/context.h"
#include "generate/drafter.h"
#include "generate/sequence.h"
#include "generate/settings.h"
#include "gpt/core/arena.h"
#include "gpt/generate/generate_options.h"
#include "gpt/generate/sampler.h"
#include "gpt/models/model.h"
#include "gpt/nn/kv_cache.h"

namespace gpt::generate {

class Session {
 public:
  /// Makes num_return_sequences sequences of every prompt. Checks the prompts (not empty, ids in the vocabulary, room in the
  /// context); computes nothing. Throws ArgumentError.
  Session(const Model& model, Settings settings, std::vector<std::vector<TokenId>> prompts);
  Session(const Session&) = delete;  // sequences point into the settings
  Session& operator=(const Session&) = delete;

  /// Computes until at least one new token is known; empty when all sequences have ended. The pieces stay
  /// valid until the next step.
  std::span<const Piece> step();

  const GenerateResult& result(std::size_t sequence) const noexcept {
    return members_[sequence].sequence.result;
  }
  std::vector<GenerateResult> take_results();

 private:
  /// The sequence beside a guided one: the negative prompt, then the same new tokens. It is fed first, so that its logits
  /// are there when the guided one's come.
  struct Unconditional {
    std::vector<TokenId> tokens;
    Context context;
    std::vector<float> logits;  // [V]
  };
  struct Member {
    Sequence sequence;
    std::size_t prompt = 0;                 // its index
    std::size_t leader = 0;                 // the first sequence of the same prompt, which feeds it for all
    Context context = {};                   // its cache is made when it is first fed, freed when it ends
    std::unique_ptr<Drafter> drafter = {};  // with speculation
    std::vector<TokenId> proposal = {};     // the last of its tokens, then guesses, as they are fed
    std::optional<Unconditional> unconditional = {};  // with guidance
  };
  /// What one forward pass feeds of one sequence.
  struct Feed {
    std::size_t sequence = 0;
    std::int64_t count = 0;
    std::size_t guesses = 0;  // so many of the last ones are
    bool completes = false;   // reaches the sequence's last token, so that the next one can be chosen
    bool unconditional = false;
  };

  void add_sequence(const std::vector<TokenId>& prompt, std::size_t prompt_index, std::size_t number);
  void plan();  // chooses what the next pass feeds
  /// Plans to feed what is left of a sequence, or of its unconditional one, as far as the pass has room.
  void plan_feed(std::size_t sequence, bool unconditional, std::int64_t& room);
  /// The same of the sequence's last token with guesses behind it. False when there are none.
  bool plan_guesses(std::size_t sequence, std::int64_t& room);
  void run();
  /// Chooses from a row of logits for each token fed, as long as the guesses are what is chosen.
  void choose_guessed(const Feed& feed, std::span<const float> logits);
  /// Gives the sequences of the same prompt what their leader has computed of it.
  void fork(std::size_t leader);
  /// Whether the sequence is another one of the leader's prompt.
  bool follows(std::size_t index, std::size_t leader) const noexcept;
  /// A second cache with the same tokens, and as much room.
  nn::KvCache copy_of(const nn::KvCache& cache) const;
  void take_unconditional(Member& member, std::span<const float> logits);
  void choose(std::size_t sequence, std::span<const float> logits);
  /// Lets go of what an ended sequence no longer needs.
  static void release(Member& member) noexcept;
  void cancel_all();

  const Model* model_;
  Settings settings_;
  Sampler sampler_;
  std::vector<Member> members_;
  std::vector<std::size_t> running_;
  Arena arena_;
  std::vector<Feed> feeds_;
  std::vector<Chunk> batch_;
  std::vector<Piece> pieces_;
};

}  // namespace gpt::generate
