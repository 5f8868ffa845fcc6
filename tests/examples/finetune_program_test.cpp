// gpt-finetune as its user meets it: files, output, exit status and messages, and what is left of a run that was killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/random_tensor.h"
#include "support/temp_dir.h"

namespace gpt::test::finetune_program {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

std::vector<std::string> command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), GPT_FINETUNE);
  return arguments;
}
ProcessResult run(std::vector<std::string> arguments) {
  return Process(command(std::move(arguments))).wait();
}

class FinetuneProgram : public testing::Test {
 protected:
  /// Until the run in out/ has written of its first step.
  void wait_for_records() const {
    const fs::path records = dir_ / "out/metrics.jsonl";
    while (!fs::exists(records) || fs::is_empty(records))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }

  FinetuneProgram() {
    std::string text;
    for (int i = 0; i < 60; ++i) text += concat("FIRST CITIZEN:\nSpeak, number ", i * i % 17, ", speak.\n\n");
    write_file(dir_ / "corpus.txt", text);
    // A network that learns in a moment, with the shipped tokenizer.
    HfConfig config = HfConfig::load(kDemo + "/config.json");
    config.set_int("n_layer", 1);
    config.set_int("n_embd", 16);
    config.set_int("n_head", 2);
    config.save(dir_ / "config.json");
  }
  // The options of a run into `output`.
  std::vector<std::string> options(const std::string& output, std::vector<std::string> more = {}) const {
    std::vector<std::string> all{"--config",
                                 dir_ / "config.json",
                                 "--tokenizer",
                                 kDemo,
                                 "--train-file",
                                 dir_ / "corpus.txt",
                                 "--output-dir",
                                 dir_ / output,
                                 "--block-size",
                                 "32",
                                 "--learning-rate",
                                 "1e-2",
                                 "--per-device-train-batch-size",
                                 "4",
                                 "--logging-steps",
                                 "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  TempDir dir_;
};

TEST_F(FinetuneProgram, TrainsANewNetworkAndWritesACheckpointWithItsRecords) {
  const ProcessResult result =
      run(options("out", {"--validation-fraction", "0.2", "--num-train-epochs", "2", "--json"}));
  ASSERT_EQ(result.status, 0) << result.err;
  const Json summary = parse_json(result.out);
  const auto steps = summary.at("global_step").get<std::int64_t>();
  std::vector<Json> records;
  std::ifstream metrics(dir_ / "out/metrics.jsonl");
  for (std::string line; std::getline(metrics, line);) records.push_back(parse_json(line));
  ASSERT_EQ(records.size(), static_cast<std::size_t>(steps + 2));  // an evaluation after each epoch
  EXPECT_EQ(records.front().at("step"), 1);
  EXPECT_GT(records.front().at("loss"), 7.0);  // ln 2048 = 7.6: nothing is known yet
  EXPECT_LT(records.back().at("eval_loss"), records.front().at("loss"));
  const Model model = Model::load(dir_ / "out");
  EXPECT_EQ(model.config().n_embd, 16);
  EXPECT_TRUE(model.has_tokenizer());
  EXPECT_TRUE(fs::exists(dir_ / "out" / concat("checkpoint-", steps)));
  EXPECT_FALSE(fs::is_empty(dir_ / "out/runs"));
  // Lines instead of a bar, since standard error is no terminal.
  EXPECT_THAT(result.err, AllOf(StartsWith(concat("step 1/", steps, "  loss ")), Not(HasSubstr("\r"))));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), steps + 2);
}

TEST_F(FinetuneProgram, RefusesAnotherModelForARunThatItResumes) {
  ASSERT_EQ(run(options("out", {"--max-steps", "2", "--report-to", "none"})).status, 0);
  std::vector<std::string> other = options("out", {"--max-steps", "2", "--report-to", "none", "--resume"});
  other[0] = "--model";  // of the same shape
  other[1] = (dir_ / "out/checkpoint-2").string();
  expect_failure(1, command(other), "[trainer] the model is not that of the run in ");
}

