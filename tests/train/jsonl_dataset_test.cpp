#include "gpt/train/jsonl_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::expect_error;
using test::TempDir;
using test::write_file;
using testing::ElementsAreArray;

constexpr TokenId kEos = 256, kBos = 257, kNo = kIgnoredLabel;

// Bytes, "<eos>" and "<s>".
ByteBpe make_tokenizer(bool has_eos, bool has_template = false) {
  ByteBpeModel model = test::small_bpe_model();
  model.added_tokens = {{.content = "<eos>"}, {.content = "<s>"}};
  if (has_eos) model.eos_token = "<eos>";
  if (has_template) model.prefix_tokens = {"<s>"};
  return ByteBpe(std::move(model));
}

const ByteBpe& chat_tokenizer() {
  static const ByteBpe tokenizer = make_tokenizer(true);
  return tokenizer;
}

JsonlDataset load(std::string_view lines, const JsonlDatasetOptions& options = {},
                  const Tokenizer& with = chat_tokenizer()) {
  const TempDir dir;
  write_file(dir / "data.jsonl", lines);
  return JsonlDataset::from_file(dir / "data.jsonl", with, options);
}

/// The text of a sample with what is learned in brackets, after its first token.
std::string shown(const Sample& sample, const Tokenizer& with = chat_tokenizer()) {
  EXPECT_EQ(sample.ids.size(), sample.labels.size());
  std::string text;
  bool open = false;
  for (std::size_t i = 0; i < sample.ids.size(); ++i) {
    const bool learned = sample.labels[i] != kIgnoredLabel;
    EXPECT_TRUE(!learned || sample.labels[i] == sample.ids[i]) << "label " << sample.labels[i];
    if (learned != open) text += learned ? "[" : "]";
    open = learned;
    text += with.bytes_of(sample.ids[i]);
  }
  return open ? text + "]" : text;
}

std::vector<std::string> all_shown(const JsonlDataset& dataset) {
  std::vector<std::string> all;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    all.push_back(shown(dataset.at(i)));
    EXPECT_EQ(dataset.length(i), static_cast<std::int64_t>(dataset.at(i).ids.size()));
  }
  return all;
}

TEST(JsonlDataset, LearnsTheCompletionAndItsEnd) {
  const auto dataset = load(R"({"prompt": "2+2=", "completion": "4"})");
  EXPECT_EQ(dataset.at(0).ids, (Ids{'2', '+', '2', '=', '4', kEos}));
  EXPECT_EQ(dataset.at(0).labels, (Ids{kNo, kNo, kNo, kNo, '4', kEos}));
  EXPECT_THAT(all_shown(load(R"({"prompt": "a", "completion": "b<eos>", "id": 7})")),
              ElementsAreArray({"a[b<eos>]"}));
  EXPECT_THAT(all_shown(load(R"({"prompt": "", "completion": "b"})")), ElementsAreArray({"[b<eos>]"}));
  const ByteBpe without_eos = make_tokenizer(false);
  EXPECT_EQ(shown(load(R"({"prompt": "a", "completion": "b"})", {}, without_eos).at(0)), "a[b]");
}

TEST(JsonlDataset, PutsTheTemplateAroundTheWholeSample) {
  ByteBpeModel model = test::small_bpe_model();
  model.added_tokens = {{.content = "<s>"}, {.content = "</s>"}};
  model.prefix_tokens = {"<s>"};
  model.suffix_tokens = {"</s>"};
  const ByteBpe around(model);
  const auto of = [&](std::string_view line) { return shown(load(line, {}, around).at(0), around); };
  EXPECT_EQ(of(R"({"prompt": "a", "completion": "b"})"), "<s>a[b</s>]");
  EXPECT_EQ(of(R"({"prompt": "<s>a", "completion": "b</s>"})"), "<s>a[b</s>]") << "not twice";
  EXPECT_EQ(of(R"({"text": "ab"})"), "[<s>ab</s>]");
  EXPECT_EQ(of(R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})"),
            "<s><|user|>\na\n<|assistant|>\n[b\n</s>]");
  model.eos_token = "<s>";  // where an eos token ends the sample, that is its end
  const ByteBpe with_eos(model);
  EXPECT_EQ(shown(load(R"({"prompt": "a", "completion": "b"})", {}, with_eos).at(0), with_eos), "<s>a[b<s>]");
}

