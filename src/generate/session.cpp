#include "generate/session.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/float_environment.h"
#include "generate/non_finite.h"
#include "generate/processor_list.h"
#include "generate/session_support.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"

namespace gpt::generate {
namespace {

// Guesses per forward pass: a bound on the memory for their logits.
constexpr std::int64_t kGuessesPerPass = 64;

Sampler make_sampler(Settings& settings) { return Sampler(std::move(settings.processors)); }

// Throws ArgumentError when the negative prompt and the new tokens do not fit the context.
void check_negative_prompt(std::size_t length, std::int64_t max_new_tokens, const Room& room) {
  if (static_cast<std::int64_t>(length) + max_new_tokens > room.tokens + 1)
    fail<ArgumentError>("generate", "negative_prompt_ids holds ",
                        counted(static_cast<std::int64_t>(length), "token"), ", which with ",
                        counted(max_new_tokens, "new one"), " do not fit the context: ", room.text());
}

}  // namespace

Session::Session(const Model& model, Settings settings, std::vector<std::vector<TokenId>> prompts)
    : model_(&model), settings_(std::move(settings)), sampler_(make_sampler(settings_)) {
  const auto per_prompt = static_cast<std::size_t>(settings_.options.num_return_sequences.value_or(1));
  for (std::size_t prompt = 0; prompt < prompts.size(); ++prompt) {
    for (std::size_t r = 0; r < per_prompt; ++r) add_sequence(prompts[prompt], prompt, r);
  }
}

void Session::add_sequence(const std::vector<TokenId>& prompt, std::size_t prompt_index, std::size_t number) {
  const GenerateOptions& options = settings_.options;
  const Gpt2Config& config = model_->config();
  const std::size_t index = members_.size();
  members_.push_back({.sequence = Sequence(*model_, settings_, sampler_, prompt, number),
                      .prompt = prompt_index,
                      .leader = index - number});
  Member& member = members_.back();
  const std::int64_t most = member.sequence.max_new_tokens;
  member.context.keep =
      kept_tokens(settings_, static_cast<std::int64_t>(prompt.size()), room_of(*model_, settings_));
  if (is_guided(options)) {
    member.unconditional = Unconditional();
    std::vector<TokenId>& tokens = member.unconditional->tokens;
    tokens = options.negative_prompt_ids.value_or(std::vector<TokenId>{prompt.back()});
    check_negative_prompt(tokens.size(), most, room_of(*model_, settings_));
    tokens.reserve(room_for_tokens(tokens.size(), most));
  }
  member.drafter = make_drafter(options, static_cast<std::size_t>(config.vocab_size),
                                prompt.size() + static_cast<std::size_t>(most));
  running_.push_back(index);
}

std::span<const Piece> Session::step() {
  pieces_.clear();
  const DefaultFloatEnvironment environment;
  const ThreadLimit limit(settings_.options.num_threads);
  while (pieces_.empty() && !running_.empty()) {
    if (settings_.options.stop.stop_requested()) {
      cancel_all();
      break;
    }
    try {
      if (unless_stopped([this] { plan(); }))  // guesses may need a network, too
        run();
      else
        cancel_all();
    } catch (...) {
      running_.clear();  // a step that failed half way cannot be taken again
      throw;
    }
  }
  if (settings_.options.on_token) {
    try {
      for (const Piece& piece : pieces_) settings_.options.on_token(piece);
    } catch (...) {
      running_.clear();  // what the callback throws ends the generation
      throw;
    }
  }
  return pieces_;
}

// Sequences in their order, as many as the pass has room for. Early ones are past their prompts when later
// ones begin.
void Session::plan() {
  feeds_.clear();
  batch_.clear();
  std::int64_t room = kTokensPerPass;
  for (const std::size_t index : running_) {
    Member& member = members_[index];
    member.context.slide(member.sequence.tokens.size(), room_of(*model_, settings_).tokens);
  }
  // Guesses need the logits of every token that is fed: not beside a prompt, be it of one token.
  const auto decodes = [this](std::size_t index) {
    const Member& member = members_[index];
    return !member.sequence.result.ids.empty() && member.context.pending(member.sequence.tokens.size()) == 1;
  };
  const bool guesses =
      has_drafts(settings_.options) && std::all_of(running_.begin(), running_.end(), decodes);
  std::int64_t guess_room = kGuessesPerPass;
  for (const std::size_t index : running_) {
    if (room == 0) break;
    if (guesses && plan_guesses(index, guess_room)) continue;
    if (members_[index].context.cache.capacity() == 0 && members_[index].leader != index)
      continue;  // waits for its leader
    if (members_[index].unconditional) plan_feed(index, true, room);
    plan_feed(index, false, room);
  }
}

void Session::plan_feed(std::size_t index, bool unconditional, std::int64_t& room) {
  Member& member = members_[index];
  const std::vector<TokenId>& tokens = unconditional ? member.unconditional->tokens : member.sequence.tokens;
  Context& context = unconditional ? member.unconditional->context : member.context;
  const auto ids = context.next(tokens, room);
  const auto count = static_cast<std::int64_t>(ids.size());
  if (count == 0) return;
  if (context.cache.capacity() == 0)
    context.cache = model_->network().make_cache(
        static_cast<std::int64_t>(tokens.size()) + member.sequence.max_new_tokens - 1,
        settings_.options.kv_cache_dtype, settings_.options.adapter.get());
  room -= count;
  feeds_.push_back({.sequence = index,
                    .count = count,
                    .completes = context.pending(tokens.size()) == count,
                    .unconditional = unconditional});
  batch_.push_back({.ids = ids, .cache = &context.cache, .adapter = settings_.options.adapter.get()});
}

bool Session::plan_guesses(std::size_t index, std::int64_t& room) {
  Member& member = members_[index];
  const Sequence& sequence = member.sequence;
  // Before the last token, and before the window would move.
  const std::int64_t most =
      std::min({room, sequence.max_new_tokens - static_cast<std::int64_t>(sequence.result.ids.size()) - 1,
                room_of(*model_, settings_).tokens - member.context.fed - 1});
  if (most <= 0) return false;
  member.proposal.assign(1, sequence.tokens.back());
  member.drafter->propose(sequence.tokens, static_cast<std::size_t>(most),
                          sequence.rng ? &*sequence.rng : nullptr, member.proposal);
  const std::size_t guesses = member.proposal.size() - 1;
  if (guesses == 0) return false;
  room -= static_cast<std::int64_t>(guesses);
  feeds_.push_back({.sequence = index,
                    .count = static_cast<std::int64_t>(guesses) + 1,
                    .guesses = guesses,
                    .completes = true});
  batch_.push_back(
      {.ids = member.proposal, .cache = &member.context.cache, .adapter = settings_.options.adapter.get()});
  return true;
}

void Session::run() {
  const auto start = std::chrono::steady_clock::now();
  const bool any_completes =
      std::any_of(feeds_.begin(), feeds_.end(), [](const Feed& feed) { return feed.completes; });
  const bool any_guesses =
      std::any_of(feeds_.begin(), feeds_.end(), [](const Feed& feed) { return feed.guesses > 0; });
  arena_.reset();
  ForwardOutput output;
  const bool computed = unless_stopped([&] {
    output = model_->network().forward(batch_, arena_,
                                       {.logits = any_guesses     ? LogitsRows::kAll
                                                  : any_completes ? LogitsRows::kLast
                                                                  : LogitsRows::kNone,
                                        .stop = settings_.options.stop});
  });
  if (!computed) return cancel_all();
  const auto vocab_size = static_cast<std::size_t>(model_->config().vocab_size);
  std::size_t row = 0;
  for (const Feed& feed : feeds_) {
    Member& member = members_[feed.sequence];
    const std::size_t first_row = row, rows = feed.guesses + 1;  // beside guesses, others feed one token
    row += rows;
    const auto logits = [&] {
      return ConstTensorView(output.logits).span<float>().subspan(first_row * vocab_size, rows * vocab_size);
    };
    if (feed.guesses > 0) {
      choose_guessed(feed, logits());
      continue;
    }
    if (feed.unconditional) {
      member.unconditional->context.fed += feed.count;
      if (feed.completes) take_unconditional(member, logits());
      continue;
    }
    member.context.fed += feed.count;
    count_pass(member.sequence, feed.count);
    if (!feed.completes) continue;
    const bool forks = member.sequence.result.ids.empty() && member.leader == feed.sequence;
    if (forks) fork(feed.sequence);
    choose(feed.sequence, logits());
    for (std::size_t i = feed.sequence + 1; forks && follows(i, feed.sequence); ++i) choose(i, logits());
  }
  const double elapsed = seconds_since(start);
  for (std::size_t i = 0; i < feeds_.size(); ++i) {
    if (i > 0 && feeds_[i].sequence == feeds_[i - 1].sequence)
      continue;  // counted with its unconditional one
    const std::size_t leader = feeds_[i].sequence;
    count_time(members_[leader].sequence, elapsed);
    const GenerateResult& result = members_[leader].sequence.result;
    const bool forked = members_[leader].leader == leader && result.ids.size() == 1;
    for (std::size_t j = leader + 1; forked && follows(j, leader); ++j)
      members_[j].sequence.result.timing = result.timing;
  }
  std::erase_if(running_, [this](std::size_t index) { return members_[index].sequence.ended; });
}

void Session::choose_guessed(const Feed& feed, std::span<const float> logits) {
  Member& member = members_[feed.sequence];
  const auto vocab_size = static_cast<std::size_t>(model_->config().vocab_size);
  for (std::size_t i = 0;; ++i) {
    ++member.context.fed;
    choose(feed.sequence, logits.subspan(i * vocab_size, vocab_size));
    if (member.sequence.ended) return;
    if (i == feed.guesses || member.sequence.tokens.back() != member.proposal[i + 1]) break;
  }
  member.context.cache.truncate(member.context.fed);
}

nn::KvCache Session::copy_of(const nn::KvCache& cache) const {
  nn::KvCache copy =
      model_->network().make_cache(cache.capacity(), cache.dtype(), settings_.options.adapter.get());
  copy.copy_from(cache, 0);
  return copy;
}

bool Session::follows(std::size_t index, std::size_t leader) const noexcept {
  return index < members_.size() && members_[index].leader == leader;
}

void Session::fork(std::size_t leader) {
  const auto copy = [this](const Context& from, Context& to) {
    to = {.cache = copy_of(from.cache), .fed = from.fed, .keep = from.keep, .dropped = from.dropped};
  };
  const Member& from = members_[leader];
  for (std::size_t i = leader + 1; follows(i, leader); ++i) {
    Member& member = members_[i];
    copy(from.context, member.context);
    if (!from.unconditional) continue;
    copy(from.unconditional->context, member.unconditional->context);
    member.unconditional->logits = from.unconditional->logits;
  }
}

void Session::take_unconditional(Member& member, std::span<const float> logits) {
  require_finite_logits(logits, member.unconditional->tokens, model_->network());
  member.unconditional->logits.assign(logits.begin(), logits.end());
}

void Session::choose(std::size_t index, std::span<const float> logits) {
  Member& member = members_[index];
  std::span<const float> unconditional;
  if (member.unconditional) unconditional = member.unconditional->logits;
  pieces_.push_back(
      choose_next(member.sequence, *model_, settings_, sampler_, logits, member.prompt, unconditional));
  pieces_.back().sequence = index;
  if (member.unconditional) member.unconditional->tokens.push_back(pieces_.back().id);
  if (member.sequence.ended) release(member);
}

void Session::release(Member& member) noexcept {
  member.context.cache = {};
  member.drafter.reset();
  member.unconditional.reset();
}

void Session::cancel_all() {
  for (const std::size_t index : running_) {
    Sequence& sequence = members_[index].sequence;
    if (sequence.ended) continue;
    sequence.result.text += finish(sequence, FinishReason::kCancelled);
    release(members_[index]);
  }
  running_.clear();
}

std::vector<GenerateResult> Session::take_results() {
  std::vector<GenerateResult> results;
  results.reserve(members_.size());
  for (Member& member : members_) results.push_back(std::move(member.sequence.result));
  return results;
}

}  // namespace gpt::generate
