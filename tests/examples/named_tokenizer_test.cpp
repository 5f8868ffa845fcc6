// What gpt-finetune does with the special tokens of a tokenizer that --tokenizer names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "examples/process.h"
#include "gpt/gpt.h"
#include "support/temp_dir.h"

namespace gpt::test::named_tokenizer {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kDemo = std::string(GPT_SOURCE_DIR) + "/examples/models/demo";

/// A copy of the demo model, in whose config.json texts end with a word.
class NamedTokenizer : public testing::Test {
 protected:
  NamedTokenizer() {
    fs::copy(kDemo, model_);
    end_with(5);
    write_file(dir_ / "corpus.txt", "FIRST CITIZEN:\nSpeak, speak, speak.\n");
  }
  void end_with(TokenId eos_token_id) const {
    HfConfig config = HfConfig::load(model_ + "/config.json");
    config.set_int("eos_token_id", eos_token_id);
    config.save(model_ + "/config.json");
  }
  /// Of one small update.
  std::vector<std::string> run_into(const std::string& output, const std::vector<std::string>& more) const {
    std::vector<std::string> all{
        GPT_FINETUNE,  "--model", model_,        "--train-file", dir_ / "corpus.txt", "--block-size", "8",
        "--max-steps", "1",       "--report-to", "none",         "--output-dir",      dir_ / output};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  TempDir dir_;
  std::string model_ = dir_ / "m";
};

TEST_F(NamedTokenizer, IsThatOfARunThatIsResumed) {
  const ProcessResult result = Process(run_into("out", {"--tokenizer", kDemo})).wait();
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("eos_token_id changes from 5 to 2047"));
  EXPECT_THAT(result.err, Not(HasSubstr("adapter")));
  expect_failure(1, run_into("out", {"--resume"}), "[trainer] eos_token_id is 5, but the run in ");
  EXPECT_EQ(HfConfig::load(dir_ / "out/config.json").get_int("eos_token_id"), 2047);
  EXPECT_EQ(Process(run_into("out", {"--resume", "--tokenizer", kDemo})).wait().status, 0);
}

TEST_F(NamedTokenizer, IsNotInAnAdapter) {
  const std::vector<std::string> how{"--use-peft", "--tokenizer", kDemo};
  ProcessResult result = Process(run_into("adapter", how)).wait();
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr(concat("warning: an adapter holds no tokenizer and no ids, and ", model_,
                                           " keeps its own: gpt-convert --model ", model_, " --adapter ",
                                           (dir_ / "adapter").string(), " --tokenizer ", kDemo)));
  end_with(2047);
  result = Process(run_into("same", how)).wait();
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.err, Not(HasSubstr("warning")));
}

}  // namespace
}  // namespace gpt::test::named_tokenizer