TEST(JsonlDataset, NeverMergesTheCompletionIntoThePrompt) {
  const ByteBpe merging(test::small_bpe_model({{"a", "b"}}));
  EXPECT_EQ(load(R"({"prompt": "a", "completion": "bab"})", {}, merging).at(0).ids, (Ids{'a', 'b', 256}));
}

TEST(JsonlDataset, LearnsAllOfAText) {
  EXPECT_THAT(all_shown(load(R"({"text": "once"})")), ElementsAreArray({"[once<eos>]"}));
  EXPECT_THAT(all_shown(load(R"({"text": "once<eos>", "prompt": null})")), ElementsAreArray({"[once<eos>]"}));
}

TEST(JsonlDataset, LearnsWhatTheAssistantSays) {
  const std::string_view line = R"({"messages": [{"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}, {"role": "user", "content": ""},
    {"role": "assistant", "content": "?"}, {"role": "user", "content": "unanswered"}]})";
  std::string one_line(line);
  std::erase(one_line, '\n');
  EXPECT_THAT(
      all_shown(load(one_line)),
      ElementsAreArray(
          {"<|system|>\nBe brief.<eos>\n<|user|>\nHi<eos>\n<|assistant|>\n[Yo<eos>]\n<|user|>\n<eos>\n"
           "<|assistant|>\n[?<eos>]"}));
  const ByteBpe without_eos = make_tokenizer(false);
  EXPECT_EQ(shown(load(one_line, {}, without_eos).at(0), without_eos),
            "<|system|>\nBe brief.\n<|user|>\nHi\n<|assistant|>\n[Yo\n]<|user|>\n\n<|assistant|>\n[?\n]");
}

TEST(JsonlDataset, EncodesMessagesAsAPromptForGeneration) {
  ByteBpeModel model = test::small_bpe_model({{"\n", " "}, {">", "\n"}, {"\n", "<"}});
  model.added_tokens = {{.content = "<eos>"}, {.content = "<|user|>"}};
  model.eos_token = "<eos>";
  model.use_regex = false;  // everything that can merge does
  const ByteBpe merging(std::move(model));
  const auto dataset = load(
      R"({"messages": [{"role": "user", "content": " x"}, {"role": "assistant", "content": "\n y"}, {"role": "user", "content": " z"}, {"role": "assistant", "content": "."}]})",
      {}, merging);
  Ids expected = merging.encode("<|user|>\n x<eos>\n<|assistant|>\n");
  for (const std::string_view part : {"\n y<eos>", "\n<|user|>\n z<eos>\n<|assistant|>\n", ".<eos>"}) {
    const Ids ids = merging.encode(part);
    expected.insert(expected.end(), ids.begin(), ids.end());
  }
  EXPECT_EQ(dataset.at(0).ids, expected);
}

TEST(JsonlDataset, WritesMessagesInTheFormAskedFor) {
  const std::string_view line =
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}, )"
      R"({"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]})";
  const ByteBpe without_eos = make_tokenizer(false);
  const auto expect_text = [&](std::string_view name, std::string_view with, std::string_view without) {
    const JsonlDatasetOptions options{.chat_template = ChatTemplate::by_name(name)};
    EXPECT_EQ(shown(load(line, options).at(0)), with);
    EXPECT_EQ(shown(load(line, options, without_eos).at(0), without_eos), without);
  };
  expect_text("plain", "user: Hi\nassistant:[ Yo<eos>]\nuser: ?\nassistant:[ !<eos>]",
              "user: Hi\nassistant:[ Yo\n]user: ?\nassistant:[ !\n]");
  expect_text("llama2", "[INST] Hi [/INST][ Yo <eos>][INST] ? [/INST][ ! <eos>]",
              "[INST] Hi [/INST][ Yo ][INST] ? [/INST][ ! ]");
  constexpr std::string_view kChatml =
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Yo<|im_end|>]\n"
      "<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n[!<|im_end|>]";
  expect_text("chatml", kChatml, kChatml);
  // What another template takes, one may refuse.
  const std::string_view two_users =
      R"({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, )"
      R"({"role": "assistant", "content": "c"}]})";
  load(two_users);
  expect_error<FormatError>(
      [&] { load(two_users, {.chat_template = ChatTemplate::by_name("alpaca")}); },
      {"data.jsonl:1]", "messages[1].role is \"user\", expected \"assistant\"", "alpaca"});
}

