// Conversations: what the model is fed, what is shown and kept of its replies.
#include "examples/chat_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "examples/reply_filter.h"
#include "examples/scripted_chat.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/train/jsonl_dataset.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace gpt::test::chat_session {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using Ids = std::vector<TokenId>;

constexpr TokenId kEos = 259;

Ids joined(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Ids dataset_ids(const std::filesystem::path& file, const Tokenizer& tokenizer, std::string_view form) {
  const auto dataset = JsonlDataset::from_file(
      file, tokenizer, {.max_length = 4096, .chat_template = ChatTemplate::by_name(form)});
  EXPECT_EQ(dataset.size(), 1);
  return dataset.at(0).ids;
}

// What a tuned model says: the stretch that it learned, and then, where no eos token ends it, what follows in the form.
Ids learned_reply(const ScriptedChat& chat, std::string_view form_name, bool has_eos, std::string_view text) {
  const ChatTemplate form = ChatTemplate::by_name(form_name);
  const ChatPart end = form.reply_end(has_eos);
  Ids ids = chat.encode(concat(form.reply_begin(), text, end.text));
  if (end.eos) {
    ids.push_back(kEos);
  } else if (form.stop_string() != end.text) {
    std::string_view rest = form.stop_string();
    if (rest.starts_with(end.text)) rest.remove_prefix(end.text.size());
    ids = joined(std::move(ids), chat.encode(rest));
  }
  return ids;
}

TEST(ChatSession, FeedsWhatTheDatasetMakesOfTheSameConversation) {
  const TempDir directory;
  for (const bool has_im_end : {false, true})
    for (const bool has_eos : {true, false})
      for (const std::string_view form : ChatTemplate::names()) {
        SCOPED_TRACE(concat(form, has_eos ? " with eos" : "", has_im_end ? " and <|im_end|>" : ""));
        const auto tokenizer = chat_tokenizer(has_eos, has_im_end);
        ScriptedChat chat(tokenizer, form, 1024);
        chat.session->set_system("Sing.");
        for (const char* const reply : {"Nothing!", "La  la:\n la", "the thing"}) {
          const Ids script = learned_reply(chat, form, has_eos, reply);
          EXPECT_EQ(chat.say(concat("What about ", reply, "?"), script),
                    std::string(reply) + (form == "llama2" ? " " : ""));
          EXPECT_EQ(chat.turn.finish_reason, ChatTemplate::by_name(form).reply_end(has_eos).eos
                                                 ? FinishReason::kEos
                                                 : FinishReason::kStopString);
          EXPECT_EQ(chat.exchanges().back().reply, reply);
          chat.session->save(directory / "talk.jsonl");
          EXPECT_EQ(dataset_ids(directory / "talk.jsonl", *tokenizer, form), chat.history());
        }
        // And so is what the next reply is asked for with: the dataset's ids up to where it begins.
        chat.say("More?", learned_reply(chat, form, has_eos, "No."));
        chat.session->save(directory / "talk.jsonl");
        const Ids all = dataset_ids(directory / "talk.jsonl", *tokenizer, form);
        EXPECT_EQ(chat.prompt, Ids(all.begin(), all.begin() + std::ssize(chat.prompt)));
        EXPECT_EQ(all.size(), chat.prompt.size() + chat.exchanges().back().reply_ids.size());
      }
}

TEST(ChatSession, KeepsRepliesAsTheIdsThatTheyWereChosenAs) {
  const TempDir directory;
  const auto tokenizer = chat_tokenizer();
  ScriptedChat chat(tokenizer);
  const Ids spelled = {'t', 'h', 'i', 'n', 'g', kEos};
  ASSERT_NE(chat.encode("thing"), Ids(spelled.begin(), spelled.end() - 1));
  EXPECT_EQ(chat.say("A", spelled), "thing");
  EXPECT_EQ(chat.exchanges()[0].reply_ids, spelled);
  const Ids first = joined(chat.prompt, spelled);
  chat.say("B", "x</s>");
  EXPECT_EQ(Ids(chat.prompt.begin(), chat.prompt.begin() + std::ssize(first)), first);

  chat.session->save(directory / "talk.json");
  const Ids before = chat.history();
  ScriptedChat again(tokenizer);
  again.session->load(directory / "talk.json");
  EXPECT_EQ(again.history(), before);
  EXPECT_EQ(again.exchanges()[0].reply, "thing");
  // Messages alone are encoded.
  write_file(
      directory / "text.json",
      "\xEF\xBB\xBF"
      R"({"messages": [{"role": "user", "content": "A"}, {"role": "assistant", "content": "thing"}]})");
  again.session->load(directory / "text.json");
  EXPECT_EQ(again.exchanges()[0].reply_ids, joined(chat.encode("thing"), {kEos}));
}

TEST(ChatSession, EndsEveryReplyAsTheFormDoes) {
  ScriptedChat chat(chat_tokenizer(), "zephyr", 512, {.max_new_tokens = 12});
  // By the stop string, of which nothing is shown or kept, and by its length.
  EXPECT_EQ(chat.say("A", "so\n<|user|>"), "so");
  EXPECT_THAT(chat.pieces, ElementsAreArray({"s", "o"}));
  EXPECT_EQ(chat.exchanges()[0].reply_ids, joined(chat.encode("so"), {kEos}));
  EXPECT_EQ(chat.say("B", "0123456789abcdef"), "0123456789ab");
  EXPECT_EQ(chat.turn.finish_reason, FinishReason::kLength);
  EXPECT_EQ(chat.exchanges()[1].reply_ids, joined(chat.encode("0123456789ab"), {kEos}));
  // What only began like it is shown in the end.
  EXPECT_EQ(chat.say("C", "\n<|us</s>"), "\n<|us");
  EXPECT_EQ(chat.exchanges()[2].reply, "\n<|us");
  // It may begin in the prompt, which ends in a line end.
  EXPECT_EQ(chat.say("D", "<|user|>"), "");
  EXPECT_EQ(chat.exchanges()[3].reply_ids, Ids{kEos});
  EXPECT_EQ(chat.exchanges()[3].reply, "");
}

TEST(ChatSession, GivesACutReplyTheEndOfItsForm) {
  const auto kept = [](std::string_view form, bool has_eos, std::string_view said, std::string_view shown) {
    ScriptedChat chat(chat_tokenizer(has_eos), form, 512, {.max_new_tokens = std::ssize(said)});
    EXPECT_EQ(chat.say("A", said), shown);
    EXPECT_EQ(chat.turn.finish_reason, FinishReason::kLength);
    EXPECT_EQ(chat.exchanges()[0].reply, "so");
    return chat.session->conversation().tokenizer().decode(chat.exchanges()[0].reply_ids);
  };
  EXPECT_EQ(kept("zephyr", true, "so", "so"), "so</s>");
  EXPECT_EQ(kept("zephyr", false, "so", "so"), "so\n");
  EXPECT_EQ(kept("chatml", true, "so", "so"), "so<|im_end|>");
  EXPECT_EQ(kept("alpaca", false, "so", "so"), "so\n\n");
  EXPECT_EQ(kept("plain", true, " so", "so"), " so</s>");
  EXPECT_EQ(kept("llama2", true, " so", "so"), " so </s>");
  EXPECT_EQ(kept("llama2", true, " so ", "so "), " so </s>");
  EXPECT_EQ(kept("llama2", false, "so", "so"), "so ") << "nothing is put before what was said";
}

TEST(ChatSession, CutsATokenInWhichAStopStringBegins) {
  ScriptedChat chat(chat_tokenizer(), "zephyr", 512,
                    {.stop_strings = std::vector<std::string>{"ng!", "never"}});
  const Ids thing = chat.encode("thing");
  ASSERT_EQ(thing.size(), 2u);
  EXPECT_EQ(chat.say("A", joined(thing, {'!', '?'})), "thi");
  EXPECT_EQ(chat.exchanges()[0].reply, "thi");
  EXPECT_EQ(chat.exchanges()[0].reply_ids, (Ids{thing[0], 'i', kEos}));
  EXPECT_EQ(chat.turn.reply_tokens, 3);
  // One in the message does not count, and the other ones still do.
  EXPECT_EQ(chat.say("ng!", "a never b"), "a ");
}

TEST(ChatSession, KeepsHalfACharacterAsItWasChosen) {
  ScriptedChat chat(chat_tokenizer(), "zephyr", 512, {.max_new_tokens = 2});
  EXPECT_EQ(chat.say("A", {'x', 0xe2}), "x\xef\xbf\xbd");
  EXPECT_EQ(chat.exchanges()[0].reply_ids, (Ids{'x', 0xe2, kEos}));
  const TempDir directory;
  chat.session->save(directory / "talk.json");
  ScriptedChat again(chat_tokenizer());
  again.session->load(directory / "talk.json");
  EXPECT_EQ(again.exchanges()[0].reply_ids, chat.exchanges()[0].reply_ids);
}

TEST(ChatSession, ShowsNoTextOfTheTokenThatEndsAReply) {
  ScriptedChat chat(chat_tokenizer(), "zephyr", 512, {.eos_token_id = Ids{'!'}});
  EXPECT_EQ(chat.say("A", "yes!no"), "yes");
  EXPECT_EQ(chat.exchanges()[0].reply, "yes");
}

TEST(ChatSession, StopsAReplyWithWhatWasSaid) {
  ScriptedChat chat(chat_tokenizer());
  std::stop_source stop;
  std::size_t tokens = 0;
  chat.script = chat.encode("one two three");
  chat.turn = chat.session->say("A",
                                {.on_text =
                                     [&](std::string_view) {
                                       if (++tokens == 5) stop.request_stop();
                                     },
                                 .on_forget = {}},
                                stop.get_token());
  EXPECT_TRUE(chat.turn.was_answered);
  EXPECT_EQ(chat.turn.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(chat.exchanges()[0].reply, "one t");
  EXPECT_EQ(chat.exchanges()[0].reply_ids, joined(chat.encode("one t"), {kEos}));
  // Before the first token there is no reply.
  EXPECT_EQ(chat.say("B", chat.encode("no"), stop.get_token()), "");
  EXPECT_FALSE(chat.turn.was_answered);
  EXPECT_EQ(chat.exchanges().size(), 1u);
  EXPECT_EQ(chat.say("B", "yes</s>"), "yes");
}

TEST(ChatSession, ComputesOnlyWhatIsNew) {
  ScriptedChat chat(chat_tokenizer(), "zephyr", 1024);
  chat.session->set_system("A long system message, of more than two pages of tokens.");
  chat.say("A message.", "A reply of some more tokens than a page holds</s>");
  EXPECT_EQ(chat.turn.cached_tokens, 0);
  for (const char* const message : {"And another one?", "And again?"}) {
    // The last token that was chosen was not fed, and a page is kept when it is full.
    const auto fed = std::ssize(chat.history()) - 1, computed = chat.session->statistics().computed_tokens;
    chat.say(message, "Another reply of some tokens</s>");
    EXPECT_EQ(chat.turn.cached_tokens, fed / 16 * 16);
    EXPECT_EQ(chat.turn.prompt_tokens, std::ssize(chat.prompt));
    EXPECT_EQ(chat.session->statistics().computed_tokens - computed,
              std::ssize(chat.prompt) - chat.turn.cached_tokens + chat.turn.reply_tokens - 1);
  }
}

TEST(ChatSession, RepliesAreTheGenerators) {
  const Model model = chat_model(chat_tokenizer());
  const GenerateOptions options{.max_new_tokens = 20, .do_sample = true, .seed = 5};
  program::ChatSession chat(model, {}, options), same(model, {}, options);
  const auto expected = [&](const std::string& message, std::uint64_t stream) {
    GenerateOptions alone = options;
    alone.stream = stream;
    alone.stop_strings = {"\n<|user|>"};
    alone.eos_token_id = {kEos};
    const Ids prompt = chat.conversation().prompt(message);
    Ids ids = Generator(model).generate(prompt, alone).ids;
    if (ids.back() != kEos) ids.push_back(kEos);
    return ids;
  };
  for (const std::uint64_t stream : {std::uint64_t{0}, std::uint64_t{1}}) {
    const Ids ids = expected("Hi", stream);
    for (program::ChatSession* const session : {&chat, &same}) {
      session->say("Hi", {});
      EXPECT_EQ(session->conversation().exchanges.back().reply_ids, ids);
    }
  }
  // Another reply is from another stream, and one that is loaded goes on with the next.
  const TempDir directory;
  chat.undo();
  const Ids ids = expected("Hi", 2);
  chat.say("Hi", {});
  EXPECT_EQ(chat.conversation().exchanges.back().reply_ids, ids);
  same.regenerate({});
  EXPECT_EQ(same.conversation().exchanges.back().reply_ids, ids);
  EXPECT_EQ(same.conversation().exchanges.size(), 2u);
  same.save(directory / "talk.json");
  program::ChatSession loaded(model, {}, options);
  loaded.load(directory / "talk.json");
  for (program::ChatSession* const session : {&chat, &loaded}) session->say("More", {});
  EXPECT_EQ(loaded.conversation().exchanges.back().reply_ids, chat.conversation().exchanges.back().reply_ids);
}

TEST(ChatSession, ForgetsTheOldestWhereTheContextIsFull) {
  ScriptedChat chat(chat_tokenizer(), "zephyr", 160, {.max_new_tokens = 10});
  chat.session->set_system("Sys");
  for (int i = 0; i < 4; ++i) chat.say(concat("message ", i), concat("reply ", i, "</s>"));
  EXPECT_EQ(chat.forgotten, 1u);
  EXPECT_EQ(chat.exchanges().size(), 3u);
  EXPECT_EQ(chat.exchanges()[0].message, "message 1");
  const std::string prompt = chat.session->conversation().tokenizer().decode(chat.prompt);
  EXPECT_THAT(prompt, ::testing::StartsWith("<|system|>\nSys</s>\n<|user|>\nmessage 1</s>"));
  EXPECT_LE(std::ssize(chat.prompt) + 10, 160 + 1);
  // As few as will do: up to the last token of the context.
  const auto& conversation = chat.session->conversation();
  const auto room = [&](std::size_t first, const std::string& message) {
    return 160 + 1 - 10 - std::ssize(conversation.prompt(message, first));
  };
  const std::string fits(static_cast<std::size_t>(room(1, "")), 'x');
  chat.forgotten = 0;
  chat.say(fits, "a</s>");
  EXPECT_EQ(chat.forgotten, 1u);
  EXPECT_EQ(std::ssize(chat.prompt), 160 + 1 - 10);
  // What does not fit by itself leaves all as it was.
  const Ids before = chat.history();
  const std::string too_long(static_cast<std::size_t>(room(conversation.exchanges.size(), "")) + 1, 'x');
  expect_error<ArgumentError>([&] { chat.say(too_long, "b</s>"); },
                              {"the message takes 152 tokens", "10 more", "n_positions = 160"});
  EXPECT_EQ(chat.history(), before);
}

TEST(ChatSession, AFailedTurnLeavesTheConversationAsItWas) {
  Model model = chat_model(chat_tokenizer());
  program::ChatSession chat(model, {}, {.max_new_tokens = 4});
  chat.say("A", {});
  const auto before = chat.conversation().exchanges.back().reply_ids;
  const auto expect_unchanged = [&] {
    ASSERT_EQ(chat.conversation().exchanges.size(), 1u);
    EXPECT_EQ(chat.conversation().exchanges[0].message, "A");
    EXPECT_EQ(chat.conversation().exchanges[0].reply_ids, before);
  };
  const program::TurnCallbacks full_disk{
      .on_text = [](std::string_view) { throw std::runtime_error("disk"); }, .on_forget = {}};
  EXPECT_THROW(chat.say("B", full_disk), std::runtime_error);
  expect_unchanged();
  model.network().visit([](const std::string& name, Tensor& tensor, const Shape&) {
    if (name == "h.1.mlp.c_fc.bias") tensor.data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  });
  expect_error<NumericError>([&] { chat.say("C", {}); }, {"h.1.mlp.c_fc.bias"});
  expect_unchanged();
  expect_error<NumericError>([&] { chat.regenerate({}); }, {"h.1.mlp.c_fc.bias"});
  expect_unchanged();
}

TEST(ChatSession, RefusesWhatItCannotDo) {
  const Model model = chat_model(chat_tokenizer());
  expect_error<UnsupportedError>([&] { program::ChatSession(model, {}, {.num_beams = 2}); }, {"num_beams"});
  expect_error<UnsupportedError>([&] { program::ChatSession(model, {}, {.guidance_scale = 2.0}); },
                                 {"guidance_scale"});
  expect_error<ArgumentError>([&] { program::ChatSession(model, {}, {.max_new_tokens = 513}); },
                              {"max_new_tokens is 513", "n_positions = 512"});
  expect_error<UnsupportedError>([&] { program::ChatSession(chat_model(nullptr), {}, {}); }, {"tokenizer"});
  program::ChatSession chat(model, {}, {});
  EXPECT_EQ(chat.max_new_tokens(), 256);
  EXPECT_EQ(ScriptedChat(chat_tokenizer(), "zephyr", 160).session->max_new_tokens(), 80);
  expect_error<ArgumentError>([&] { chat.undo(); }, {"nothing was said yet"});
  expect_error<ArgumentError>([&] { chat.regenerate({}); }, {"nothing was said yet"});
}

TEST(ChatSession, RefusesFilesThatDoNotFitAndStaysAsItWas) {
  const TempDir directory;
  ScriptedChat chat(chat_tokenizer());
  chat.session->set_system("Sys");
  chat.say("A", "thing</s>");
  chat.session->save(directory / "talk.json");
  const std::string line = read_file(directory / "talk.json");
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const auto expect_refused = [&](std::string_view part, std::string_view replacement,
                                  std::initializer_list<std::string_view> words, ScriptedChat& into) {
    std::string changed = line;
    const std::size_t place = changed.find(part);
    ASSERT_NE(place, changed.npos) << part;
    changed.replace(place, part.size(), replacement);
    write_file(directory / "changed.json", changed);
    const auto before = into.exchanges().size();
    std::string message;
    try {
      into.session->load(directory / "changed.json");
      ADD_FAILURE() << "loads " << changed;
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_THAT(message, HasSubstr("changed.json]"));
    for (const std::string_view word : words) EXPECT_THAT(message, HasSubstr(std::string(word)));
    EXPECT_EQ(into.exchanges().size(), before);
  };
  expect_refused("{\"messages", "[\"messages", {"not valid JSON"}, chat);
  expect_refused("messages", "massages", {"messages is not there"}, chat);
  expect_refused("\"user\"", "\"assistant\"", {"messages[1].role is \"assistant\", expected \"user\""}, chat);
  expect_refused("\"system\"", "\"tool\"", {"messages ends without a reply"}, chat);
  expect_refused("\"role\":\"user\",", "", {"messages[1].role"}, chat);
  expect_refused("\"content\":\"A\"", "\"content\":1", {"messages[1].content"}, chat);
  expect_refused("zephyr", "chatml", {"chat_template is \"chatml\", expected \"zephyr\""}, chat);
  expect_refused("\"chat_template\":\"zephyr\",", "", {"reply_ids but no chat_template"}, chat);
  expect_refused("\"content\":\"thing\"", "\"content\":\"King\"",
                 {"messages[2].content is not the text of reply_ids[0]"}, chat);
  expect_refused("\"reply_ids\":[[", "\"reply_ids\":[[280,", {"reply_ids[0][0]", "vocab_size = 280"}, chat);
  expect_refused("\"reply_ids\":[[", "\"reply_ids\":[[-1,", {"reply_ids[0][0]"}, chat);
  expect_refused("\"reply_ids\":[[", "\"reply_ids\":[[],[", {"reply_ids is no list of 1"}, chat);
  expect_refused("\"replies\":1", "\"replies\":-1", {"replies"}, chat);
  ScriptedChat other(chat_tokenizer(true, true));
  expect_refused("", "", {"tokenizer is", "fingerprint"}, other);
  expect_error<IoError>([&] { chat.session->load(directory / "none"); }, {"none"});
  expect_error<IoError>([&] { chat.session->save(directory / "none/talk.json"); }, {"none/talk.json"});
}

TEST(ReplyFilter, HoldsBackWhatMayBecomeAStopString) {
  const std::vector<std::string> stops = {"\nuser:", "END"};
  program::ReplyFilter filter(stops, "assistant:", " ");
  EXPECT_EQ(filter.push(" Hi"), "Hi");
  EXPECT_EQ(filter.push(" E"), " ");
  EXPECT_EQ(filter.push("NE"), "EN");
  EXPECT_EQ(filter.push("a\nus"), "Ea");
  EXPECT_EQ(filter.push("es\n"), "\nuses");
  EXPECT_EQ(filter.push("user: what"), "");
  EXPECT_EQ(filter.push("ever"), "");
  EXPECT_EQ(filter.finish(), "");
  program::ReplyFilter cut(stops, "", "");
  EXPECT_EQ(cut.push("x\nuser"), "x");
  EXPECT_EQ(cut.finish(), "\nuser");
  // A stop string before the reply is none of it, one that begins there is.
  program::ReplyFilter behind(stops, "END\nus", "");
  EXPECT_EQ(behind.push("e"), "");
  EXPECT_EQ(behind.push("x"), "ex");
  program::ReplyFilter across(stops, "END\nus", "");
  EXPECT_EQ(across.push("er:"), "");
  EXPECT_EQ(across.finish(), "");
}

}  // namespace
}  // namespace gpt::test::chat_session
