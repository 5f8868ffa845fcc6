#!/usr/bin/env python3
"""Tokenizer vectors for a byte-level BPE vocabulary, computed independently of the library in plain Python.

    make_tokenizer_goldens.py --tokenizer DIR --out DIR [--seed N] [--rows N]

DIR of --tokenizer holds vocab.json and merges.txt. Written are encode.jsonl, encode_special.jsonl, decode.jsonl,
stream_decode.jsonl, invalid_utf8.jsonl and pieces.jsonl: one JSON object a line, ASCII, characters outside it as
\\uXXXX. The same seed gives the same files. Texts are drawn from blocks whose characters have long had their
classes, so that the version of Python's unicodedata does not matter.
"""
import argparse
import json
import os
import random
import unicodedata

WHITE_SPACE = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F,
               0x205F, 0x3000}
END_OF_TEXT = "<|endoftext|>"
BLOCKS = [(0x20, 0x7E), (0xA1, 0x17F), (0x391, 0x3A1), (0x3B1, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA),
          (0x621, 0x63A), (0x660, 0x669), (0x905, 0x939), (0x93E, 0x94D), (0x966, 0x96F), (0xE01, 0xE3A),
          (0x1100, 0x1112), (0x2010, 0x2027), (0x2070, 0x2071), (0x20A0, 0x20AF), (0x2150, 0x2189), (0x2190, 0x21FF),
          (0x2460, 0x24EA), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x4FFF), (0xAC00, 0xACFF), (0xFB00, 0xFB06),
          (0xFF10, 0xFF5A), (0x10330, 0x1034A), (0x1D400, 0x1D454), (0x1D7CE, 0x1D7FF), (0x1F600, 0x1F64F),
          (0x20000, 0x200FF)]
WORDS = """the thou thy king lord and Romeo ROMEO JULIET shall not I'll we've don't you're he's it'd I'm they'LL love
death O Exeunt speak, hear me! What? 42 1599 3.14 -- ... well-a-day <|endoftext|> <|endoftext Hello world naïve café
Ελλάδα Привет 世界 你好 こんにちは 안녕 العربية हिन्दी ½ Ⅷ ① 😀 👩\u200d👩\u200d👧 🇩🇪
e\u0301 ﬁ int main(void){return 0;} a_b __init__ x+=1 http://example.org/?q=1&r=2 \u00adsoft \ufeff \u200b""".split()
SPACES = [" ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", " \n", "\n ", "\r\n", "\u00a0", "\u3000", "\u2009",
          "\u0085", "\u2028", "\x1c", "\x0b", "\x0c", "\u1680", "\u180e", "\u200b"]


def byte_map():
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return table


def char_class(c):
    if ord(c) in WHITE_SPACE:
        return "S"
    if 0xDC80 <= ord(c) <= 0xDCFF:  # a byte that is no character (Python's surrogateescape)
        return "O"
    category = unicodedata.category(c)
    assert category != "Cn", hex(ord(c))
    return category[0] if category[0] in "LN" else "O"


def split(text):
    """The pieces of GPT-2's pattern, tried alternative by alternative."""
    classes = [char_class(c) for c in text]
    pieces, i = [], 0

    def run(j, of):
        while j < len(text) and classes[j] == of:
            j += 1
        return j

    while i < len(text):
        end = i
        for contraction in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"):
            if text.startswith(contraction, i):
                end = i + len(contraction)
                break
        for of in "LNO":
            if end == i:
                start = i + 1 if text[i] == " " else i
                stop = run(start, of)
                end = stop if stop > start else i
        if end == i:
            stop = run(i, "S")
            end = stop if stop == len(text) or stop == i + 1 else stop - 1
        pieces.append(text[i:end])
        i = end
    return pieces


