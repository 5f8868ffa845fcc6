#include "gpt/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "support/expect_error.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using Messages = std::vector<ChatMessage>;

const Messages kTalk{{"system", "Be brief."}, {"user", "Hi"}, {"assistant", "Yo"}, {"user", "?"}};

std::string prompt(std::string_view name, const Messages& messages = kTalk,
                   const std::optional<std::string>& eos = "</s>") {
  return ChatTemplate::by_name(name).prompt(messages, eos);
}

TEST(ChatTemplate, WritesPromptsInEveryForm) {
  EXPECT_EQ(
      prompt("zephyr"),
      "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nYo</s>\n<|user|>\n?</s>\n<|assistant|>\n");
  EXPECT_EQ(prompt("chatml"),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\nYo<|im_end|>\n<|im_start|>user\n?<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(
      prompt("alpaca"),
      "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nYo</s>\n\n### Instruction:\n?\n\n### Response:\n");
  EXPECT_EQ(prompt("llama2"), "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Yo </s>[INST] ? [/INST]");
  EXPECT_EQ(prompt("plain"), "system: Be brief.\nuser: Hi\nassistant: Yo</s>\nuser: ?\nassistant:");
}

TEST(ChatTemplate, DoesWithoutSystemMessageAndEos) {
  const Messages talk{{"user", "Hi"}, {"assistant", "Yo"}};
  const auto without = [&](std::string_view name) {
    return ChatTemplate::by_name(name).prompt(talk, std::nullopt, false);
  };
  EXPECT_EQ(without("zephyr"), "<|user|>\nHi\n<|assistant|>\nYo\n");
  EXPECT_EQ(
      without("alpaca"),
      "Below is an instruction that describes a task. Write a response that appropriately completes the "
      "request.\n\n### Instruction:\nHi\n\n### Response:\nYo\n\n");
  EXPECT_EQ(without("llama2"), "[INST] Hi [/INST] Yo ");
  EXPECT_EQ(without("plain"), "user: Hi\nassistant: Yo\n");
  EXPECT_EQ(ChatTemplate().prompt({}), "<|assistant|>\n");
}

TEST(ChatTemplate, PartsAreTheTextAndTellWhatIsLearned) {
  for (const std::string_view name : ChatTemplate::names()) {
    const ChatTemplate form = ChatTemplate::by_name(name);
    EXPECT_EQ(form.name(), name);
    Messages talk = kTalk;
    talk.push_back({"assistant", "No."});
    for (const bool has_eos : {true, false}) {
      std::string text, learned;
      const std::vector<ChatPart> parts = form.parts(talk, has_eos);
      for (std::size_t i = 0; i < parts.size(); ++i) {
        text += parts[i].text + (parts[i].eos ? "</s>" : "");
        if (parts[i].learned) learned += parts[i].text;
        // As long as they can be: neighbours differ, or an eos token stands between them.
        EXPECT_TRUE(i == 0 || parts[i - 1].eos || parts[i - 1].learned != parts[i].learned) << name;
        EXPECT_TRUE(has_eos || !parts[i].eos) << name;
      }
      EXPECT_EQ(text, form.prompt(talk, has_eos ? std::optional<std::string>("</s>") : std::nullopt, false));
      EXPECT_THAT(learned, ::testing::AllOf(::testing::HasSubstr("Yo"), ::testing::HasSubstr("No."))) << name;
      EXPECT_THAT(learned, ::testing::Not(::testing::HasSubstr("Hi"))) << name;
    }
  }
}

TEST(ChatTemplate, SaysWhatStandsAroundAReply) {
  for (const std::string_view name : ChatTemplate::names()) {
    const ChatTemplate form = ChatTemplate::by_name(name);
    for (const bool has_eos : {true, false}) {
      SCOPED_TRACE(name);
      const auto parts = form.parts(Messages{{"user", "Hi"}, {"assistant", "Yo"}}, has_eos);
      const auto reply =
          std::find_if(parts.begin(), parts.end(), [](const ChatPart& part) { return part.learned; });
      ASSERT_NE(reply, parts.end());
      const ChatPart end = form.reply_end(has_eos);
      EXPECT_EQ(reply->text, concat(form.reply_begin(), "Yo", end.text));
      EXPECT_EQ(reply->eos, end.eos);
      EXPECT_TRUE(end.learned);
    }
  }
}

TEST(ChatTemplate, StretchesBecomeIdsOneByOne) {
  ByteBpeModel parts = test::small_bpe_model({{"a", "b"}});
  parts.added_tokens = {{.content = "<s>"}, {.content = "</s>"}};
  parts.prefix_tokens = {"<s>"};
  std::vector<TokenId> ids;
  const ByteBpe without_eos(parts);
  append_ids(ids, {.text = "a", .eos = true}, without_eos);
  EXPECT_EQ(ids, (std::vector<TokenId>{257, 'a'}));  // behind the tokens of the template
  parts.eos_token = "</s>";
  const ByteBpe tokenizer(parts);
  append_ids(ids, {.text = "b", .eos = true}, tokenizer);  // not merged with what stands before
  append_ids(ids, {.text = "", .eos = true}, tokenizer);   // it is there
  EXPECT_EQ(ids, (std::vector<TokenId>{257, 'a', 'b', 258}));
  append_ids(ids, {.text = "ab</s>", .eos = true}, tokenizer);
  EXPECT_EQ(ids, (std::vector<TokenId>{257, 'a', 'b', 258, 256, 258}));
  append_ids(ids, {.text = "<s>"}, tokenizer, false);
  EXPECT_EQ(ids, (std::vector<TokenId>{257, 'a', 'b', 258, 256, 258, '<', 's', '>'}));
}

// A stop string that a conversation goes on with, right after a reply, and that no reply has in it.
TEST(ChatTemplate, StopStringsEndReplies) {
  for (const std::string_view name : ChatTemplate::names()) {
    const ChatTemplate form = ChatTemplate::by_name(name);
    const std::string before = form.prompt(Messages(kTalk.begin(), kTalk.begin() + 2));
    const std::string after = form.prompt(kTalk).substr(before.size());
    const std::size_t stop = after.find(form.stop_string());
    ASSERT_NE(stop, after.npos) << name;
    const std::string reply = after.substr(0, stop);
    EXPECT_THAT(reply, ::testing::AnyOf("Yo", " Yo", " Yo ")) << name;
  }
}

TEST(ChatTemplate, RefusesWhatItDoesNotKnow) {
  test::expect_error<ArgumentError>([] { ChatTemplate::by_name("jinja"); },
                                    {"chat_template", "\"jinja\"", "zephyr, chatml, alpaca, llama2, plain"});
  const auto expect_refused = [](std::string_view name, const Messages& messages,
                                 std::initializer_list<std::string_view> words) {
    test::expect_error<ArgumentError>([&] { ChatTemplate::by_name(name).prompt(messages); }, words);
  };
  expect_refused("plain", {{"user", ""}, {"tool", ""}}, {"messages[1].role is \"tool\""});
  expect_refused("llama2", {{"assistant", ""}},
                 {"messages[0].role is \"assistant\", expected \"user\"", "llama2"});
  expect_refused("alpaca", {{"user", ""}, {"assistant", ""}, {"system", ""}},
                 {"messages[2].role is \"system\", expected \"user\""});
  EXPECT_EQ(ChatTemplate::by_name("chatml").problem(Messages{{"user", ""}, {"user", ""}}), std::nullopt);
}

}  // namespace
}  // namespace gpt