TEST(JsonlDataset, BeginsWithTheTokensOfTheTemplate) {
  const ByteBpe with_template = make_tokenizer(true, true);
  const auto dataset = load(
      "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"text\": \"c\"}\n"
      "{\"messages\": [{\"role\": \"assistant\", \"content\": \"d\"}]}",
      {}, with_template);
  EXPECT_EQ(dataset.at(0).ids, (Ids{kBos, 'a', 'b', kEos}));
  EXPECT_EQ(dataset.at(1).ids, (Ids{kBos, 'c', kEos}));
  EXPECT_EQ(shown(dataset.at(2), with_template), "<s><|assistant|>\n[d<eos>]");
}

TEST(JsonlDataset, TakesSpecialTokensForTextWhenAsked) {
  const std::string line = R"({"prompt": "<eos>", "completion": "b<eos>"})";
  EXPECT_EQ(load(line).at(0).ids, (Ids{kEos, 'b', kEos}));
  EXPECT_EQ(load(line, {.parse_special_tokens = false}).at(0).ids,
            (Ids{'<', 'e', 'o', 's', '>', 'b', '<', 'e', 'o', 's', '>', kEos}));
}

TEST(JsonlDataset, ReadsLinesOfEveryEnding) {
  const auto dataset =
      load("\xEF\xBB\xBF{\"text\": \"a\"}\r\n\n  \t\n{\"text\": \"b\"}\n{\"text\": \"é\\u20ac\"}");
  EXPECT_THAT(all_shown(dataset), ElementsAreArray({"[a<eos>]", "[b<eos>]", "[é€<eos>]"}));
  EXPECT_EQ(dataset.counts().lines, 3);
  // A byte order mark is no line.
  const auto blank = load("\xEF\xBB\xBF\r\n{\"text\": \"a\"}\n");
  EXPECT_EQ(blank.counts().lines, 1);
  EXPECT_THAT(all_shown(blank), ElementsAreArray({"[a<eos>]"}));
}

TEST(JsonlDataset, ShortensDropsOrRefusesWhatIsTooLong) {
  const std::string lines =
      "{\"prompt\": \"ab\", \"completion\": \"cd\"}\n{\"prompt\": \"abcdef\", \"completion\": "
      "\"g\"}\n{\"text\": \"xyz\"}\n";
  const auto truncated = load(lines, {.max_length = 4});
  EXPECT_THAT(all_shown(truncated), ElementsAreArray({"ab[cd]", "[xyz<eos>]"}));
  EXPECT_EQ(truncated.counts().truncated, 1);
  EXPECT_EQ(truncated.counts().dropped, 1);  // nothing learned was left
  const auto dropped = load(lines, {.max_length = 4, .overlong = Overlong::kDrop});
  EXPECT_THAT(all_shown(dropped), ElementsAreArray({"[xyz<eos>]"}));
  EXPECT_EQ(dropped.counts().truncated, 0);
  EXPECT_EQ(dropped.counts().dropped, 2);
  expect_error<FormatError>([&] { load(lines, {.max_length = 4, .overlong = Overlong::kError}); },
                            {"data.jsonl:1]", "has 5 ids", "max_length is 4"});
  expect_error<FormatError>(
      [&] { load(lines, {.max_length = 4, .overlong = Overlong::kError, .skip_bad_lines = true}); },
      {"data.jsonl:1]"});  // too long is not bad
  EXPECT_EQ(load(lines, {.max_length = 8, .overlong = Overlong::kError}).size(), 3);
  for (const std::int64_t max_length : {1, 0, -5})
    expect_error<ArgumentError>([&] { load(lines, {.max_length = max_length}); },
                                {"max_length is", "at least 2"});
}

struct BadLine {
  std::string_view line;
  std::string_view message;
};