class Bpe:
    def __init__(self, folder):
        with open(os.path.join(folder, "vocab.json"), encoding="utf-8") as f:
            self.vocab = json.load(f)
        with open(os.path.join(folder, "merges.txt"), encoding="utf-8") as f:
            lines = [line for line in f.read().split("\n") if line and not line.startswith("#version")]
        self.rank = {tuple(line.split(" ")): i for i, line in enumerate(lines)}
        self.spelling = byte_map()
        byte_of = {c: b for b, c in self.spelling.items()}
        self.bytes = {i: bytes(byte_of[c] for c in token) for token, i in self.vocab.items()}
        self.cache = {}

    def piece(self, data):
        if data not in self.cache:
            symbols = [self.spelling[b] for b in data]
            while len(symbols) > 1:
                rank, i = min((self.rank.get(pair, len(self.rank)), i)
                              for i, pair in enumerate(zip(symbols, symbols[1:])))
                if rank == len(self.rank):
                    break
                symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]
            self.cache[data] = [self.vocab[s] for s in symbols]
        return self.cache[data]

    def encode(self, text):
        return [i for p in split(text) for i in self.piece(p.encode("utf-8", "surrogateescape"))]

    def encode_special(self, text):
        ids = []
        for n, stretch in enumerate(text.split(END_OF_TEXT)):
            ids += ([self.vocab[END_OF_TEXT]] if n else []) + self.encode(stretch)
        return ids

    def decode(self, ids):
        return b"".join(self.bytes[i] for i in ids)


def is_prefix_of_character(data):
    """True when the bytes begin a well-formed character and lack at least one byte: no UTF-8 decoder involved."""
    def completions(prefix):
        lead = prefix[0]
        length = 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if 0xF0 <= lead <= 0xF4 else 0
        if len(prefix) >= length:
            return
        second = prefix[1:2] or [0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF]
        for b in second:
            yield bytes([lead, b]) + (bytes(prefix[2:]) + b"\x80\x80")[:length - 2]

    for candidate in completions(data):
        try:
            candidate.decode()
            return True
        except UnicodeDecodeError:
            pass
    return False


def stream(bpe, ids):
    """What is certain after each token: everything but a sequence that further bytes may still complete."""
    chunks, held = [], b""
    for i in ids:
        held += bpe.bytes[i]
        keep = next((n for n in (3, 2, 1) if n <= len(held) and is_prefix_of_character(held[-n:])), 0)
        chunks.append(held[:len(held) - keep].decode("utf-8", "replace"))
        held = held[len(held) - keep:]
    return chunks, held.decode("utf-8", "replace")


def random_char(r):
    while True:
        c = chr(r.randint(*r.choice(BLOCKS)))
        if unicodedata.category(c) != "Cn":
            return c


def random_text(r):
    kind = r.choice(["words", "words", "words", "unicode", "ascii", "spaces", "contractions", "numbers", "controls"])
    n = r.randint(1, 14)
    if kind == "words":
        return kind, "".join(r.choice(WORDS) + r.choice(SPACES) for _ in range(n))
    if kind == "unicode":
        return kind, "".join(random_char(r) for _ in range(n))
    if kind == "ascii":
        return kind, "".join(chr(r.randint(0, 127)) for _ in range(2 * n))
    if kind == "spaces":
        return kind, "".join(r.choice(SPACES + ["a", "1", "!"]) for _ in range(n))
    if kind == "contractions":
        forms = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'r", "'v", "'l", "'", "\u2019s", " ", "x",
                 "9", "!"]
        return kind, "".join(r.choice(forms) for _ in range(n))
    if kind == "numbers":
        forms = ["0", "12", "3.5", ",", " ", "\u0665", "\u00bd", "\u2167", "\uff11", "e", "-"]
        return kind, "".join(r.choice(forms) for _ in range(n))
    return kind, "".join(chr(r.choice([0, 1, 8, 0x1B, 0x1C, 0x1F, 0x7F, 0x80, 0x84, 0x86, 0x9F, 0xAD, 0x20, 0x61]))
                         for _ in range(n))