TEST_F(FinetuneProgram, WritesOverNoModelOfAnothers) {
  ASSERT_EQ(run(options("out", {"--max-steps", "1", "--report-to", "none"})).status, 0);
  fs::remove_all(dir_ / "out/checkpoint-1");
  const std::string before = read_file(dir_ / "out/model.safetensors");
  expect_failure(1, command(options("out", {"--max-steps", "1"})),
                 "out] holds config.json, and no run to resume: choose another --output-dir");
  EXPECT_EQ(before, read_file(dir_ / "out/model.safetensors"));
}

TEST_F(FinetuneProgram, TrainsAnAdapterThatOtherProgramsTake) {
  const std::vector<std::string> how{"--model",         kDemo,
                                     "--train-file",    dir_ / "corpus.txt",
                                     "--block-size",    "32",
                                     "--max-steps",     "2",
                                     "--learning-rate", "0.05",
                                     "--report-to",     "none",
                                     "--output-dir",    dir_ / "adapter"};
  std::vector<std::string> with = how;
  with.insert(with.end(), {"--use-peft", "--lora-r", "4", "--lora-target-modules", "c_attn",
                           "--lora-target-modules", "mlp.c_proj"});
  const ProcessResult result = run(with);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_TRUE(fs::exists(dir_ / "adapter/adapter_model.safetensors"));
  EXPECT_FALSE(fs::exists(dir_ / "adapter/model.safetensors"));
  EXPECT_THAT(
      read_file(dir_ / "adapter/adapter_config.json"),
      AllOf(HasSubstr("\"base_model_name_or_path\": \"" + std::string(kDemo)), HasSubstr("\"r\": 4")));
  // Attached or merged, it is the same model, and another than before.
  const auto loss = [&](std::vector<std::string> model) {
    std::vector<std::string> command{GPT_EVALUATE, "perplexity", "--file", dir_ / "corpus.txt", "--json"};
    command.insert(command.end(), model.begin(), model.end());
    const ProcessResult evaluated = Process(command).wait();
    EXPECT_EQ(evaluated.status, 0) << evaluated.err;
    return parse_json(evaluated.out).at("perplexity").get<double>();
  };
  ASSERT_EQ(
      Process({GPT_CONVERT, "--model", kDemo, "--adapter", dir_ / "adapter", "--output", dir_ / "merged"})
          .wait()
          .status,
      0);
  const double attached = loss({"--model", kDemo, "--adapter", dir_ / "adapter"});
  EXPECT_NEAR(attached, loss({"--model", dir_ / "merged"}), 1e-3 * attached);
  EXPECT_GT(std::abs(attached - loss({"--model", kDemo})), 0.01 * attached);
  fs::remove_all(dir_ / "adapter/checkpoint-2");
  expect_failure(1, command(with), "holds adapter_config.json, and no run to resume");
  std::vector<std::string> useless = how;
  useless.insert(useless.end(), {"--lora-r", "4"});
  expect_failure(2, command(useless), "--lora-r needs --use-peft");
}

