// The whole network: prefill, decode, loading and requests, on a GPT-2 124M with random weights.
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "bench/support/network.h"
#include "bench/support/random.h"
#include "bench/support/runner.h"
#include "bench/support/weights.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/scheduler.h"
#include "gpt/models/gpt2.h"
#include "gpt/models/model.h"

namespace gpt::bench {
namespace {

constexpr std::int64_t kTimedTokens = 32;

// A network with the sequences it works on.
struct Session {
  std::shared_ptr<const Gpt2> network;
  std::vector<nn::KvCache> caches;
  std::vector<std::vector<TokenId>> tokens;
  std::vector<Chunk> batch;
  Arena arena;

  Session(std::shared_ptr<const Gpt2> model, std::int64_t sequences, std::int64_t length,
          DType cache = DType::f32)
      : network(std::move(model)) {
    const Gpt2Config& c = network->config();
    for (std::int64_t i = 0; i < sequences; ++i) {
      caches.push_back(network->make_cache(length, cache));
      tokens.push_back(random_tokens(length, c.vocab_size, static_cast<std::uint64_t>(i + 1)));
    }
    batch.resize(caches.size());
  }

  // Tokens first .. first + count - 1 of every sequence.
  void forward(std::int64_t first, std::int64_t count, LogitsRows logits) {
    for (std::size_t i = 0; i < batch.size(); ++i)
      batch[i] = {
          std::span(tokens[i]).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
          &caches[i]};
    arena.reset();
    network->forward(batch, arena, {.logits = logits});
  }

  // The first tokens, one sequence after the other and in memory that is given back.
  void prefill(std::int64_t count) {
    for (std::size_t i = 0; i < caches.size(); ++i) {
      Arena own;
      const Chunk chunk{std::span(tokens[i]).first(static_cast<std::size_t>(count)), &caches[i]};
      network->forward({&chunk, 1}, own, {.logits = LogitsRows::kNone});
    }
  }