constexpr BadLine kBadLines[] = {
    {"not json", "not valid JSON"},
    {"{\"text\": \"a\"", "not valid JSON"},
    {"{\"text\": \"a\xFF\"}", "not valid JSON"},
    {"[1]", "is a list, expected a JSON object"},
    {"{}", "has none of the formats"},
    {R"({"Text": "a"})", "has none of the formats"},
    {R"({"text": "a", "prompt": "b", "completion": "c"})", "has more than one of the formats"},
    {R"({"text": "a", "text": "b"})", "twice"},
    {R"({"text": 5})", "text is 5, expected a string"},
    {R"({"text": ""})", "text is empty"},
    {R"({"prompt": "a"})", "completion is missing"},
    {R"({"completion": "a"})", "prompt is missing"},
    {R"({"prompt": ["a"], "completion": "b"})", "prompt is a list"},
    {R"({"prompt": "a", "completion": ""})", "completion is empty"},
    {R"({"messages": {}})", "messages is an object, expected a list"},
    {R"({"messages": []})", "none of the assistant"},
    {R"({"messages": ["a"]})", "messages[0] is \"a\", expected an object"},
    {R"({"messages": [{"content": "a"}]})", "messages[0].role is missing"},
    {R"({"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]})",
     "messages[1].role is \"tool\", expected \"system\", \"user\" or \"assistant\""},
    {R"({"messages": [{"role": "user"}]})", "messages[0].content is missing"},
    {R"({"messages": [{"role": "user", "content": "a"}]})", "none of the assistant"},
    {R"({"messages": [{"role": "assistant", "content": ""}]})", "messages[0].content is empty"},
    {R"({"prompt": "", "completion": "<eos>"})", "has 1 ids, of which none after the first"},
};

TEST(JsonlDataset, NamesTheLineThatIsBad) {
  for (const BadLine& bad : kBadLines) {
    const std::string lines = concat("{\"text\": \"good\"}\n\n", bad.line, "\n{\"text\": \"good\"}\n");
    expect_error<FormatError>([&] { load(lines); }, {"data.jsonl:3]", bad.message});
  }
}

TEST(JsonlDataset, SkipsAndCountsBadLinesWhenAsked) {
  std::string lines = "{\"text\": \"first\"}\n";
  for (const BadLine& bad : kBadLines) lines += concat(bad.line, "\n");
  lines += "{\"text\": \"last\"}";
  const auto dataset = load(lines, {.skip_bad_lines = true});
  EXPECT_THAT(all_shown(dataset), ElementsAreArray({"[first<eos>]", "[last<eos>]"}));
  EXPECT_EQ(dataset.counts().bad, static_cast<std::int64_t>(std::size(kBadLines)));
  EXPECT_EQ(dataset.counts().lines, dataset.counts().bad + 2);
  EXPECT_NE(dataset.counts().first_bad.find("data.jsonl:2] is not valid JSON"), std::string::npos)
      << dataset.counts().first_bad;
}

TEST(JsonlDataset, NamesALineThatTheVocabularyCannotExpress) {
  ByteBpeModel model = test::small_bpe_model();
  model.vocab.erase(model.vocab.begin() + 'q');
  const ByteBpe poor(std::move(model));
  const std::string lines = "{\"text\": \"abc\"}\n{\"text\": \"aqc\"}\n";
  expect_error<FormatError>([&] { load(lines, {}, poor); },
                            {"data.jsonl:2]", "cannot be encoded", "byte 113"});
  EXPECT_EQ(load(lines, {.skip_bad_lines = true}, poor).size(), 1);
}

TEST(JsonlDataset, RefusesFilesWithoutAUsableSample) {
  expect_error<FormatError>([] { load(""); }, {"data.jsonl]", "no usable sample", "of 0 lines"});
  expect_error<FormatError>([] { load("\n \n"); }, {"no usable sample"});
  expect_error<FormatError>(
      [] {
        load("x\n{\"text\": \"long\"}",
             {.max_length = 3, .overlong = Overlong::kDrop, .skip_bad_lines = true});
      },
      {"of 2 lines 1 are bad and 1 too long", "data.jsonl:1]"});
  const TempDir dir;
  expect_error<IoError>([&] { JsonlDataset::from_file(dir / "none", chat_tokenizer()); }, {"none]"});
  expect_error<IoError>([&] { JsonlDataset::from_file(dir.path(), chat_tokenizer()); }, {"is a directory"});
}

std::string many_lines(int n) {
  std::string lines;
  for (int i = 0; i < n; ++i) lines += concat("{\"prompt\": \"", i, "\", \"completion\": \"", i * i, "\"}\n");
  return lines;
}

