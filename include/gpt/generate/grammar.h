// Structured output: texts that a regular expression, a JSON schema or a grammar admits, and no others.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "gpt/generate/logits_processor.h"
#include "gpt/text/tokenizer.h"

namespace gpt {

namespace generate {
class Automaton;
class Rules;
class TokenMasks;
}  // namespace generate

/// A set of texts of UTF-8. Immutable, cheap to copy.
///
/// What a grammar may cost is bounded: one that needs too many states, or too much work to find them, is an ArgumentError
/// that says so.
class Grammar {
 public:
  /// The texts that match the pattern as a whole, in ECMA-262's syntax: classes and their negation, groups of all kinds as
  /// groups, alternatives, the quantifiers * + ? {m} {m,} {m,n} up to 100000 and their lazy forms (which change no set of
  /// texts). \d and \w are ASCII's; \s gives ASCII's white space, \S and [^\s] none of Unicode's; . is any character but \n,
  /// \r, U+2028 and U+2029; \p{L}, \p{Lu} and so on are general categories; \xXX, \uXXXX and \u{X} characters. ^ and $ may
  /// stand at the ends, where they say nothing new. Throws FormatError for what is no pattern and UnsupportedError for
  /// back-references, look-around, \b and other anchors, flags and possessive quantifiers, both with the position.
  static Grammar from_regex(std::string_view pattern);

  /// JSON texts that are valid under a JSON schema (2020-12, and what older drafts say in the same way). Honoured are
  ///   type (also a list), enum, const; properties, required, additionalProperties; items, prefixItems (or instead items
  ///   as a list, with additionalItems), minItems, maxItems; minLength, maxLength, pattern (searched for), format (date, time,
  ///   date-time, uuid, email, hostname, ipv4); minimum, maximum, exclusiveMinimum, exclusiveMaximum; anyOf, allOf, and
  ///   oneOf where its branches visibly exclude each other; $ref into the same text, also recursive; true and false.
  /// Annotations say nothing, OpenAPI's nullable among them; every other keyword is refused, and $id below the root.
  ///
  /// Not every valid text can come. Objects have their members in the order of "properties". Others come only where
  /// additionalProperties is there and not false, or where neither it nor properties is; their names may repeat, of which most
  /// readers take the last and strict ones refuse the text. A schema without "type" means the types that its other keywords
  /// speak of, if any. Behind : and , stands one space or none, and no other white space. Strings have the escapes that JSON
  /// demands and no others, and no U+0000; integers at most 15 digits, which a double holds exactly, as do numbers between
  /// bounds, which have no exponent. Throws FormatError for what is no schema, UnsupportedError for what is not supported, with
  /// its JSON pointer.
  static Grammar from_json_schema(std::string_view schema);

  /// Any JSON object. Names may repeat, as those of other members under a schema.
  static Grammar json_object();

  /// The texts of the rule root in GBNF, the notation of llama.cpp (grammars/README.md there): rules name ::= alternatives,
  /// texts in "", classes in [] and [^], . for any character, groups, * + ? {m} {m,} {m,n}, # comments, and the escapes \n \r
  /// \t \\ \" \[ \] \- \^ \xXX \uXXXX \UXXXXXXXX of characters. Throws FormatError with line and column, UnsupportedError
  /// for left recursion, naming the rule, and for tokens <...>.
  static Grammar from_gbnf(std::string_view text);

  /// Whether a text is one of them.
  bool accepts(std::string_view text) const;

 private:
  friend class CompiledGrammar;
  explicit Grammar(const generate::Rules& rules);

  std::shared_ptr<const generate::Automaton> automaton_;
};

/// A grammar for the vocabulary of a tokenizer. Compiling takes from milliseconds to seconds; the object is then shared among
/// generations and threads. What it finds out on the way it keeps, up to about 130 MB.
class CompiledGrammar {
 public:
  /// The tokens are those with text of their own: special ones, and those the tokenizer calls bos, eos, pad and unk, are in no
  /// text. Throws ArgumentError when no text can be put together from them, UnsupportedError for a tokenizer whose tokens have
  /// no text that is theirs whatever stands beside them (those with clean_up_tokenization_spaces).
  ///   vocab_size  the network's, for one that has fewer tokens than the tokenizer: those from there on are left out
  CompiledGrammar(const Grammar& grammar, const Tokenizer& tokenizer,
                  std::optional<std::int64_t> vocab_size = std::nullopt);
  ~CompiledGrammar();
  CompiledGrammar(CompiledGrammar&&) noexcept;
  CompiledGrammar& operator=(CompiledGrammar&&) noexcept;

  /// So many tokens suffice for some text: the fewest, for a grammar without recursion. With it there may be a text of fewer, by
  /// tokens that end several rules at once.
  std::int64_t least_tokens() const noexcept;

  /// Whether it was compiled for this tokenizer, a copy of it, or one whose tokens have the same text. To find out the last
  /// takes as long as to read the vocabulary.
  bool is_for(const Tokenizer& tokenizer) const;
  /// One more than the largest id of the tokens that texts are put together from.
  std::int64_t vocab_size() const noexcept;

 private:
  friend class GrammarConstrained;
  std::shared_ptr<const generate::TokenMasks> masks_;
  std::optional<std::int64_t> vocab_size_;
  std::uint64_t instance_ = 0;  // the tokenizer's
};

/// Drops the tokens behind which the new tokens' text could not be completed with those that are left up to max_length, and the
/// eos tokens where it is not complete. So a sequence that is not stopped has a text of the grammar in the end, whatever
/// its length is, as long as nothing else drops tokens. Throws ArgumentError where nothing is left because other processors
/// dropped it before, and when the new tokens are in no text of the grammar; UnsupportedError behind a prompt without
/// text, for a tokenizer that writes tokens in another way there (WordPiece, sentencepiece).
class GrammarConstrained final : public LogitsProcessor {
 public:
  /// The tokenizer, that of the grammar, must outlive the processor. Throws UnsupportedError for an eos token with text.
  GrammarConstrained(std::shared_ptr<const CompiledGrammar> grammar, const Tokenizer& tokenizer,
                     std::vector<TokenId> eos_token_id);
  ~GrammarConstrained() override;
  void process(std::span<double> scores, const DecodingStep& step, ProcessorScratch& scratch) const override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;  // with what it found out, for all threads
};

}  // namespace gpt
