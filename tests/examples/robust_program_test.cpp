// What gpt-classify and gpt-finetune do for few rows and against forgetting, and the example of an objective of one's own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/json.h"
#include "support/temp_dir.h"

namespace gpt::test::robust_program {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

const std::string kModel = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

std::vector<std::string> classify_command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), GPT_CLASSIFY);
  return arguments;
}
ProcessResult classify(std::vector<std::string> arguments) {
  return Process(classify_command(std::move(arguments))).wait();
}
ProcessResult finetune(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), GPT_FINETUNE);
  return Process(std::move(arguments)).wait();
}

std::string rows(int count, bool labels = true) {
  std::string text = labels ? "text,label\n" : "text\n";
  for (int i = 0; i < count; ++i)
    text +=
        concat(i % 2 == 0 ? "sweet music" : "bitter poison", " ", i, labels ? concat(",", i % 2) : "", "\n");
  return text;
}

class RobustProgram : public testing::Test {
 protected:
  RobustProgram() {
    write_file(directory / "train.csv", rows(24));
    write_file(directory / "old.csv", rows(8));
    write_file(directory / "texts.csv", rows(10, false));
    write_file(directory / "words.tsv", "sweet\tgentle\nbitter\tsour\n");
  }
  std::string file(const std::string& name) const { return directory / name; }
  std::vector<std::string> train(const std::string& output, std::vector<std::string> more) const {
    std::vector<std::string> all{"train",
                                 "--model",
                                 kModel,
                                 "--train-file",
                                 file("train.csv"),
                                 "--output-dir",
                                 file(output),
                                 "--max-steps",
                                 "3",
                                 "--max-length",
                                 "8",
                                 "--threads",
                                 "2",
                                 "--json"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  TempDir directory;
};

TEST_F(RobustProgram, TakesAllThatGoesTogether) {
  const ProcessResult result = classify(train("out", {"--augment-copies",
                                                      "2",
                                                      "--synonyms-file",
                                                      file("words.tsv"),
                                                      "--alpha-sr",
                                                      "0.5",
                                                      "--p-rd",
                                                      "0.3",
                                                      "--unlabelled-file",
                                                      file("texts.csv"),
                                                      "--pseudo-label-threshold",
                                                      "0.5",
                                                      "--replay-file",
                                                      file("old.csv"),
                                                      "--replay-fraction",
                                                      "0.2",
                                                      "--r-drop-alpha",
                                                      "1",
                                                      "--adversarial",
                                                      "pgd",
                                                      "--adversarial-epsilon",
                                                      "0.1",
                                                      "--adversarial-step-size",
                                                      "0.05",
                                                      "--adversarial-steps",
                                                      "2",
                                                      "--adversarial-weight",
                                                      "0.5",
                                                      "--layerwise-lr-decay",
                                                      "0.9",
                                                      "--unfreeze-steps",
                                                      "1",
                                                      "--swa-start",
                                                      "0.5"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, ContainsRegex("[0-9]+ changed copies of 21 rows"));
  EXPECT_THAT(result.err,
              HasSubstr("10 of 10 texts without labels are learned with those of the classifier"));
  EXPECT_EQ(parse_json(result.out).at("global_step"), 3);
  EXPECT_FALSE(fs::exists(file("out/run")));
}

TEST_F(RobustProgram, TakesEveryKindOfObjective) {
  const std::vector<std::vector<std::string>> kinds = {
      {"--contrastive-weight", "0.5", "--contrastive-temperature", "0.2", "--adversarial", "fgm"},
      {"--adversarial", "freelb", "--method", "lora", "--layerwise-lr-decay", "0.8", "--ema-decay", "0.5"},
      {"--problem-type", "regression", "--r-drop-alpha", "1"}};
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const ProcessResult result = classify(train(concat("kind-", i), kinds[i]));
    EXPECT_EQ(result.status, 0) << result.err;
  }
  // The mean of a classifier and itself is that classifier, of numbers, too.
  const auto judged = [&](std::vector<std::string> more) {
    std::vector<std::string> all{"evaluate",    "--model",       file("kind-2"),
                                 "--test-file", file("old.csv"), "--json"};
    all.insert(all.end(), more.begin(), more.end());
    const ProcessResult result = classify(all);
    EXPECT_EQ(result.status, 0) << result.err;
    return parse_json(result.out).at("mean_squared_error").get<double>();
  };
  EXPECT_EQ(judged({"--ensemble", file("kind-2")}), judged({}));
}

TEST_F(RobustProgram, GoesOnInEveryRoundToTheSameFiles) {
  const std::vector<std::string> pseudo{"--unlabelled-file",        file("texts.csv"),
                                        "--pseudo-label-threshold", "0.5",
                                        "--pseudo-label-rounds",    "2",
                                        "--logging-steps",          "1"};
  ASSERT_EQ(classify(train("whole", pseudo)).status, 0);
  std::vector<std::string> again = train("parts", pseudo);
  again.insert(again.begin(), GPT_CLASSIFY);
  // In the first round, and in the second.
  for (const char* seen : {"step 2/3", "texts without labels"}) {
    Process process(again);
    ASSERT_TRUE(process.await_error(seen)) << process.errors();
    process.send(SIGINT);
    const ProcessResult stopped = process.wait();
    ASSERT_EQ(stopped.status, 130) << stopped.err;
    if (again.back() != "--resume") again.push_back("--resume");
  }
  const ProcessResult last = Process(again).wait();
  ASSERT_EQ(last.status, 0) << last.err;
  EXPECT_EQ(read_file(file("parts/model.safetensors")), read_file(file("whole/model.safetensors")));
}

TEST_F(RobustProgram, MakesOneClassifierOfSeveral) {
  for (const char* seed : {"1", "2"})
    ASSERT_EQ(classify(train(concat("run-", seed), {"--seed", seed})).status, 0);
  const ProcessResult averaged =
      classify({"average", "--model", file("run-1"), "--with", file("run-2"), "--output-dir", file("soup")});
  ASSERT_EQ(averaged.status, 0) << averaged.err;
  {
    const DirectoryLock lock(file("busy"));
    expect_failure(1,
                   {GPT_CLASSIFY, "average", "--model", file("run-1"), "--with", file("run-2"),
                    "--output-dir", file("busy")},
                   "busy] is in use by another run");
  }
  const Classifier one = Classifier::load(file("run-1")), two = Classifier::load(file("run-2"));
  const Classifier soup = Classifier::load(file("soup"));
  for (std::size_t i = 0; i < 8; ++i)
    EXPECT_EQ(soup.score().values.span<float>()[i],
              static_cast<float>((static_cast<double>(one.score().values.span<float>()[i]) +
                                  static_cast<double>(two.score().values.span<float>()[i])) /
                                 2));
  const auto probability = [&](std::vector<std::string> models) {
    std::vector<std::string> all{"predict", "--text", "sweet music 3"};
    all.insert(all.end(), models.begin(), models.end());
    const ProcessResult result = classify(all);
    EXPECT_EQ(result.status, 0) << result.err;
    return parse_json(result.out).at("probabilities").at("0").get<double>();
  };
  // A logit is rounded to 6e-8 of about 1.
  EXPECT_NEAR(probability({"--model", file("run-1"), "--ensemble", file("run-2")}),
              (probability({"--model", file("run-1")}) + probability({"--model", file("run-2")})) / 2, 1e-6);
  const ProcessResult judged = classify({"evaluate", "--model", file("run-1"), "--ensemble", file("run-2"),
                                         "--test-file", file("train.csv"), "--json"});
  ASSERT_EQ(judged.status, 0) << judged.err;
  EXPECT_EQ(parse_json(judged.out).at("count"), 24);
  EXPECT_EQ(
      classify({"average", "--model", file("run-1"), "--with", file("run-2"), "--output-dir", file("soup")})
          .status,
      1);
  write_file(directory / "train.csv", "text,label\na,x\nb,y\nc,x\nd,y\n");
  ASSERT_EQ(classify(train("other", {})).status, 0);
  expect_failure(
      1, {GPT_CLASSIFY, "predict", "--text", "a", "--model", file("run-1"), "--ensemble", file("other")},
      "expected the labels and the type of");
}

// What --model itself has is neither the mean nor the fit of the two.
TEST_F(RobustProgram, CalibratesTheOneClassifierOfSeveral) {
  write_file(directory / "dev.csv", rows(12));
  for (const char* seed : {"1", "2"})
    ASSERT_EQ(classify(train(concat("run-", seed), {"--seed", seed})).status, 0);
  const auto averaged = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> all{"average",     "--model",      file("run-1"), "--with",
                                 file("run-2"), "--output-dir", file(name)};
    all.insert(all.end(), more.begin(), more.end());
    const ProcessResult result = classify(all);
    EXPECT_EQ(result.status, 0) << result.err;
    return parse_json(read_file(directory / name / "classification.json"));
  };
  const auto settings = [&](const char* name) {
    return parse_json(read_file(directory / name / "classification.json"));
  };
  const auto number = [](const Json& json, const char* key) { return json.at(key).get<double>(); };
  const Json one = settings("run-1"), two = settings("run-2"), mean = averaged("mean", {});
  EXPECT_DOUBLE_EQ(number(mean, "temperature"),
                   2 / (1 / number(one, "temperature") + 1 / number(two, "temperature")));
  EXPECT_DOUBLE_EQ(number(mean, "words_weight"),
                   (number(one, "words_weight") + number(two, "words_weight")) / 2);

  const Json fitted = averaged("fitted", {"--validation-file", file("dev.csv")});
  const Classifier soup = Classifier::load(file("fitted"));
  const BagOfWords words = BagOfWords::load(directory / "fitted" / "bag_of_words.safetensors");
  const LabelledRows dev = read_labelled_rows(file("dev.csv"), {});
  const ClassificationDataset data(soup, dev.rows, {.max_length = 8});
  std::vector<std::vector<TokenId>> sequences;
  std::vector<double> probabilities;
  for (std::int64_t i = 0; i < data.size(); ++i) {
    sequences.push_back(data.at(i).ids);
    for (const double p : words.probabilities(dev.rows[static_cast<std::size_t>(i)].text))
      probabilities.push_back(p);
  }
  const Blend expected = fit_blend(soup.logits(sequences), probabilities, data.classes());
  EXPECT_EQ(number(fitted, "temperature"), expected.temperature);
  EXPECT_EQ(number(fitted, "words_weight"), expected.weight);
  EXPECT_NE(number(fitted, "temperature"), number(mean, "temperature"));

  expect_failure(1,
                 {GPT_CLASSIFY, "average", "--model", file("run-1"), "--with", file("run-2"), "--output-dir",
                  file("none"), "--validation-file", file("absent.csv")},
                 "absent.csv");
  EXPECT_FALSE(fs::exists(directory / "none"));
}

TEST_F(RobustProgram, HoldsWhatIsKnownInAFinetuning) {
  write_file(directory / "new.txt", std::string(3000, 'a') + "\n" + std::string(3000, 'b'));
  write_file(directory / "old.txt", "ROMEO:\nBut soft, what light through yonder window breaks?\n");
  const auto tuned = [&](const std::string& name, std::vector<std::string> more) {
    std::vector<std::string> all{"--model",
                                 kModel,
                                 "--train-file",
                                 file("new.txt"),
                                 "--output-dir",
                                 file(name),
                                 "--max-steps",
                                 "2",
                                 "--block-size",
                                 "32",
                                 "--report-to",
                                 "none",
                                 "--threads",
                                 "2",
                                 "--json",
                                 "--per-device-train-batch-size",
                                 "2"};
    all.insert(all.end(), more.begin(), more.end());
    const ProcessResult result = finetune(all);
    EXPECT_EQ(result.status, 0) << result.err;
    return result;
  };
  tuned("all", {"--ewc-file",
                file("old.txt"),
                "--ewc-lambda",
                "100",
                "--ewc-samples",
                "2",
                "--replay-file",
                file("old.txt"),
                "--replay-fraction",
                "0.1",
                "--r-drop-alpha",
                "1",
                "--adversarial",
                "fgm",
                "--label-smoothing-factor",
                "0.1",
                "--layerwise-lr-decay",
                "0.9",
                "--unfreeze-steps",
                "1",
                "--swa-start",
                "0.5"});
  tuned("adapter",
        {"--use-peft", "--ewc-file", file("old.txt"), "--adversarial", "freelb", "--adversarial-steps", "1"});
  EXPECT_TRUE(fs::exists(file("adapter/adapter_model.safetensors")));
  tuned("student", {"--teacher-model", kModel, "--adversarial", "fgm", "--ewc-file", file("old.txt")});
}

TEST_F(RobustProgram, RefusesBeforeAModelIsLoaded) {
  const auto refuses = [&](std::vector<std::string> more, const std::string& message) {
    std::vector<std::string> all{GPT_CLASSIFY,   "train",        "--model",      "/nowhere",
                                 "--train-file", "/nowhere.csv", "--output-dir", file("never")};
    all.insert(all.end(), more.begin(), more.end());
    expect_failure(2, all, message);
  };
  refuses({"--r-drop-alpha", "1", "--contrastive-weight", "1"},
          "--r-drop-alpha and --contrastive-weight are both given: expected one");
  refuses({"--r-drop-alpha", "-1"}, "error: --r-drop-alpha is -1, expected 0 or more");
  refuses({"--contrastive-weight", "2"}, "error: --contrastive-weight is 2, expected 0 to 1");
  refuses({"--contrastive-weight", "1", "--contrastive-temperature", "0"},
          "error: --contrastive-temperature is 0");
  refuses({"--adversarial", "fgm", "--adversarial-epsilon", "0"}, "error: --adversarial-epsilon is 0");
  refuses({"--adversarial", "fgm", "--adversarial-weight", "-1"}, "error: --adversarial-weight is -1");
  refuses({"--adversarial", "vat"}, "--adversarial: \"vat\" is none of fgm, pgd, freelb");
  refuses({"--adversarial-epsilon", "1"}, "--adversarial-epsilon needs --adversarial");
  refuses({"--adversarial", "fgm", "--adversarial-steps", "2"},
          "--adversarial-steps needs --adversarial pgd or freelb");
  refuses({"--adversarial", "freelb", "--adversarial-weight", "2"},
          "--adversarial-weight needs --adversarial fgm or pgd");
  refuses({"--contrastive-temperature", "1"}, "--contrastive-temperature needs --contrastive-weight");
  refuses({"--contrastive-weight", "0.5", "--problem-type", "regression"},
          "--contrastive-weight is for single_label_classification");
  refuses({"--unfreeze-steps", "5", "--method", "lora"}, "--unfreeze-steps is for --method full");
  refuses({"--unfreeze-steps", "5", "--unfreeze-epochs", "1"},
          "--unfreeze-steps and --unfreeze-epochs are both set");
  refuses({"--layerwise-lr-decay", "0.5", "--method", "head"},
          "--layerwise-lr-decay is not for --method head");
  refuses({"--layerwise-lr-decay", "2"}, "--layerwise-lr-decay is 2, expected more than 0, at most 1");
  refuses({"--swa-start", "0.5", "--ema-decay", "0.9"}, "--swa-start and --ema-decay are both set");
  refuses({"--synonyms-file", "x"}, "--synonyms-file needs --augment-copies");
  refuses({"--augment-copies", "1", "--alpha-sr", "0.5"}, "--alpha-sr needs --synonyms-file");
  refuses({"--augment-copies", "9223372036854775807"},
          "error: --augment-copies is 9223372036854775807, expected 0 to 1000");
  refuses({"--augment-copies", "1", "--p-rd", "2"}, "--p-rd is 2, expected 0 to 1");
  refuses({"--pseudo-label-threshold", "0.5"}, "--pseudo-label-threshold needs --unlabelled-file");
  refuses({"--unlabelled-file", "x", "--pseudo-label-threshold", "2"},
          "--pseudo-label-threshold is 2, expected more than 0, at most 1");
  refuses({"--unlabelled-file", "x", "--folds", "3"},
          "--folds and --unlabelled-file are both given: expected one");
  refuses({"--replay-fraction", "1"}, "--replay-fraction needs --replay-file");
  const auto finetune_refuses = [&](std::vector<std::string> more, const std::string& message) {
    std::vector<std::string> all{GPT_FINETUNE,     "--model",      "/nowhere",   "--train-file",
                                 "/nowhere.jsonl", "--output-dir", file("never")};
    all.insert(all.end(), more.begin(), more.end());
    expect_failure(2, all, message);
  };
  finetune_refuses({"--ewc-lambda", "1"}, "--ewc-lambda needs --ewc-file");
  finetune_refuses({"--ewc-file", "x", "--ewc-lambda", "-1"}, "--ewc-lambda is -1, expected 0 or more");
  finetune_refuses({"--replay-file", "x", "--replay-fraction", "0"}, "--replay-fraction is 0");
  finetune_refuses({"--loss-type", "simpo", "--r-drop-alpha", "1"}, "--r-drop-alpha is not for --loss-type");
  finetune_refuses({"--teacher-model", "x", "--r-drop-alpha", "1"},
                   "--r-drop-alpha is not for --teacher-model");
  finetune_refuses({"--use-peft", "--unfreeze-epochs", "1"},
                   "--unfreeze-epochs is set, but lora trains an adapter");
}

TEST_F(RobustProgram, RefusesOptionsThatHaveNothingToActOn) {
  const auto refuses = [&](std::vector<std::string> more, const std::string& message) {
    std::vector<std::string> all{"train",        "--model",      "/nowhere",   "--train-file",
                                 "/nowhere.csv", "--output-dir", file("never")};
    all.insert(all.end(), more.begin(), more.end());
    expect_failure(2, classify_command(all), message);
  };
  refuses({"--label-column", "text"}, "--text-column and --label-column are both text");
  refuses({"--no-words", "--problem-type", "regression"},
          "--no-words is for single_label_classification, not for --problem-type regression");
  refuses({"--no-calibrate", "--problem-type", "multi_label_classification"},
          "--no-calibrate is for single_label_classification");
  refuses({"--label-smoothing-factor", "0.1", "--problem-type", "regression"},
          "--label-smoothing-factor is for single_label_classification, not for --problem-type regression");
  refuses({"--label-smoothing-factor", "2"}, "--label-smoothing-factor is 2, expected 0 to 1");
  refuses({"--folds", "1"}, "--folds is 1, expected 0 or 2 and more");
  refuses({"--augment-copies", "1", "--alpha-rs", "0", "--p-rd", "0"},
          "--augment-copies has nothing to change");
  const auto predicts = [&](std::vector<std::string> more, const std::string& message) {
    std::vector<std::string> all{"predict", "--model", "/nowhere"};
    all.insert(all.end(), more.begin(), more.end());
    expect_failure(2, classify_command(all), message);
  };
  predicts({"--text", "x", "--strict"}, "--strict is for --file");
  predicts({"--text", "x", "--text-column", "text"}, "--text-column is for --file");
  predicts({"--zero-shot", "--labels", "good, good", "--file", "/nowhere.csv"},
           "--labels has \"good\" twice");
  expect_failure(2,
                 classify_command({"evaluate", "--model", "/nowhere", "--test-file", "/nowhere.csv",
                                   "--text-column", "label"}),
                 "--text-column and --label-column are both label");
  expect_failure(2,
                 classify_command({"average", "--model", "/nowhere/one", "--with", "/nowhere/one/",
                                   "--output-dir", file("never")}),
                 "is --model, expected another classifier");
}

TEST_F(RobustProgram, SaysWhatIsWrongWithTheRows) {
  int files = 0;
  const auto refuses = [&](const std::string& text, std::vector<std::string> more,
                           const std::string& message) {
    const std::string name = file(concat("wrong-", files++, ".csv"));
    write_file(name, text);
    std::vector<std::string> all{"train",       "--model",     kModel, "--train-file", name, "--output-dir",
                                 file("never"), "--max-steps", "1"};
    all.insert(all.end(), more.begin(), more.end());
    expect_failure(1, classify_command(all), message);
  };
  refuses("text,label,label\na,x,y\nb,y,x\n", {}, ".csv:1] has two columns label");
  refuses("text,label\na,x\nb,y\n", {"--label-column", "TEXT"},
          ".csv:1] column text is to be both the text and the label");
  refuses("", {}, ".csv] is empty");
  refuses("text,label\na,x\n", {}, ".csv] has 1 row, too few");
  refuses("text,label\na,x\nb,y\n", {},
          ".csv] has 2 labels, and 1 of its 2 rows are kept for the validation, which leaves only ");
  refuses("text,label\na,x\nb,y\nc,z\nd,x\ne,y\nf,z\n", {"--validation-fraction", "0.99"},
          ".csv] has 3 labels, and 5 of its 6 rows are kept for the validation, which leaves only ");
  std::string many = "text,label\n";
  for (int i = 0; i < 30; ++i) many += concat("text ", i, ",l", i, "\n");
  refuses(many, {},
          ".csv] has 30 labels, and 3 of its 30 rows are kept for the validation, which leaves none of");
  refuses("text,label\na,x\n\"b,y\nc,x\nd\",y,\"z\"\n", {"--strict"},
          ".csv:3] has 3 fields, expected 2: a quote is open from line 3 to 5");
  refuses(rows(40), {"--folds", "50"}, ".csv] has 40 rows, but --folds is 50");
  refuses(rows(40), {"--max-length", "5000"}, "takes 256 tokens at most, but --max-length is 5000");
}

TEST_F(RobustProgram, TrainsAHeadFromOutsideTheLibrary) {
  const ProcessResult result =
      Process({GPT_OWN_OBJECTIVE, kModel, file("train.csv"), file("old.csv")}).wait();
  ASSERT_EQ(result.status, 0) << result.err;
  std::istringstream lines(result.out);
  double first = 0, last = 0;
  std::string line;
  for (int epoch = 0; std::getline(lines, line); ++epoch) {
    const std::size_t at = line.find("loss ") + 5;
    last = parse_json(line.substr(at, line.find(',') - at)).get<double>();
    if (epoch == 0) first = last;
  }
  EXPECT_NEAR(first, 0.25 * 0.6931472, 1e-5);  // a head of zeros says 1/2
  EXPECT_LT(last, 0.8 * first) << result.out;
}

}  // namespace
}  // namespace gpt::test::robust_program