TEST_F(FinetuneProgram, LearnsFromPreferencesAndFromATeacher) {
  std::string lines;
  for (int i = 0; i < 12; ++i)
    lines +=
        concat("{\"prompt\": \"ROMEO ", i, ":\", \"chosen\": \" good night\", \"rejected\": \" be gone\"}\n");
  write_file(dir_ / "pairs.jsonl", lines);
  const auto learn = [&](std::vector<std::string> more) {
    std::vector<std::string> all{"--model",     kDemo,  "--max-steps",  "4",  "--learning-rate", "1e-3",
                                 "--report-to", "none", "--block-size", "32", "--json"};
    all.insert(all.end(), more.begin(), more.end());
    return run(all);
  };
  for (const char* loss : {"sigmoid", "simpo"}) {
    const ProcessResult result = learn({"--loss-type", loss, "--train-file", dir_ / "pairs.jsonl",
                                        "--validation-fraction", "0.3", "--output-dir", dir_ / loss});
    ASSERT_EQ(result.status, 0) << result.err;
    if (loss == std::string("sigmoid")) {
      EXPECT_LT(parse_json(result.out).at("best_eval_loss"), 0.69);
    }
    EXPECT_THAT(result.err, HasSubstr("rewards/accuracies"));
  }
  const ProcessResult taught =
      run({"--config", dir_ / "config.json", "--tokenizer", kDemo, "--teacher-model", kDemo,
           "--distillation-alpha", "0.9", "--train-file", dir_ / "corpus.txt", "--max-steps", "2",
           "--report-to", "none", "--output-dir", dir_ / "taught"});
  EXPECT_EQ(taught.status, 0) << taught.err;
  const auto refused = [&](std::vector<std::string> more, const std::string& message) {
    std::vector<std::string> all{"--model",      kDemo,      "--train-file", dir_ / "pairs.jsonl",
                                 "--output-dir", dir_ / "no"};
    all.insert(all.end(), more.begin(), more.end());
    expect_failure(2, command(all), message);
  };
  refused({"--loss-type", "hinge"}, "none of sigmoid, simpo");
  refused({"--beta", "1"}, "--beta needs --loss-type");
  refused({"--loss-type", "sigmoid", "--simpo-gamma", "1"}, "--simpo-gamma needs --loss-type simpo");
  refused({"--loss-type", "sigmoid", "--beta", "0"}, "beta is 0");
  refused({"--loss-type", "sigmoid", "--chat-template", "plain"}, "not for preferences");
  refused({"--teacher-model", kDemo, "--distillation-alpha", "2"},
          "error: --distillation-alpha is 2, expected 0 to 1");
  refused({"--teacher-model", kDemo, "--distillation-temperature", "0"},
          "error: --distillation-temperature is 0, expected more than 0");
}

TEST_F(FinetuneProgram, RefusesARankThatNoMatrixHas) {
  write_file(dir_ / "corpus.txt", std::string(4000, 'a'));
  for (const char* rank : {"100000", "9223372036854775807"})
    expect_failure(1,
                   command({"--model", kDemo, "--use-peft", "--lora-r", rank, "--train-file",
                            dir_ / "corpus.txt", "--max-steps", "1", "--output-dir", dir_ / "out"}),
                   concat("error: --lora-r is ", rank, ", expected no more than "));
}

TEST_F(FinetuneProgram, SaysHowManySamplesWereTooLong) {
  std::string lines;
  for (int i = 0; i < 6; ++i)
    lines += concat("{\"prompt\": \"", i == 0 ? std::string(400, 'x') : "a", "\", \"completion\": \" b\"}\n");
  write_file(dir_ / "corpus.jsonl", lines);
  std::vector<std::string> with_samples = options("out", {"--max-steps", "1", "--report-to", "none"});
  *std::find(with_samples.begin(), with_samples.end(), (dir_ / "corpus.txt").string()) =
      dir_ / "corpus.jsonl";
  const ProcessResult result = run(with_samples);
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("corpus.jsonl: 1 of 6 samples left out: longer than 33 tokens"));
}

