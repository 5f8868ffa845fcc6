#!/usr/bin/env python3
"""What a trained checkpoint says and how well it knows its text, computed in float64 from its widened weights.

    python3 make_demo_goldens.py --model DIR --corpus FILE --out DIR

OUT/val.json:    the mean loss over the last tenth of the corpus, in whole windows of all positions.
OUT/golden.json: greedy continuations of a few prompts, those that withstand float32 rounding.
"""
import argparse
import json
import os

import torch
import torch.nn.functional as F

import st_io
from bpe_train import byte_map, encode
from decoding import greedy
from gpt2_reference import forward

PROMPTS = ["ROMEO:", "KING HENRY:\nWhat", "First Citizen:\n", "To be, or not to be", "JULIET:\nO Romeo,", "My lord,", "The king"]
NEW_TOKENS = 48
LEAST_MARGIN = 2e-3     # of the best logit over the second: float32 rounding stays far below


def window_loss(c, p, x, y):
    logits = forward(c, p, x)["logits"]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


@torch.no_grad()
def validation_loss(c, p, tokens, window, count):
    return sum(float(window_loss(c, p, tokens[i * window:(i + 1) * window][None], tokens[i * window + 1:(i + 1) * window + 1][None]))
               for i in range(count)) / count


def continuations(c, p, prompts, new_tokens, vocab, merges):
    """The golden.json cases of the prompts whose smallest top-1 margin exceeds LEAST_MARGIN."""
    bytes_of = {char: byte for byte, char in byte_map().items()}
    token = {i: bytes(bytes_of[char] for char in t) for t, i in vocab.items() if t != "<|endoftext|>"}
    cases = []
    for prompt in prompts:
        ids = encode(prompt, vocab, merges)
        new, margin = greedy(c, p, ids, new_tokens)
        if margin > LEAST_MARGIN:
            cases.append({"prompt": prompt, "prompt_ids": ids, "generated": new, "text": b"".join(token[i] for i in new).decode(),
                          "min_top1_margin": margin})
    return cases


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    config = json.load(open(os.path.join(a.model, "config.json")))
    c = dict(V=config["vocab_size"], ctx=config["n_positions"], L=config["n_layer"], H=config["n_head"], D=config["n_embd"],
             act=config["activation_function"], ln_eps=config["layer_norm_epsilon"], scale=config["scale_attn_weights"],
             inv_layer=config.get("scale_attn_by_inverse_layer_idx", False))
    p = {k.removeprefix("transformer."): v.double() for k, v in st_io.load(os.path.join(a.model, "model.safetensors")).items()}
    vocab = json.load(open(os.path.join(a.model, "vocab.json"), encoding="utf-8"))
    lines = open(os.path.join(a.model, "merges.txt"), encoding="utf-8").read().split("\n")[1:]
    merges = [tuple(line.split(" ")) for line in lines if line]
    text = open(a.corpus, encoding="utf-8").read()
    val = torch.tensor(encode(text[int(len(text) * 0.9):], vocab, merges))

    os.makedirs(a.out, exist_ok=True)
    loss = validation_loss(c, p, val, c["ctx"], (len(val) - 1) // c["ctx"])
    with open(os.path.join(a.out, "val.json"), "w") as f:
        json.dump({"val_loss": loss, "val_tokens": len(val), "window": c["ctx"]}, f)
    cases = continuations(c, p, PROMPTS, NEW_TOKENS, vocab, merges)
    with open(os.path.join(a.out, "golden.json"), "w") as f:
        json.dump({"greedy": cases}, f, indent=1)
    print(f"loss {loss:.6f} over {len(val)} tokens, {len(cases)} of {len(PROMPTS)} continuations")


if __name__ == "__main__":
    main()
