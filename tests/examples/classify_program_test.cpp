// gpt-classify as its user meets it: files, output, exit status and messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace gpt::test::classify_program {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

std::vector<std::string> command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), GPT_CLASSIFY);
  return arguments;
}
ProcessResult run(std::vector<std::string> arguments) {
  return Process(command(std::move(arguments))).wait();
}

/// Texts that their first words tell apart; some rows are of no use.
std::string rows(int count, bool bad_ones = false) {
  const char* good[] = {"a fine, fair day", "sweet music", "my gentle friend"};
  const char* bad[] = {"a foul, dark night", "bitter poison", "my cruel foe"};
  std::string text = "\xEF\xBB\xBFid,review,stars\r\n";
  for (int i = 0; i < count; ++i)
    text += concat(i, ",\"", i % 2 == 0 ? good[i / 2 % 3] : bad[i / 2 % 3], " ", i, "\",",
                   i % 2 == 0 ? "good" : "bad", "\r\n");
  if (bad_ones) text += "x,no label,\r\ny\r\n";
  return text;
}

/// A classifier trained by the program, once for all tests.
class ClassifyProgram : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new TempDir;
    write_file(*directory_ / "train.csv", rows(60, true));
    write_file(*directory_ / "test.csv", rows(20));
    trained_ = new ProcessResult(train({"--output-dir", *directory_ / "out", "--json"}));
  }
  static void TearDownTestSuite() {
    delete trained_;
    delete directory_;
  }
  /// The arguments of a training on such rows.
  static std::vector<std::string> learning(const std::string& model, const std::string& train_file,
                                           const std::vector<std::string>& more) {
    std::vector<std::string> all{"train",    "--model",       model,    "--train-file",
                                 train_file, "--text-column", "review", "--label-column",
                                 "stars",    "--max-length",  "12"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static ProcessResult train(const std::vector<std::string>& more) {
    std::vector<std::string> all =
        learning(kDemo, file("train.csv"), {"--num-train-epochs", "3", "--threads", "2"});
    all.insert(all.end(), more.begin(), more.end());
    return run(std::move(all));
  }
  static fs::path file(const std::string& name) { return *directory_ / name; }
  static std::string out() { return *directory_ / "out"; }

  static TempDir* directory_;
  static ProcessResult* trained_;
};
TempDir* ClassifyProgram::directory_ = nullptr;
ProcessResult* ClassifyProgram::trained_ = nullptr;

TEST_F(ClassifyProgram, TrainsAClassifierThatTransformersReads) {
  ASSERT_EQ(trained_->status, 0) << trained_->err;
  const Json object = parse_json(trained_->out);
  EXPECT_GT(object.at("accuracy").get<double>(), 0.8);
  EXPECT_GT(object.at("global_step"), 0);
  EXPECT_THAT(trained_->err, HasSubstr("2 of 62 rows left out; the first: "));
  EXPECT_THAT(trained_->err, HasSubstr("train.csv:62] the label in column stars is empty"));
  EXPECT_THAT(trained_->err, HasSubstr("54 texts to learn from, 6 to validate on, 2 labels"));
  EXPECT_THAT(trained_->err, HasSubstr("eval_loss"));

  const HfConfig config = HfConfig::load(file("out/config.json"));
  EXPECT_THAT(*config.get_string_list("architectures"), ElementsAreArray({"GPT2ForSequenceClassification"}));
  EXPECT_EQ(config.get_string_map("id2label")->at(1).second, "good");
  EXPECT_EQ(config.get_int("pad_token_id"), 2047);
  for (const char* name : {"model.safetensors", "vocab.json", "report.html", "report.json", "metrics.jsonl"})
    EXPECT_TRUE(fs::exists(file("out") / name)) << name;
  EXPECT_FALSE(fs::exists(file("out/run")));
  EXPECT_THAT(read_file(file("out/report.html")), HasSubstr("Logistic regression on words"));
}

TEST_F(ClassifyProgram, EvaluatesBesideSimplerWays) {
  const ProcessResult result = run({"evaluate", "--model", out(), "--test-file", file("test.csv"),
                                    "--text-column", "review", "--label-column", "stars", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json object = parse_json(result.out);
  EXPECT_EQ(object.at("count"), 20);
  EXPECT_GT(object.at("accuracy").get<double>(), 0.8);
  EXPECT_EQ(object.at("labels"), Json::array({"bad", "good"}));
  EXPECT_EQ(object.at("per_class").at("good").at("support"), 10);
  for (const char* key : {"macro_f1", "weighted_f1", "roc_auc", "log_loss", "calibration_error"})
    EXPECT_TRUE(object.at(key).is_number()) << key;
  EXPECT_EQ(object.at("baselines").at("majority_class").at("accuracy"), 0.5);
  EXPECT_GT(object.at("baselines").at("bag_of_words").at("accuracy").get<double>(), 0.8);

  // What the library says of the same rows.
  const Classifier classifier = Classifier::load(out());
  const LabelledRows all =
      read_labelled_rows(file("test.csv"), {.text_column = "review", .label_column = "stars"});
  std::int64_t right = 0;
  for (const LabelledRow& row : all.rows) {
    const std::vector<TokenId> ids = classifier.encode(row.text, 12);
    const Tensor logits = classifier.logits({&ids, 1});
    right +=
        classifier.labels()[logits.data<float>()[1] > logits.data<float>()[0] ? 1 : 0] == row.labels.front();
  }
  EXPECT_EQ(object.at("baselines").at("network_alone").at("accuracy"), static_cast<double>(right) / 20);

  const ProcessResult text =
      run({"evaluate", "--model", out(), "--test-file", file("test.csv"), "--text-column", "review",
           "--label-column", "stars", "--report", file("page.html")});
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_THAT(text.err, HasSubstr("majority_class"));
  EXPECT_THAT(read_file(file("page.html")), HasSubstr("Confusion matrix"));
}

TEST_F(ClassifyProgram, PredictsALineForEachText) {
  const ProcessResult result = run({"predict", "--model", out(), "--text", "sweet music 3", "--file",
                                    file("test.csv"), "--text-column", "review"});
  ASSERT_EQ(result.status, 0) << result.err;
  std::istringstream lines(result.out);
  std::string line;
  std::getline(lines, line);
  const Json first = parse_json(line);
  EXPECT_EQ(first.at("text"), "sweet music 3");
  const Json& p = first.at("probabilities");
  EXPECT_EQ(first.at("label"), p.at("good").get<double>() > p.at("bad").get<double>() ? "good" : "bad");
  EXPECT_NEAR(
      first.at("probabilities").at("good").get<double>() + first.at("probabilities").at("bad").get<double>(),
      1, 1e-12);
  int count = 0;
  for (; std::getline(lines, line); ++count) EXPECT_EQ(parse_json(line).at("line"), count + 2);
  EXPECT_EQ(count, 20);
}

TEST_F(ClassifyProgram, LosesNoProbabilityWhereTwoLabelsHaveOneName) {
  fs::copy(out(), file("same"));
  HfConfig config = HfConfig::load(file("same/config.json"));
  config.set_string_map("id2label", {{"0", "x"}, {"1", "x"}});
  config.save(file("same/config.json"));
  const ProcessResult predicted = run({"predict", "--model", file("same"), "--text", "sweet music 3"});
  ASSERT_EQ(predicted.status, 0) << predicted.err;
  const Json object = parse_json(predicted.out);
  EXPECT_EQ(object.at("label"), "x");
  EXPECT_NEAR(object.at("probabilities").at("x (0)").get<double>() +
                  object.at("probabilities").at("x (1)").get<double>(),
              1, 1e-12);
}

TEST_F(ClassifyProgram, RefusesNullWhereItHasWrittenANumber) {
  fs::copy(out(), file("null"));
  const HfConfig written = HfConfig::load(file("null/classification.json"));
  for (const char* key : {"temperature", "words_weight", "max_length", "majority_label"}) {
    HfConfig settings = written;
    settings.set_null(key);
    settings.save(file("null/classification.json"));
    expect_failure(1, command({"predict", "--model", file("null"), "--text", "sweet"}),
                   concat("classification.json] ", key, " is null, expected "));
  }
}

TEST_F(ClassifyProgram, AnswersTogetherWithTheWords) {
  const HfConfig settings = HfConfig::load(file("out/classification.json"));
  const Blend blend{*settings.get_float("temperature"), *settings.get_float("words_weight")};
  EXPECT_GT(blend.weight, 0);
  const std::string text = "sweet music 3";
  const Classifier classifier = Classifier::load(out());
  const std::vector<TokenId> ids = classifier.encode(text, 12);
  const std::vector<double> p =
      blended(classifier.logits({&ids, 1}).span<float>(),
              BagOfWords::load(file("out/bag_of_words.safetensors")).probabilities(text), blend);
  const ProcessResult together = run({"predict", "--model", out(), "--text", text});
  ASSERT_EQ(together.status, 0) << together.err;
  EXPECT_NEAR(parse_json(together.out).at("probabilities").at("good").get<double>(), p[1], 1e-12);

  const ProcessResult alone =
      train({"--output-dir", file("alone"), "--method", "head", "--no-words", "--json"});
  ASSERT_EQ(alone.status, 0) << alone.err;
  EXPECT_EQ(parse_json(alone.out).at("words_weight"), 0.0);
  EXPECT_FALSE(parse_json(alone.out).at("baselines").contains("network_alone"));
  // What a blend needs is asked for.
  fs::remove(file("alone/bag_of_words.safetensors"));
  EXPECT_EQ(run({"predict", "--model", file("alone"), "--text", text}).status, 0);
  fs::copy_file(file("out/classification.json"), file("alone/classification.json"),
                fs::copy_options::overwrite_existing);
  expect_failure(1, command({"predict", "--model", file("alone"), "--text", text}),
                 "has no bag_of_words.safetensors");
}

TEST_F(ClassifyProgram, SaysTogetherWithItselfWhatItSaysAlone) {
  const std::vector<std::string> predict{"predict",        "--model",       out(),   "--file",
                                         file("test.csv"), "--text-column", "review"};
  std::vector<std::string> both = predict;
  both.insert(both.end(), {"--ensemble", out()});
  const ProcessResult alone = run(predict), together = run(both);
  ASSERT_EQ(together.status, 0) << together.err;
  EXPECT_EQ(together.out, alone.out);  // p / 2 + p / 2 is p

  const auto scores = [&](std::vector<std::string> more) {
    std::vector<std::string> all{"evaluate",       "--model",       out(),    "--test-file",
                                 file("test.csv"), "--text-column", "review", "--label-column",
                                 "stars",          "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const ProcessResult result = run(std::move(all));
    EXPECT_EQ(result.status, 0) << result.err;
    Json object = parse_json(result.out);
    for (const char* key : {"evaluate_s", "peak_rss_bytes"}) object.erase(key);
    return object;
  };
  const Json one = scores({});
  EXPECT_TRUE(one.at("baselines").contains("bag_of_words"));
  EXPECT_EQ(scores({"--ensemble", out()}), one);
}

TEST_F(ClassifyProgram, KeepsTheAdapterBesideTheWholeOfIt) {
  const ProcessResult result =
      train({"--output-dir", file("lora"), "--method", "lora", "--lora-r", "2", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const SafetensorsFile adapter(file("lora/adapter/adapter_model.safetensors"));
  EXPECT_TRUE(adapter.contains("base_model.model.score.weight"));
  EXPECT_EQ(adapter.info("base_model.model.transformer.h.5.attn.c_attn.lora_A.weight").shape,
            (Shape{2, 192}));
  Classifier attached(Model::load(kDemo), {"bad", "good"});
  attach_adapter(attached, file("lora/adapter"));
  const Classifier merged = Classifier::load(file("lora"));
  const std::vector<TokenId> ids = merged.encode("sweet music");
  const Tensor a = attached.logits({&ids, 1}), b = merged.logits({&ids, 1});
  for (int i = 0; i < 2; ++i) EXPECT_NEAR(a.data<float>()[i], b.data<float>()[i], 1e-4);
}

TEST_F(ClassifyProgram, MergesOtherAdaptersToo) {
  const std::vector<TokenId> ids = Classifier(Model::load(kDemo), {"bad", "good"}).encode("sweet music");
  for (const std::string method : {"ia3", "bitfit"}) {
    const ProcessResult result = train({"--output-dir", file(method), "--method", method, "--json"});
    ASSERT_EQ(result.status, 0) << result.err;
    Classifier attached(Model::load(kDemo), {"bad", "good"});
    attach_adapter(attached, file(method + "/adapter"));
    const Classifier merged = Classifier::load(file(method));
    const Tensor a = attached.logits({&ids, 1}), b = merged.logits({&ids, 1});
    for (int i = 0; i < 2; ++i) EXPECT_NEAR(a.data<float>()[i], b.data<float>()[i], 1e-4) << method;
    // The head alone, without what was learned in the network.
    attached.model().network().attach(nullptr);
    EXPECT_NE(attached.logits({&ids, 1}).data<float>()[0], a.data<float>()[0]) << method;
  }
}

TEST_F(ClassifyProgram, GoesOnAfterAnInterruptionToTheSameFiles) {
  const std::string dir = file("interrupted");
  std::vector<std::string> arguments{"train",
                                     "--model",
                                     kDemo,
                                     "--train-file",
                                     file("train.csv"),
                                     "--text-column",
                                     "review",
                                     "--label-column",
                                     "stars",
                                     "--max-length",
                                     "12",
                                     "--num-train-epochs",
                                     "3",
                                     "--threads",
                                     "2",
                                     "--output-dir",
                                     dir,
                                     "--logging-steps",
                                     "1"};
  Process first(command(arguments));
  ASSERT_TRUE(first.await_error("step 2/")) << first.errors();
  first.send(SIGINT);
  const ProcessResult stopped = first.wait();
  ASSERT_EQ(stopped.status, 130) << stopped.err;
  EXPECT_THAT(stopped.err, HasSubstr("--resume goes on"));
  arguments.push_back("--resume");
  const ProcessResult second = run(arguments);
  ASSERT_EQ(second.status, 0) << second.err;
  EXPECT_EQ(read_file(fs::path(dir) / "model.safetensors"), read_file(file("out/model.safetensors")));
}

TEST_F(ClassifyProgram, LeavesARunAloneThatIsAtWorkInTheDirectory) {
  const std::string dir = file("shared");
  const std::vector<std::string> arguments{"train",
                                           "--model",
                                           kDemo,
                                           "--train-file",
                                           file("train.csv"),
                                           "--text-column",
                                           "review",
                                           "--label-column",
                                           "stars",
                                           "--max-length",
                                           "12",
                                           "--output-dir",
                                           dir,
                                           "--logging-steps",
                                           "1"};
  Process first(command(arguments));
  ASSERT_TRUE(first.await_error("step 2/")) << first.errors();
  std::vector<std::string> folds = arguments;
  folds.insert(folds.end(), {"--folds", "2"});
  expect_failure(1, command(folds), "shared] is in use by another run");
  first.send(SIGKILL);
  first.wait();
  EXPECT_TRUE(fs::exists(fs::path(dir) / "run/.lock"));
  const ProcessResult next = train({"--output-dir", dir});
  EXPECT_EQ(next.status, 0) << next.err;
  EXPECT_FALSE(fs::exists(fs::path(dir) / ".lock"));
}

TEST_F(ClassifyProgram, CrossValidates) {
  const ProcessResult result =
      train({"--output-dir", file("folds"), "--folds", "2", "--method", "head", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Json folds = parse_json(result.out).at("cross_validation");
  ASSERT_EQ(folds.at("folds").size(), 2u);
  // As users get the answers, and what these are made of: over the parts, and of each.
  const auto mean = [&](const Json& at, auto&& of_part) {
    const double first = of_part(folds.at("folds").at(0)).template get<double>(),
                 second = of_part(folds.at("folds").at(1)).template get<double>();
    EXPECT_NEAR(at.at("mean").get<double>(), (first + second) / 2, 1e-12);
    EXPECT_NEAR(at.at("std").get<double>(), std::abs(first - second) / 2, 1e-12);
  };
  mean(folds.at("accuracy"), [](const Json& part) { return part.at("accuracy"); });
  for (const char* name : {"network_alone", "majority_class", "bag_of_words"})
    for (const char* score : {"accuracy", "macro_f1"})
      mean(folds.at("baselines").at(name).at(score),
           [&](const Json& part) { return part.at("baselines").at(name).at(score); });
  EXPECT_EQ(folds.at("folds").at(0).at("count").get<int>() + folds.at("folds").at(1).at("count").get<int>(),
            60);
  EXPECT_THAT(result.err,
              AllOf(HasSubstr("part 2 of 2: accuracy"), HasSubstr(", network_alone "),
                    HasSubstr("over 2 parts; this model is its network and the bag of words together:")));
  EXPECT_THAT(read_file(file("folds/report.html")), HasSubstr("deviation over 2 parts"));
  EXPECT_FALSE(fs::exists(file("folds/run")));

  // The rows of a validation file are none of the parts.
  const ProcessResult beside = train({"--output-dir", file("beside"), "--folds", "2", "--max-steps", "2",
                                      "--validation-file", file("test.csv"), "--no-words", "--json"});
  ASSERT_EQ(beside.status, 0) << beside.err;
  const Json alone = parse_json(beside.out).at("cross_validation");
  EXPECT_EQ(alone.at("folds").at(0).at("count"), 30);
  EXPECT_FALSE(alone.at("baselines").contains("network_alone"));
  EXPECT_TRUE(alone.at("baselines").contains("bag_of_words"));
}

TEST_F(ClassifyProgram, GoesOnInTheMiddleOfACrossValidation) {
  const auto arguments = [&](const std::string& dir, std::vector<std::string> more) {
    std::vector<std::string> all = learning(kDemo, file("test.csv"),
                                            {"--max-steps", "100", "--method", "head", "--folds", "2",
                                             "--output-dir", file(dir), "--logging-steps", "1", "--json"});
    all.insert(all.end(), more.begin(), more.end());
    return command(std::move(all));
  };
  const auto wait_for = [](Process& process, const std::string& after, const std::string& seen) {
    ASSERT_TRUE(process.await_error(after)) << process.errors();
    ASSERT_TRUE(process.await_error(seen, process.errors().find(after))) << process.errors();
    process.send(SIGINT);
    const ProcessResult stopped = process.wait();
    ASSERT_EQ(stopped.status, 130) << stopped.err;
    EXPECT_THAT(stopped.err, HasSubstr("interrupted: --resume goes on from what"));
  };
  const ProcessResult whole = Process(arguments("whole", {})).wait();
  ASSERT_EQ(whole.status, 0) << whole.err;
  {
    Process process(arguments("divided", {}));
    wait_for(process, "part 1 of 2: accuracy", "step 3/");
  }
  expect_failure(1, arguments("divided", {}), "holds another run");
  expect_failure(1, arguments("divided", {"--resume", "--no-words"}), "words was \"yes\", and is \"no\"");
  {
    Process process(arguments("divided", {"--resume"}));  // and now in the training on all rows
    wait_for(process, "part 2 of 2: accuracy", "step 3/");
    EXPECT_THAT(process.errors(), AllOf(HasSubstr("part 1 of 2, judged before: accuracy"),
                                        HasSubstr("part 2 of 2 goes on from step ")));
  }
  const ProcessResult last = Process(arguments("divided", {"--resume"})).wait();
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_THAT(last.err, HasSubstr("part 2 of 2, judged before: accuracy"));
  EXPECT_EQ(parse_json(last.out).at("cross_validation"), parse_json(whole.out).at("cross_validation"));
  EXPECT_EQ(read_file(file("divided/model.safetensors")), read_file(file("whole/model.safetensors")));
  EXPECT_FALSE(fs::exists(file("divided/run")));
}

TEST_F(ClassifyProgram, LearnsBesideQuantizedMatricesWhatIsNoneOfThem) {
  Model model = Model::load(kDemo);
  quantize(model.network(), {});
  model.save(file("int8"));
  const auto on_int8 = [&](const std::string& method) {
    return learning(file("int8"), file("test.csv"),
                    {"--max-steps", "2", "--output-dir", file("int8-" + method), "--method", method});
  };
  for (const std::string method : {"full", "lora", "ia3"}) {
    expect_failure(1, command(on_int8(method)),
                   concat("int8] matrix ", method == "full" ? "wte.weight" : "h.0.attn.c_attn.weight",
                          " is quantized, which --method ", method, " cannot change"));
    EXPECT_FALSE(fs::exists(file("int8-" + method)));
  }
  for (const std::string method : {"head", "bitfit"}) {
    const ProcessResult result = run(on_int8(method));
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(run({"predict", "--model", file("int8-" + method), "--text", "sweet music"}).status, 0);
  }
}

TEST_F(ClassifyProgram, ChoosesTheEpochsOfEachPartByItsOwnRows) {
  write_file(file("forty.csv"), rows(40));
  const ProcessResult result =
      run({"train", "--model", kDemo, "--train-file", file("forty.csv"), "--text-column", "review",
           "--label-column", "stars", "--max-length", "4", "--per-device-train-batch-size", "1", "--folds",
           "2", "--method", "head", "--output-dir", file("forty")});
  ASSERT_EQ(result.status, 0) << result.err;
  // 500 updates or more, of 18 texts and of 36, in 15 epochs at most.
  EXPECT_THAT(result.err, AllOf(HasSubstr("/270  loss"), HasSubstr("/504  loss")));
}

TEST_F(ClassifyProgram, LearnsSeveralLabelsAndNumbers) {
  std::string labels = "text,label\n", numbers = "text,label\n";
  for (int i = 0; i < 24; ++i) {
    labels += concat(i % 2 == 0 ? "sweet" : "bitter", " ", i, ",", i % 2 == 0 ? "nice" : "",
                     i % 3 == 0 ? ";three" : "", "\n");
    numbers += concat(i % 2 == 0 ? "sweet" : "bitter", " ", i, ",", i % 2 == 0 ? 1.5 : -1.5, "\n");
  }
  write_file(file("labels.csv"), labels);
  write_file(file("numbers.csv"), numbers);
  const auto trained = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> all{
        "train", "--model",      kDemo,      "--train-file", file(name + ".csv"), "--num-train-epochs",
        "2",     "--output-dir", file(name), "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const ProcessResult result = run(std::move(all));
    EXPECT_EQ(result.status, 0) << result.err;
    return parse_json(result.out);
  };
  EXPECT_TRUE(trained("labels", {"--problem-type", "multi_label_classification", "--label-separator", ";"})
                  .at("macro_f1")
                  .is_number());
  EXPECT_TRUE(trained("numbers", {"--problem-type", "regression"}).at("mean_squared_error").is_number());
  const ProcessResult result = run({"predict", "--model", file("numbers"), "--text", "sweet"});
  EXPECT_TRUE(parse_json(result.out).at("values").at("LABEL_0").is_number());

  const ProcessResult trained_aloud =
      run({"train", "--model", kDemo, "--train-file", file("numbers.csv"), "--max-steps", "1",
           "--problem-type", "regression", "--output-dir", file("aloud")});
  ASSERT_EQ(trained_aloud.status, 0) << trained_aloud.err;
  EXPECT_THAT(trained_aloud.err,
              AllOf(HasSubstr(" to validate on, 1 number\n"), HasSubstr("\nglobal_step  1\n"),
                    HasSubstr("\nmean_squared_error  "), Not(HasSubstr("{"))));
  const ProcessResult judged = run(
      {"evaluate", "--model", file("labels"), "--test-file", file("labels.csv"), "--label-separator", ";"});
  ASSERT_EQ(judged.status, 0) << judged.err;
  EXPECT_THAT(judged.err, AllOf(HasSubstr("count  24\n"), HasSubstr("\nmacro_f1  "), Not(HasSubstr("{"))));
  expect_failure(1,
                 command({"evaluate", "--model", file("labels"), "--test-file", file("labels.csv"),
                          "--label-separator", ";", "--report", file("never.html")}),
                 "[--report] is for single_label_classification, and ");
  for (const char* read : {"labels.csv", "labels/config.json", "numbers/config.json"})
    expect_failure(1,
                   command({"evaluate", "--model", file("labels"), "--test-file", file("labels.csv"),
                            "--ensemble", file("numbers"), "--report", file(read)}),
                   concat(read, " would be replaced, which is read"));
}

TEST_F(ClassifyProgram, RanksLabelsWithoutHavingLearnedThem) {
  const ProcessResult result =
      run({"predict", "--model", kDemo, "--zero-shot", "--labels", "light,zebra quiz", "--prompt",
           "{text} what", "--text", "ROMEO:\nBut soft,"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(parse_json(result.out).at("label"), "light");
}

TEST_F(ClassifyProgram, LeavesOutRowsThatHaveNoLabelInTheirList) {
  std::string lines;
  for (int i = 0; i < 20; ++i)
    lines += concat(R"({"text": ")", i % 2 == 0 ? "sweet " : "bitter ", i, R"(", "label": [)",
                    i % 5 == 0   ? ""
                    : i % 2 == 0 ? "\"good\""
                                 : "\"bad\"",
                    "]}\n");
  write_file(file("lists.jsonl"), lines);
  const auto train_on = [&](const std::string& name, const std::string& dir) {
    return run({"train", "--model", kDemo, "--train-file", file(name), "--num-train-epochs", "1",
                "--max-length", "8", "--method", "head", "--validation-fraction", "0.5", "--output-dir",
                file(dir), "--json"});
  };
  const ProcessResult result = train_on("lists.jsonl", "lists");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("lists.jsonl:1] has 0 labels, expected 1"));
  EXPECT_THAT(result.err, HasSubstr("8 texts to learn from, 8 to validate on, 2 labels"));
  write_file(file("none.jsonl"), "{\"text\": \"a\", \"label\": []}\n{\"text\": \"b\", \"label\": []}\n");
  const ProcessResult none = train_on("none.jsonl", "never");
  EXPECT_EQ(none.status, 1) << none.err;
  EXPECT_THAT(none.err, HasSubstr("no row has a label in column label"));
}

TEST_F(ClassifyProgram, KeepsThePartOfTheRowsForValidationThatItIsTold) {
  for (const auto& [fraction, said] : {std::pair("0.7", "18 texts to learn from, 42 to validate on"),
                                       std::pair("0.25", "45 texts to learn from, 15 to validate on")}) {
    const ProcessResult result = train({"--output-dir", file(concat("part", fraction)), "--method", "head",
                                        "--max-steps", "1", "--validation-fraction", fraction});
    EXPECT_THAT(result.err, HasSubstr(said));
  }
}

TEST_F(ClassifyProgram, SaysThatTextsAreCut) {
  const std::string text = "sweet music and a fine, fair day, my gentle friend, and more of it, and more";
  const ProcessResult result = run({"predict", "--model", out(), "--text", text, "--text", "sweet"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "1 of 2 texts is longer than 12 tokens, of which the first are used\n");
}

TEST_F(ClassifyProgram, SaysWhatIsWrong) {
  expect_failure(2, command({"train", "--model", kDemo}), "--train-file");
  expect_failure(2, command({"tell"}), "is no command, expected train, evaluate, predict or average");
  expect_failure(2, command({"predict", "--model", kDemo}), "--file or --text");
  expect_failure(2, command({"predict", "--model", kDemo, "--text", "x", "--labels", "a,b"}), "--zero-shot");
  expect_failure(2,
                 command({"predict", "--model", kDemo, "--zero-shot", "--text", "x", "--labels", "a,\xFF"}),
                 "--labels is not UTF-8");
  expect_failure(2, command({"predict", "--model", kDemo, "--text", "x", "--prompt", "{text} is"}),
                 "--zero-shot");
  expect_failure(1, command({"predict", "--model", kDemo, "--text", "x"}), "score.weight is missing");
  const auto with = [&](std::vector<std::string> more, const std::string& dir) {
    std::vector<std::string> all{"train",           "--model",       kDemo,    "--train-file",
                                 file("train.csv"), "--text-column", "review", "--label-column",
                                 "stars",           "--output-dir",  dir};
    all.insert(all.end(), more.begin(), more.end());
    return command(std::move(all));
  };
  expect_failure(2, with({"--metric-for-best-model", "f1"}, file("never")),
                 "is none of loss, macro_f1, accuracy");
  expect_failure(2, with({"--words", "--no-calibrate"}, file("never")), "--words is not for --no-calibrate");
  expect_failure(2, with({"--calibrate", "--problem-type", "regression"}, file("never")),
                 "--calibrate is for single_label_classification");
  expect_failure(2, with({"--validation-file", "x", "--validation-fraction", "0.2"}, file("never")),
                 "--validation-file and --validation-fraction are both given");
  expect_failure(2, with({"--lora-r", "4"}, file("never")), "--lora-r is for --method lora");
  expect_failure(2, with({"--method", "head", "--lora-dropout", "0"}, file("never")),
                 "--lora-dropout is for --method lora");
  expect_failure(2, with({"--method", "magic"}, file("never")), "is none of full, lora, ia3, bitfit, head");
  expect_failure(1, with({"--strict"}, file("never")), "train.csv:62]");
  write_file(file("one.csv"), "text,label\na,x\nb,x\n");
  expect_failure(
      1, command({"train", "--model", kDemo, "--train-file", file("one.csv"), "--output-dir", file("never")}),
      "all rows have the label x");
  expect_failure(1, command({"evaluate", "--model", out(), "--test-file", file("test.csv")}),
                 "has no column text, but id, review, stars");
  expect_failure(1, with({}, out()), "holds bag_of_words.safetensors, and no run to resume");
  std::filesystem::create_directories(file("mine/run"));
  write_file(file("mine/run/notes.txt"), "kept");
  expect_failure(1, with({"--max-steps", "1"}, file("mine")), "run] holds notes.txt");
  EXPECT_TRUE(std::filesystem::exists(file("mine/run/notes.txt")));
}

}  // namespace
}  // namespace gpt::test::classify_program