TEST_F(FinetuneProgram, ReportsOnOnePage) {
  ASSERT_EQ(run(options("out", {"--validation-fraction", "0.2", "--max-steps", "3", "--sample-prompt",
                                "Speak <b>", "--sample-prompt", "[FIRST,ALL]", "--sample-tokens", "5"}))
                .status,
            0);
  const std::string page = read_file(dir_ / "out/report.html");
  EXPECT_THAT(page,
              AllOf(HasSubstr("<h1>A new network on corpus.txt</h1>"), HasSubstr("Finished after 3 updates."),
                    HasSubstr("<pre>\nSpeak &lt;b&gt;</pre>"), HasSubstr("<pre>\n[FIRST,ALL]</pre>")));
  EXPECT_THAT(page,
              AllOf(HasSubstr("Before training"), HasSubstr("After training"), HasSubstr("Learned tokens"),
                    HasSubstr("<dt>learning_rate</dt><dd>0.01</dd>"),
                    HasSubstr("<dt>block_size</dt><dd>32</dd>"), HasSubstr("<dt>n_embd</dt><dd>16</dd>")));
  // Samples from the data, where a .jsonl file says what is asked.
  write_file(dir_ / "questions.jsonl", R"({"prompt": "Who speaks?", "completion": " The first citizen."})"
                                       "\nno sample\n");
  const std::vector<std::string> on_questions{"--config",
                                              dir_ / "config.json",
                                              "--tokenizer",
                                              kDemo,
                                              "--train-file",
                                              dir_ / "questions.jsonl",
                                              "--skip-bad-lines",
                                              "--output-dir",
                                              dir_ / "answers",
                                              "--max-steps",
                                              "1",
                                              "--resume"};
  ASSERT_EQ(run(on_questions).status, 0);
  EXPECT_THAT(read_file(dir_ / "answers/report.html"),
              AllOf(HasSubstr("<pre>\nWho speaks?</pre>"),
                    HasSubstr("<dt>Lines that are no samples, left out</dt><dd>1</dd>")));
  // Which are kept, with what was wrong.
  const fs::path cache = fs::directory_iterator(dir_ / "answers/cache")->path();
  EXPECT_EQ(cache.extension(), ".samples");
  const auto made = fs::last_write_time(cache);
  write_file(cache.parent_path() / ".q.samples.tmp-1-0", "of a run that was killed");
  const ProcessResult again = run(on_questions);
  EXPECT_EQ(again.status, 0);
  EXPECT_THAT(again.err, AllOf(HasSubstr("nothing was left to do"), HasSubstr("1 of 2 lines left out"),
                               HasSubstr("questions.jsonl:2] is not valid JSON")));
  EXPECT_EQ(fs::last_write_time(cache), made);
  EXPECT_FALSE(fs::exists(cache.parent_path() / ".q.samples.tmp-1-0"));
}

TEST_F(FinetuneProgram, WritesNoMoreThanIsAskedFor) {
  ASSERT_EQ(run(options("none", {"--max-steps", "1", "--report-to", "none"})).status, 0);
  EXPECT_TRUE(fs::exists(dir_ / "none/metrics.jsonl"));
  EXPECT_FALSE(fs::exists(dir_ / "none/report.html"));
  EXPECT_FALSE(fs::exists(dir_ / "none/runs"));
  ASSERT_EQ(run(options("board",
                        {"--max-steps", "1", "--report-to", "tensorboard", "--logging-dir", dir_ / "logs"}))
                .status,
            0);
  EXPECT_FALSE(fs::exists(dir_ / "board/report.html"));
  EXPECT_FALSE(fs::exists(dir_ / "board/runs"));
  EXPECT_FALSE(fs::is_empty(dir_ / "logs"));
  ASSERT_EQ(run(options("page", {"--max-steps", "1", "--report-to", "html", "--sample-tokens", "0"})).status,
            0);
  EXPECT_FALSE(fs::exists(dir_ / "page/runs"));
  EXPECT_THAT(read_file(dir_ / "page/report.html"), Not(HasSubstr("Before training")));
}

TEST_F(FinetuneProgram, EndsWithTheSameWeightsWhateverItRecords) {
  ASSERT_EQ(run(options("all", {"--max-steps", "3"})).status, 0);
  ASSERT_EQ(run(options("none", {"--max-steps", "3", "--report-to", "none"})).status, 0);
  EXPECT_EQ(read_file(dir_ / "all/model.safetensors"), read_file(dir_ / "none/model.safetensors"));
}

TEST_F(FinetuneProgram, NamesARecordThatCannotBeWritten) {
  fs::create_directories(dir_ / "out/metrics.jsonl");
  expect_failure(1, command(options("out", {"--max-steps", "1"})), "out/metrics.jsonl] is a directory");
  fs::create_directories(dir_ / "page/report.html");
  const ProcessResult result = run(options("page", {"--max-steps", "1"}));
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("page/report.html] is a directory"));
  EXPECT_EQ(Model::load(dir_ / "page").config().n_embd, 16);  // what was learned is there
}