  void truncate(std::int64_t length) {
    for (nn::KvCache& cache : caches) cache.truncate(length);
  }
};

Work prefill(const Name& name, LogitsRows logits) {
  const std::int64_t t = name.number("T");
  const auto s = std::make_shared<Session>(random_network(name.word()), 1, t);
  Work work;
  work.run = [s, t, logits] { s->forward(0, t, logits); };
  work.prepare = [s] { s->truncate(0); };
  work.rate = "tok_per_s";
  work.amount = static_cast<double>(t);
  const Gpt2Config& c = s->network->config();
  const std::int64_t shown = logits == LogitsRows::kAll ? t : 1;
  const double matrices = matrix_ops(c, t, shown);
  work.flops = matrices + attention_ops(c, 0, t, shown);
  Format(name.word()).count_products(work, t, matrices);
  work.read_bytes = weight_bytes(*s->network);
  work.memory = largest_matrix(*s->network);
  return work;
}

Work decode(const Name& name) {
  const std::int64_t past = name.number("ctx", 0), sequences = name.number("batch");
  const DType cache = cache_dtype(name.value("kv"));
  const auto s =
      std::make_shared<Session>(random_network(name.word()), sequences, past + kTimedTokens, cache);
  if (past > 0) s->prefill(past);
  Work work;
  work.run = [s, past] {
    for (std::int64_t i = 0; i < kTimedTokens; ++i) s->forward(past + i, 1, LogitsRows::kLast);
  };
  work.prepare = [s, past] { s->truncate(past); };
  work.rate = "tok_per_s";
  work.amount = static_cast<double>(sequences * kTimedTokens);
  const Gpt2Config& c = s->network->config();
  const double matrices = static_cast<double>(kTimedTokens) * matrix_ops(c, sequences, sequences);
  work.flops = matrices;
  Format(name.word()).count_products(work, sequences, matrices);
  for (std::int64_t i = 0; i < kTimedTokens; ++i) {
    work.flops += static_cast<double>(sequences) * attention_ops(c, past + i, 1, 1);
    work.read_bytes +=
        weight_bytes(*s->network) + static_cast<double>(sequences) * kv_bytes(c, past + i + 1, cache);
  }
  work.memory = largest_matrix(*s->network);
  return work;
}

// A directory that goes away with its last user.
class TempDir {
 public:
  TempDir() {
    std::string path = (std::filesystem::temp_directory_path() / "gpt-bench-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) fail<IoError>(path, "cannot create a directory");
    path_ = path;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// From nothing to the logits of the first token; the files are in the system's cache.
Work load(const Name& name) {
  const std::string& how = name.word(1);
  if (how != "mapped" && how != "copied" && how != "packed")
    fail<ArgumentError>(name.text(), "expected mapped, copied or packed");
  const LoadOptions options{.map = how != "copied", .pack = how == "packed"};
  const auto files = std::make_shared<TempDir>();
  {
    const bool floats = Format(name.word()).dtype.has_value();
    const auto network =
        random_network(name.word() + (floats ? "-file" : ""));  // quantized files hold panels
    HfConfig file;
    network->config().to_hf(file);
    Model(*network, std::move(file)).save(files->path());
  }
  kept() = {};

  struct State {
    std::optional<Model> model;
    nn::KvCache cache;
    Arena arena;
    std::vector<double> token_seconds;
  };
  const auto state = std::make_shared<State>();
  const auto token = [state] {
    const TokenId id = 0;
    const Chunk chunk{{&id, 1}, &state->cache};
    state->cache.truncate(0);
    state->arena.reset();
    state->model->network().forward({&chunk, 1}, state->arena);
  };
  Work work;
  work.run = [files, state, options, token] {
    state->model = Model::load(files->path(), options);
    state->cache = state->model->network().make_cache(1);
    token();
  };
  // The token's own time is that of the third on the model that was loaded last.
  work.prepare = [state, token] {
    if (state->model) {
      token();
      state->token_seconds.push_back(seconds_of(token));
    }
    state->model.reset();
    state->cache = {};
    state->arena = {};
  };
  work.rate = "loads_per_s";
  work.amount = 1;
  work.more = [state](const std::vector<double>& seconds, Counters& counters) {
    const double token_seconds = median(state->token_seconds);
    counters["first_token_s"] = median(seconds);
    counters["beyond_token_s"] = median(seconds) - token_seconds;
  };
  return work;
}

// Requests of `prompt` tokens each, and `new` ones after them: in one call of Generator::generate, or through a Scheduler
// that runs `batch` at once.
Work scheduler(const Name& name) {
  const std::string& how = name.word(1);
  if (how != "scheduler" && how != "generate")
    fail<ArgumentError>(name.text(), "expected scheduler or generate");
  const std::int64_t requests = name.number("requests"), batch = name.number("batch");
  const std::int64_t prompt = name.number("prompt"), count = name.number("new");
  struct State {
    explicit State(const Gpt2& network) : model(network, HfConfig()) {}
    Model model;
    std::vector<std::vector<TokenId>> prompts;
    std::optional<Scheduler> scheduler;
  };
  const auto s = std::make_shared<State>(*random_network(name.word()));
  for (std::int64_t i = 0; i < requests; ++i)
    s->prompts.push_back(
        random_tokens(prompt, s->model.config().vocab_size, static_cast<std::uint64_t>(i + 1)));
  const GenerateOptions options{.max_new_tokens = count, .eos_token_id = std::vector<TokenId>()};
  Work work;
  if (how == "generate") {
    work.run = [s, options] { Generator(s->model).generate(s->prompts, options); };
  } else {
    work.prepare = [s, batch] {  // so that no prefix is known
      s->scheduler.reset();
      s->scheduler.emplace(s->model, SchedulerOptions{.max_batch = batch});
    };
    work.run = [s, options] {
      for (const auto& prompt_ids : s->prompts)
        s->scheduler->submit(prompt_ids, options, {.on_done = [](const Completion&) {}});
      s->scheduler->run();
    };
  }
  work.rate = "tok_per_s";
  work.amount = static_cast<double>(requests * count);
  const Gpt2Config& c = s->model.config();
  const std::int64_t tokens = prompt + count - 1;
  const double matrices = static_cast<double>(requests) * matrix_ops(c, tokens, count);
  Format(name.word()).count_products(work, prompt, matrices);
  work.flops = matrices + static_cast<double>(requests) * attention_ops(c, 0, tokens, count);
  work.memory = largest_matrix(s->model.network());
  return work;
}

Program program() {
  Program p;
  p.about = R"(bench_model [OPTION]...

The whole network on a GPT-2 124M with random weights: prefill, decode, loading, many requests. What the counters
mean is said in bench/README.md.

Example: bench_model --benchmark_filter='BM_Decode/f32/kv:f32/ctx:0/batch:1/threads:2')";
  p.families = {
      {"BM_Prefill", {"", "T", "threads"}, [](const Name& n) { return prefill(n, LogitsRows::kLast); }},
      {"BM_PrefillAllLogits",
       {"", "T", "threads"},
       [](const Name& n) { return prefill(n, LogitsRows::kAll); }},
      {"BM_Decode", {"", "kv", "ctx", "batch", "threads"}, decode},
      {"BM_Load", {"", "", "threads"}, load},
      {"BM_Scheduler", {"", "", "requests", "prompt", "new", "batch", "threads"}, scheduler},
  };
  for (const std::string& format : formats())
    for (const int threads : thread_counts()) {
      const std::string end = concat("/threads:", threads);
      for (const int t : {64, 512}) p.names.push_back(concat("BM_Prefill/", format, "/T:", t, end));
      p.names.push_back(concat("BM_PrefillAllLogits/", format, "/T:512", end));
      for (const auto& [context, batch] : {std::pair{0, 1}, {512, 1}, {896, 1}, {0, 8}, {0, 16}, {512, 8}})
        for (const auto* cache : {"f32", "f16", "int8"})
          if (context > 0 || cache == std::string("f32"))
            p.names.push_back(
                concat("BM_Decode/", format, "/kv:", cache, "/ctx:", context, "/batch:", batch, end));
      for (const auto* how : {"mapped", "copied", "packed"})
        p.names.push_back(concat("BM_Load/", format, "/", how, end));
      for (const auto* how : {"generate", "scheduler"})
        p.names.push_back(
            concat("BM_Scheduler/", format, "/", how, "/requests:16/prompt:64/new:32/batch:16", end));
    }
  return p;
}

}  // namespace
}  // namespace gpt::bench

int main(int argc, char** argv) { return gpt::bench::run(argc, argv, gpt::bench::program); }