TEST(JsonlDataset, DoesNotDependOnTheNumberOfThreads) {
  const std::string lines = many_lines(1000);
  const std::string two_errors = many_lines(70) + "bad\n" + many_lines(3) + "{\"text\": 3}\n";
  std::set<std::uint64_t> fingerprints;
  for (const int threads : {1, 2, 5}) {
    const ThreadLimit limit(threads);
    const auto dataset = load(lines);
    EXPECT_EQ(shown(dataset.at(999)), "999[998001<eos>]");
    fingerprints.insert(dataset.fingerprint());
    expect_error<FormatError>([&] { load(two_errors); }, {"data.jsonl:71]"});
    expect_error<FormatError>(
        [&] { load("{\"text\": \"too long\"}\nbad\n", {.max_length = 3, .overlong = Overlong::kError}); },
        {":1]"});
  }
  EXPECT_EQ(fingerprints.size(), 1u);
}

TEST(JsonlDataset, SplitsOffTheLastSamples) {
  const auto dataset = load(many_lines(10));
  const auto [train, validation] = dataset.split(0.25);
  EXPECT_EQ(train.size(), 8);
  EXPECT_THAT(all_shown(validation), ElementsAreArray({"8[64<eos>]", "9[81<eos>]"}));
  EXPECT_EQ(shown(train.at(7)), "7[49<eos>]");
  expect_error<ArgumentError>([&, &part = validation] { part.at(2); }, {"sample 2", "0 to 1"});
  expect_error<ArgumentError>([&, &part = validation] { part.at(-1); }, {"sample -1", "0 to 1"});
  expect_error<ArgumentError>([&] { dataset.split(0.05); }, {"0.05", "10 samples"});
  expect_error<ArgumentError>([&] { dataset.split(1.0); }, {"validation_fraction is 1"});
}

TEST(JsonlDataset, FingerprintIsThatOfTheSamples) {
  const auto of = [](std::string_view lines) { return load(lines).fingerprint(); };
  const std::string base = R"({"prompt": "ab", "completion": "c"})";
  EXPECT_EQ(of("\n" + base + "\r\n"), of(base));
  const auto [first, second] = load(base + "\n" + base).split(0.5);
  EXPECT_EQ(first.fingerprint(), of(base));
  EXPECT_EQ(second.fingerprint(), of(base));
  const std::set<std::uint64_t> all = {of(base), of(R"({"prompt": "a", "completion": "bc"})"),
                                       of(R"({"text": "abc"})"), of(R"({"prompt": "ab", "completion": "d"})"),
                                       of(base + "\n" + base)};
  EXPECT_EQ(all.size(), 5u);
}

TEST(JsonlDataset, TellsHowFarItIsAndStops) {
  const ThreadLimit limit(1);
  const std::string lines = many_lines(300);
  std::stop_source source;
  std::vector<std::int64_t> done;
  JsonlDatasetOptions options;
  options.on_progress = [&](const DatasetProgress& progress) {
    EXPECT_EQ(progress.total_bytes, static_cast<std::int64_t>(lines.size()));
    done.push_back(progress.done_bytes);
  };
  load(lines, options);
  ASSERT_GT(done.size(), 2u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), static_cast<std::int64_t>(lines.size()));
  options.stop = source.get_token();
  options.on_progress = [&](const DatasetProgress&) { source.request_stop(); };
  expect_error<CancelledError>([&] { load(lines, options); }, {"data.jsonl]", "stopped"});
}

TEST(DatasetCounts, AreThoseOfTheSamples) {
  const auto dataset = load("{\"prompt\": \"2+2=\", \"completion\": \"4\"}\n{\"text\": \"abc\"}\n");
  const DatasetCounts counts = count(dataset);
  EXPECT_EQ(counts.samples, 2);
  EXPECT_EQ(counts.tokens, 5 + 3);   // of 2+2=4<eos> and abc<eos>, but for their ends
  EXPECT_EQ(counts.learned, 2 + 3);  // 4<eos>, bc<eos>
  EXPECT_EQ(counts.longest, 6);
  std::stop_source source;
  source.request_stop();
  expect_error<CancelledError>([&] { count(dataset, source.get_token()); }, {"counted 0 of 2 samples"});
}

}  // namespace
}  // namespace gpt