TEST_F(FinetuneProgram, EndsWithTheSameBitsWhenItIsKilledAtAnyMomentAndResumed) {
  const auto command_of = [&](const std::string& output, int threads) {
    return options(
        output, {"--max-steps", "8", "--save-steps", "1", "--save-total-limit", "2", "--validation-fraction",
                 "0.2", "--resume", "--threads", std::to_string(threads)});
  };
  const auto start = std::chrono::steady_clock::now();
  ASSERT_EQ(run(command_of("whole", 1)).status, 0);
  const auto duration = std::chrono::steady_clock::now() - start;
  const std::string whole = read_file(dir_ / "whole/model.safetensors");
  ASSERT_FALSE(whole.empty());
  const auto expect_whole = [&](const std::string& output) {
    EXPECT_EQ(read_file(dir_ / output / "model.safetensors"), whole) << output;
    for (const auto& entry : fs::directory_iterator(dir_ / output))
      EXPECT_FALSE(entry.path().filename().string().starts_with(".checkpoint-")) << entry.path();
  };
  // Moments from the start of a process to the end of a run; a run that came to its end makes room for another one.
  std::mt19937 random(20);
  int runs = 0;
  for (int kills = 0; kills < 20;) {
    const std::string output = concat("killed-", runs);
    Process process(command(command_of(output, 1 + kills % 2)));
    std::this_thread::sleep_for(duration * (random() % 1000) / 1000);
    process.send(SIGKILL);
    const ProcessResult result = process.wait();
    if (result.status == 0) {
      expect_whole(output);
      ++runs;
      continue;
    }
    ASSERT_EQ(result.status, 128 + SIGKILL) << result.err;
    ++kills;
  }
  const ProcessResult last = run(command_of(concat("killed-", runs), 2));
  ASSERT_EQ(last.status, 0) << last.err;
  expect_whole(concat("killed-", runs));
}

TEST_F(FinetuneProgram, SavesACheckpointWhenInterrupted) {
  Process process(command(options("out", {"--num-train-epochs", "100000"})));
  wait_for_records();
  process.send(SIGINT);
  const ProcessResult result = process.wait();
  EXPECT_EQ(result.status, 130);
  EXPECT_THAT(result.err, AllOf(HasSubstr("interrupted: "), HasSubstr("is where --resume goes on")));
  std::vector<std::string> saved;
  for (const auto& entry : fs::directory_iterator(dir_ / "out"))
    if (const std::string name = entry.path().filename(); name.starts_with("checkpoint-"))
      saved.push_back(name);
  ASSERT_EQ(saved.size(), 1u);
  EXPECT_THAT(read_file(dir_ / "out/report.html"),
              AllOf(HasSubstr(concat("Interrupted: ", saved[0], " is where it can be resumed.")),
                    HasSubstr("Before training"), Not(HasSubstr("After training"))));
}

TEST_F(FinetuneProgram, LeavesARunAloneThatIsAtWorkInTheDirectory) {
  Process process(command(options("out", {"--num-train-epochs", "100000", "--save-steps", "0"})));
  wait_for_records();
  expect_failure(1, command(options("out", {"--max-steps", "1"})), "out] is in use by another run");
  expect_failure(1, command(options("out", {"--max-steps", "1", "--resume"})),
                 "out] is in use by another run");
  EXPECT_TRUE(read_file(dir_ / "out/metrics.jsonl").starts_with("{\"step\": 1, \"total_steps\": 1100000"));
  process.send(SIGKILL);
  process.wait();
  EXPECT_TRUE(fs::exists(dir_ / "out/.lock"));
  const ProcessResult next = run(options("out", {"--max-steps", "1"}));
  EXPECT_EQ(next.status, 0) << next.err;
  EXPECT_FALSE(fs::exists(dir_ / "out/.lock"));
}

TEST_F(FinetuneProgram, NeitherReadsNorWritesInADirectoryThatIsInUse) {
  const DirectoryLock lock(dir_ / "busy");
  write_file(dir_ / "busy/model.safetensors", "of the run that is at work");
  expect_failure(1, command(options("busy", {"--ewc-file", dir_ / "corpus.txt"})),
                 "busy] is in use by another run");
  EXPECT_FALSE(fs::exists(dir_ / "busy/cache"));
}

TEST_F(FinetuneProgram, LeavesNothingBehindWhenAFileIsMissing) {
  for (const char* option : {"--validation-file", "--replay-file", "--ewc-file"})
    expect_failure(1, command(options("new", {option, dir_ / "missing.txt"})), "missing.txt] cannot open");
  std::vector<std::string> arguments = options("new");
  arguments[3] = dir_ / "missing";  // the tokenizer
  expect_failure(1, command(arguments), "missing");
  EXPECT_FALSE(fs::exists(dir_ / "new"));
}

