// GPT-2's pattern, as a scanner.
#pragma once

#include <cstddef>
#include <string_view>

namespace gpt {

/// The length of the first match of
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// at the start of `text`, which must not be empty: at least 1. A byte outside a well-formed UTF-8 sequence
/// is a character of no class.
std::size_t next_piece_length(std::string_view text);

/// True when the pieces of every text that begins with `text` are those of its first `at` bytes followed by those of
/// the rest, as the two characters around `at` can tell: they are of different classes, and the one before is neither
/// white space nor an apostrophe. 0 < at < text.size().
///
/// Why that is enough. A piece that held both characters would hold white space anywhere but at its start (no
/// alternative does), or characters of two classes after it (only a contraction does, between its apostrophe and
/// its letters): so a piece ends at `at`. The pieces after it do not depend on what came before, since each is a match
/// at its own start. The pieces before it do not depend on what comes after: a run of one class ends at `at` because of
/// the other class or because the text ends; a contraction that lacks its last letter at the end of the text lacks it
/// in the whole as well, where the next character is of another class; and white space looks only at the character
/// that follows it, which stands before `at`, because the character before `at` is not white space itself. Characters
/// are the same in the parts: inside of one, both sides look like bytes of no class, which are of one class; and an
/// ill-formed sequence stays a row of such bytes when it is cut.
bool is_certain_cut(std::string_view text, std::size_t at);

}  // namespace gpt