def invalid_bytes(r):
    fragments = [b"\x80", b"\xbf", b"\xc0\xaf", b"\xc1", b"\xc3", b"\xe0\x80\xaf", b"\xe2\x82", b"\xed\xa0\x80",
                 b"\xf0\x9f", b"\xf0\x9f\x98", b"\xf0\x80\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\xff", b"\xfe",
                 b"\xe1\x80\xe2", b"a", b" ", b"the ", b"'s", b"\n", b" \n ", "é".encode(), "世".encode(), "😀".encode(), b"12", b"!"]
    while True:
        data = b"".join(r.choice(fragments) for _ in range(r.randint(1, 9)))
        if "\ufffd" not in (text := data.decode("utf-8", "replace")):
            continue
        if all(unicodedata.category(c) != "Cn" for c in text):  # neighbours may have joined to an unassigned one
            return data


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=600, help="rows of encode.jsonl; the other files are in proportion")
    args = parser.parse_args()
    bpe = Bpe(args.tokenizer)
    ordinary = [i for i in bpe.bytes if i != bpe.vocab.get(END_OF_TEXT)]

    def write(name, rows):
        with open(os.path.join(args.out, name), "w", encoding="ascii", newline="\n") as f:
            for row in rows:
                f.write(json.dumps(row, separators=(",", ":")) + "\n")

    r = random.Random(f"{args.seed} encode")
    texts = [("fixed", ""), ("fixed", " "), ("fixed", "  "), ("fixed", " '"), ("fixed", "''s"), ("fixed", "a" * 300)]
    texts += [random_text(r) for _ in range(args.rows - len(texts))]
    encoded = [{"cat": cat, "text": text, "ids": bpe.encode(text)} for cat, text in texts]
    assert all(bpe.decode(row["ids"]).decode() == row["text"] for row in encoded)
    write("encode.jsonl", encoded)

    r = random.Random(f"{args.seed} special")
    rows = [END_OF_TEXT, END_OF_TEXT * 2, f" {END_OF_TEXT} ", END_OF_TEXT[:-1], f"<{END_OF_TEXT}>", END_OF_TEXT + "<|endof"]
    rows += [r.choice(["", END_OF_TEXT]).join(random_text(r)[1] + r.choice(["", END_OF_TEXT]) for _ in range(3))
             for _ in range(args.rows // 15)]
    write("encode_special.jsonl",
          [{"text": t, "ids_ordinary": bpe.encode(t), "ids_special": bpe.encode_special(t)} for t in rows])

    r = random.Random(f"{args.seed} decode")
    rows = [[i] for i in sorted(bpe.bytes)[:260]]
    rows += [[r.choice(ordinary) for _ in range(r.randint(0, 12))] for _ in range(args.rows // 6)]
    write("decode.jsonl", [{"ids": ids, "hex": bpe.decode(ids).hex()} for ids in rows])

    r = random.Random(f"{args.seed} stream")
    bytewise = [bpe.vocab[bpe.spelling[b]] for b in range(256)]
    rows = [row["ids"] for row in r.sample(encoded, args.rows // 6)]
    rows += [[bytewise[b] for b in random_text(r)[1].encode()] for _ in range(args.rows // 6)]
    rows += [[bytewise[b] for b in invalid_bytes(r)] for _ in range(args.rows // 6)]
    out = []
    for ids in rows:
        chunks, final = stream(bpe, ids)
        assert "".join(chunks) + final == bpe.decode(ids).decode("utf-8", "replace")
        out.append({"ids": ids, "chunks": chunks, "final": final})
    write("stream_decode.jsonl", out)

    r = random.Random(f"{args.seed} invalid")
    rows = [bytes([b]) for b in range(0x80, 0x100, 3)] + [invalid_bytes(r) for _ in range(args.rows // 4)]
    out = []
    for data in rows:
        lossless = bpe.encode(data.decode("utf-8", "surrogateescape"))
        assert bpe.decode(lossless) == data
        replaced = bpe.encode(data.decode("utf-8", "replace"))
        out.append({"hex": data.hex(), "ids_lossless": lossless, "ids_replaced": replaced})
    write("invalid_utf8.jsonl", out)

    r = random.Random(f"{args.seed} pieces")
    rows = [bytes(r.randrange(256) for _ in range(r.randint(1, 40))) for _ in range(args.rows // 12)]
    rows += [random_text(r)[1].encode() for _ in range(args.rows // 12)]
    rows += [bpe.decode(r.choices(ordinary, k=r.randint(20, 60))) for _ in range(args.rows // 12)]  # long ones
    write("pieces.jsonl", [{"hex": p.hex(), "ids": bpe.piece(p)} for p in rows if p])


if __name__ == "__main__":
    main()