TEST_F(FinetuneProgram, ReportsHowTheLossGotLost) {
  const ProcessResult result = run({"--config", dir_ / "config.json", "--tokenizer", kDemo, "--train-file",
                                    dir_ / "corpus.txt", "--output-dir", dir_ / "out", "--block-size", "32",
                                    "--learning-rate", "1e36", "--logging-steps", "1"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("error: [trainer] the "));
  EXPECT_THAT(read_file(dir_ / "out/report.html"),
              AllOf(HasSubstr("Failed: [trainer] the "), HasSubstr("Loss, nats")));
}

TEST_F(FinetuneProgram, ReportsTheWholeRunAfterItWasResumed) {
  const std::vector<std::string> more{"--num-train-epochs", "2", "--save-steps", "3", "--resume"};
  Process process(command(options("out", more)));
  while (!fs::exists(dir_ / "out/checkpoint-3")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  process.send(SIGKILL);
  process.wait();
  const ProcessResult result = run(options("out", more));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, Not(HasSubstr("begins anew")));
  std::int64_t step = 0;
  std::ifstream metrics(dir_ / "out/metrics.jsonl");
  for (std::string line; std::getline(metrics, line);) EXPECT_EQ(parse_json(line).at("step"), ++step);
  EXPECT_GT(step, 3);
  const std::string page = read_file(dir_ / "out/report.html");
  EXPECT_THAT(page, HasSubstr("<title>step 1\ntraining "));
  EXPECT_THAT(page, HasSubstr(concat("<title>step ", step, "\ntraining ")));
}

TEST_F(FinetuneProgram, SavesTheResultInTheTypeThatIsAskedFor) {
  ASSERT_EQ(run(options("out", {"--max-steps", "2", "--save-dtype", "bfloat16"})).status, 0);
  const Model whole = Model::load(dir_ / "out/checkpoint-2"), result = Model::load(dir_ / "out");
  std::vector<Tensor> expected;
  whole.network().visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    EXPECT_EQ(tensor.dtype(), DType::f32) << name;  // for --resume
    expected.push_back(tensor.to(DType::bf16));
  });
  std::size_t i = 0;
  result.network().visit([&](const std::string& name, const Tensor& tensor, const Shape&) {
    EXPECT_TRUE(same_bits(tensor, expected[i++])) << name;
  });
  EXPECT_EQ(HfConfig::load(dir_ / "out/config.json").get_string("torch_dtype"), "bfloat16");
  EXPECT_THAT(read_file(dir_ / "out/report.html"), HasSubstr("<dt>save_dtype</dt><dd>bfloat16</dd>"));
}

TEST_F(FinetuneProgram, ComputesInBfloat16) {
  ASSERT_EQ(run(options("out", {"--max-steps", "2", "--bf16", "--save-dtype", "bf16"})).status, 0);
  // What it computed with is what the checkpoint has beside the rest.
  EXPECT_TRUE(read_file(dir_ / "out/model.safetensors") ==
              read_file(dir_ / "out/checkpoint-2/model.safetensors"));
  EXPECT_EQ(HfConfig::load(dir_ / "out/checkpoint-2/config.json").get_string("torch_dtype"), "bfloat16");
  EXPECT_THAT(read_file(dir_ / "out/report.html"), HasSubstr("<dt>bf16</dt><dd>true</dd>"));
  expect_failure(
      1, command(options("out", {"--max-steps", "2", "--resume"})),
      concat("bf16 is none, but the run in ", (dir_ / "out/checkpoint-2").string(), " was made with 1"));
}

TEST_F(FinetuneProgram, SaysThatThereIsNothingToResume) {
  const ProcessResult result = run(options("out", {"--max-steps", "1", "--resume"}));
  EXPECT_EQ(result.status, 0);
  EXPECT_THAT(result.err,
              StartsWith(concat((dir_ / "out").string(), " holds no checkpoint: the run begins anew\n")));
}

