// Structured output: texts that a regular expression, a JSON schema or a grammar admits, and no others.
#pragma once

#include <cstdint>
#include <memory>
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
  /// The texts that match the pattern as a whole, in ECMA-262's syntax with RE2's understanding of it: . is any character but a
  /// line feed; \d \w and \s are ASCII's, \S no white space of Unicode; \p{L}, \p{Lu} and so on are general categories; groups
  /// of all kinds group; quantifiers are * + ? {m} {m,} {m,n}, up to 100000, lazy ones (which change no set of texts)
  /// too; ^ and $ may stand at the ends. Throws FormatError with the position for what is no pattern, UnsupportedError
  /// naming it with the position: back-references, look-around, \b and other anchors, flags, possessive quantifiers.
  static Grammar from_regex(std::string_view pattern);

  /// JSON texts that are valid under a JSON schema (2020-12; what the drafts from 4 on say the same way). Honoured are
  ///   type (also a list; nullable), enum, const, properties, required, additionalProperties, items, prefixItems (items as
  ///   a list, additionalItems), minItems, maxItems, minLength, maxLength, pattern (searched), format (date, time,
  ///   date-time, uuid, email, hostname, ipv4), minimum, maximum, exclusiveMinimum, exclusiveMaximum, anyOf, allOf, oneOf
  ///   where its branches exclude each other visibly, $ref into the same text, also recursive, true and false.
  /// Not every valid text can come: objects have their members in the order of "properties", and others only where
  /// additionalProperties says so, or nothing says which there are (their names may repeat, of which readers take the last); a schema without "type" means the types that its
  /// other keywords speak of; arrays and objects are written with one space or none behind : and , ; strings with the
  /// escapes that JSON demands and no other; integers with at most 15 digits, numbers between bounds without an exponent.
  /// Throws FormatError for what is no schema, and UnsupportedError for every other keyword that is not an annotation, with
  /// its JSON pointer.
  static Grammar from_json_schema(std::string_view schema);

  /// Any JSON object.
  static Grammar json_object();

  /// The texts of the rule root in GBNF, the notation of llama.cpp (grammars/README.md there): name ::= alternatives | ...,
  /// texts in "", classes in [] and [^], . for any character, groups, * + ? {m} {m,} {m,n}, # comments, the escapes \n
  /// \r \t \\ \" \[ \] \- \^ \xXX \uXXXX \UXXXXXXXX. Throws FormatError with line and column, UnsupportedError for left recursion, naming
  /// the rule, and for tokens <...>.
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
  /// no text that is theirs whatever stands beside them (WordPiece with clean_up_tokenization_spaces).
  CompiledGrammar(const Grammar& grammar, const Tokenizer& tokenizer);
  ~CompiledGrammar();
  CompiledGrammar(CompiledGrammar&&) noexcept;
  CompiledGrammar& operator=(CompiledGrammar&&) noexcept;

  /// A text takes no more tokens than this if it must be short. The fewest, for a grammar without recursion.
  std::int64_t least_tokens() const noexcept;

  /// Whether it was compiled for this tokenizer, or one with the same fingerprint.
  bool is_for(const Tokenizer& tokenizer) const;

 private:
  friend class GrammarConstrained;
  std::shared_ptr<const generate::TokenMasks> masks_;
  const Tokenizer* tokenizer_ = nullptr;  // compared, not used
  std::uint64_t fingerprint_ = 0;
};

/// Drops the tokens behind which the new tokens' text could not be completed to one of the grammar with those that are left up to
/// max_length. The eos tokens stay where the text is complete, and nowhere else. So a sequence that is not stopped has a text
/// of the grammar in the end, whatever its length; throws ArgumentError where all that remains was dropped before, and when
/// the new tokens are in no text of the grammar.
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