TEST_F(FinetuneProgram, TakesAnotherTokenizerForACheckpoint) {
  ASSERT_EQ(run(options("first", {"--max-steps", "1"})).status, 0);
  const ProcessResult result =
      run({"--model", dir_ / "first", "--tokenizer", kDemo, "--train-file", dir_ / "corpus.txt",
           "--output-dir", dir_ / "second", "--max-steps", "1", "--block-size", "32"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(Model::load(dir_ / "second").config().n_embd, 16);
}

TEST_F(FinetuneProgram, TakesTheSpecialTokensOfATokenizerThatIsNamed) {
  HfConfig config = HfConfig::load(dir_ / "config.json");
  config.set_int("eos_token_id", 50256);
  config.set_int("bos_token_id", 7);
  config.save(dir_ / "config.json");
  ProcessResult result = run(options("new", {"--max-steps", "1", "--report-to", "none"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err,
              HasSubstr("warning: eos_token_id changes from 50256 to 2047: the tokenizer's is 2047\n"
                        "warning: bos_token_id changes from 7 to 2047: the tokenizer's is 2047\n"));
  for (const char* saved : {"new", "new/checkpoint-1"}) {
    const Model model = Model::load(dir_ / saved);
    EXPECT_EQ(model.config().eos_token_id, std::vector<TokenId>{2047}) << saved;
    EXPECT_EQ(model.config().bos_token_id, 2047) << saved;
  }

  // A model's own tokenizer stays as its maker set it.
  write_file(dir_ / "new/generation_config.json", R"({"eos_token_id": 9})");
  std::vector<std::string> arguments{"--model",      dir_ / "new", "--train-file", dir_ / "corpus.txt",
                                     "--max-steps",  "1",          "--report-to",  "none",
                                     "--block-size", "32",         "--output-dir", dir_ / "own"};
  result = run(arguments);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, Not(HasSubstr("warning")));
  EXPECT_EQ(Model::load(dir_ / "own").generation_config()->get_int("eos_token_id"), 9);
  arguments.back() = dir_ / "named";
  arguments.insert(arguments.end(), {"--tokenizer", kDemo});
  result = run(arguments);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("warning: generation_config.json: eos_token_id changes from 9 to 2047"));
  EXPECT_EQ(Model::load(dir_ / "named").generation_config()->get_int("eos_token_id"), 2047);
}

TEST_F(FinetuneProgram, ReplacesNoFileThatIsNotItsOwn) {
  fs::create_directory(dir_ / "data");
  fs::copy_file(dir_ / "corpus.txt", dir_ / "data/metrics.jsonl");
  fs::create_hard_link(dir_ / "data/metrics.jsonl", dir_ / "data/learned.txt");
  std::vector<std::string> own = options("data", {"--max-steps", "1"});
  *(std::ranges::find(own, "--train-file") + 1) = (dir_ / "data/learned.txt").string();
  expect_failure(1, command(own), "data/metrics.jsonl would be replaced, which is read (");
  fs::create_directory(dir_ / "used");
  // What saving a model replaces or removes.
  for (const std::string name : {"vocab.json", "vocab.txt", "spiece.model", "added_tokens.json",
                                 "special_tokens_map.json", "generation_config.json"}) {
    write_file(dir_ / "used" / name, "{}");
    expect_failure(1, command(options("used", {"--max-steps", "1"})),
                   "used] holds " + name + ", and no run to resume");
    EXPECT_EQ(read_file(dir_ / "used" / name), "{}");
    fs::remove(dir_ / "used" / name);
  }
  EXPECT_EQ(read_file(dir_ / "data/metrics.jsonl"), read_file(dir_ / "corpus.txt"));
}

TEST_F(FinetuneProgram, RefusesOptionsThatGoTogetherNowhere) {
  const auto refuses = [&](std::vector<std::string> more, const char* message) {
    expect_failure(2, command(options("out", std::move(more))), message);
  };
  refuses({"--max-tokens-per-batch", "64"},
          "--max-tokens-per-batch and --per-device-train-batch-size are both given");
  refuses({"--warmup-steps", "1", "--warmup-ratio", "0.5"},
          "--warmup-steps and --warmup-ratio are both given");
  refuses({"--per-device-eval-batch-size", "2"}, "--per-device-eval-batch-size needs --validation-file");
  refuses({"--sample-tokens", "5", "--report-to", "none"}, "--sample-tokens is for the report");
  refuses({"--lr-scheduler-type", "warmup_stable_decay"}, "warmup_stable_decay needs --num-decay-steps");
  refuses({"--use-peft"}, "--use-peft needs --model");
}

TEST_F(FinetuneProgram, NamesWhatIsWrong) {
  const std::string out = dir_ / "out", corpus = dir_ / "corpus.txt";
  expect_failure(2, command({"--model", kDemo, "--output-dir", out}), "--train-file is required");
  expect_failure(2, command({"--train-file", corpus, "--output-dir", out}),
                 "neither --model nor --config is given");
  expect_failure(
      2, command(options("out", {"--lr-scheduler-type", "polynomial"})),
      "--lr-scheduler-type: \"polynomial\" is unknown, expected constant, constant_with_warmup, linear, "
      "cosine, cosine_with_min_lr or warmup_stable_decay");
  expect_failure(2, command(options("out", {"--early-stopping-patience", "2"})),
                 "error: --early-stopping-patience needs --validation-file");
  write_file(dir_ / "wide.txt",
             "\xFF\xFE"
             "a");
  expect_failure(1, command({"--model", kDemo, "--train-file", dir_ / "wide.txt", "--output-dir", out}),
                 "wide.txt] begins as text in UTF-16 does");
  expect_failure(2, command(options("out", {"--report-to", "wandb"})),
                 "--report-to: \"wandb\" is unknown, expected all, tensorboard, html or none");
  expect_failure(2, command(options("out", {"--save-dtype", "int8"})),
                 "--save-dtype: \"int8\" is none of float32, bfloat16, float16");
  expect_failure(2, command(options("out", {"--sample-prompt", ""})), "--sample-prompt is empty");
  for (const std::vector<std::string>& of_samples :
       {std::vector<std::string>{"--chat-template", "chatml"}, {"--skip-bad-lines"}})
    expect_failure(2, command(options("out", of_samples)),
                   of_samples.front() + " needs a file named *.jsonl, found " + corpus);
  expect_failure(2, command(options("out", {"--gradient-accumulation-steps", "2", "--max-grad-norm", "-1"})),
                 "error: --max-grad-norm is -1, expected 0 or more");
  expect_failure(2, command(options("out", {"--resid-pdrop", "1.5"})), "error: --resid-pdrop is 1.5");
  expect_failure(2, command(options("out", {"--logging-dir", "x", "--report-to", "html"})),
                 "error: --logging-dir is for TensorBoard, which --report-to html leaves out");
  expect_failure(2, command(options("out", {"--sample-prompt", "x", "--report-to", "none"})),
                 "error: --sample-prompt is for the report, which --report-to none leaves out");
  expect_failure(2, command(options("out", {"--validation-file", "x.ndjson"})),
                 "error: --validation-file: x.ndjson is no text by its name, expected *.jsonl");
  expect_failure(2, command(options("out", {"--validation-fraction", "1"})),
                 "--validation-fraction: 1 is not between 0 and 1");
  expect_failure(
      1, command({"--model", kDemo, "--train-file", corpus, "--output-dir", out, "--block-size", "100000"}),
      "--block-size: 100000 is more than n_positions");
  expect_failure(1, command({"--model", kDemo, "--train-file", dir_ / "nothing.txt", "--output-dir", out}),
                 "nothing.txt");
  write_file(dir_ / "bad.jsonl", "{\"text\": \"well enough\"}\n{\"text\": 3}\n");
  expect_failure(1, command({"--model", kDemo, "--train-file", dir_ / "bad.jsonl", "--output-dir", out}),
                 "bad.jsonl:2");
  ASSERT_EQ(run(options("used", {"--max-steps", "1"})).status, 0);
  expect_failure(1, command(options("used", {"--max-steps", "1"})), "holds another run (checkpoint-1)");
  expect_failure(1, command(options("used", {"--max-steps", "2", "--resume"})), "total_steps is 2, but ");
}

}  // namespace
}  // namespace gpt::test::finetune_program
