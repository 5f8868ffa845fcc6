#!/usr/bin/env python3
"""A small tokenizer, a recorded training run and a trained checkpoint, all from one text.

    python3 make_training_goldens.py --out DIR --corpus FILE [--seed N]

DIR/train_parity: 200 recorded steps (B = 8, T = 128), in float32, as README 5 of the format describes them.
DIR/demo-model:   the same network after DEMO_STEPS more steps on random batches, stored in BF16, with its tokenizer, the
                  loss over the validation part (val.json) and greedy continuations (golden.json). These two are computed
                  in float64 from the widened weights.
"""
import argparse
import json
import math
import os

import numpy as np
import torch

import st_io
from bpe_train import encode, train as train_bpe
from gpt2_reference import decay_param, leafs
from make_demo_goldens import continuations, validation_loss, window_loss

VOCAB, DEMO_STEPS, WINDOW, NEW_TOKENS = 384, 600, 64, 48
CONFIG = dict(V=VOCAB, ctx=128, L=2, H=2, D=24, act="gelu_new", ln_eps=1e-5, scale=True, inv_layer=False)
B, T, STEPS, WARMUP = 8, 128, 200, 20
PROMPTS = ["First Citizen:", "ROMEO:\nWhat", "the ", "\n", "My lord,", "It is"]


def init_params(seed):
    """GPT-2's initialisation, in float32."""
    r = np.random.default_rng([seed, 5])
    c = CONFIG
    D, I = c["D"], 4 * c["D"]
    n = lambda s, *shape: torch.from_numpy((r.standard_normal(shape) * s).astype(np.float32))
    p = {"wte.weight": n(0.02, c["V"], D), "wpe.weight": n(0.01, c["ctx"], D)}
    for i in range(c["L"]):
        h, out = f"h.{i}.", 0.02 / math.sqrt(2 * c["L"])
        for ln in ("ln_1", "ln_2"):
            p[h + ln + ".weight"], p[h + ln + ".bias"] = torch.ones(D), torch.zeros(D)
        for name, rows, cols, std in (("attn.c_attn", D, 3 * D, 0.02), ("attn.c_proj", D, D, out),
                                      ("mlp.c_fc", D, I, 0.02), ("mlp.c_proj", I, D, out)):
            p[h + name + ".weight"], p[h + name + ".bias"] = n(std, rows, cols), torch.zeros(cols)
    p["ln_f.weight"], p["ln_f.bias"] = torch.ones(D), torch.zeros(D)
    return p


def config_json(dtype):
    c = CONFIG
    return {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": c["V"], "n_positions": c["ctx"], "n_ctx": c["ctx"],
            "n_embd": c["D"], "n_layer": c["L"], "n_head": c["H"], "n_inner": None, "activation_function": c["act"], "resid_pdrop": 0.0,
            "embd_pdrop": 0.0, "attn_pdrop": 0.0, "layer_norm_epsilon": c["ln_eps"], "initializer_range": 0.02, "scale_attn_weights": True,
            "bos_token_id": VOCAB - 1, "eos_token_id": VOCAB - 1, "tie_word_embeddings": True, "torch_dtype": dtype}


def dump(path, value, **how):
    with open(path, "w") as f:
        json.dump(value, f, **how)


def save_model(folder, p, dtype, dtype_name):
    os.makedirs(folder, exist_ok=True)
    dump(os.path.join(folder, "config.json"), config_json(dtype_name), indent=2)
    st_io.save(os.path.join(folder, "model.safetensors"), {k: v.detach().to(dtype) for k, v in p.items()}, {"format": "pt"})


def save_tokenizer(folder, vocab, merges):
    os.makedirs(folder, exist_ok=True)
    dump(os.path.join(folder, "vocab.json"), vocab, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def optimizer(p):
    return torch.optim.AdamW([{"params": [v for k, v in p.items() if decay_param(k, v)], "weight_decay": 0.1},
                              {"params": [v for k, v in p.items() if not decay_param(k, v)], "weight_decay": 0.0}],
                             lr=1e-3, betas=(0.9, 0.95), eps=1e-8)


def step(p, opt, tokens, starts, lr):
    x, y = (torch.stack([tokens[i + d:i + d + T] for i in starts]) for d in (0, 1))
    for g in opt.param_groups:
        g["lr"] = lr
    opt.zero_grad()
    loss = window_loss(CONFIG, p, x, y)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(list(p.values()), 1.0)
    opt.step()
    return float(loss.detach()), float(norm)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--corpus", required=True)
    ap.add_argument("--seed", type=int, default=1)
    a = ap.parse_args()
    text = open(a.corpus, encoding="utf-8").read()
    vocab, merges = train_bpe(text, VOCAB)
    cut = int(len(text) * 0.9)
    train, val = (torch.tensor(encode(t, vocab, merges)) for t in (text[:cut], text[cut:]))

    folder = os.path.join(a.out, "train_parity")
    save_tokenizer(folder, vocab, merges)
    p = leafs(init_params(a.seed), torch.float32)
    save_model(os.path.join(folder, "init"), p, torch.float32, "float32")
    opt, log = optimizer(p), []
    for s in range(STEPS):
        lr = 1e-3 * min(1.0, s / WARMUP)
        loss, norm = step(p, opt, train, [((s * B + b) * T) % (len(train) - T - 1) for b in range(B)], lr)
        log.append({"step": s, "loss": loss, "grad_norm": norm, "lr": lr})
    save_model(os.path.join(folder, "final"), p, torch.float32, "float32")
    dump(os.path.join(folder, "losses.json"), {"steps": log, "val_loss_first_64_windows": validation_loss(CONFIG, p, val, T, 64),
                                               "train_tokens": len(train), "val_tokens": len(val)}, indent=0)

    r = np.random.default_rng([a.seed, 6])
    for s in range(DEMO_STEPS):
        step(p, opt, train, r.integers(0, len(train) - T - 1, B), 3e-3 * (1 - s / DEMO_STEPS))
    folder = os.path.join(a.out, "demo-model")
    save_tokenizer(folder, vocab, merges)
    save_model(folder, p, torch.bfloat16, "bfloat16")
    q = {k: v.detach().bfloat16().double() for k, v in p.items()}
    dump(os.path.join(folder, "val.json"),
         {"step": STEPS + DEMO_STEPS, "val_loss": validation_loss(CONFIG, q, val, WINDOW, (len(val) - 1) // WINDOW),
          "val_tokens": len(val), "window": WINDOW})
    cases = continuations(CONFIG, q, PROMPTS, NEW_TOKENS, vocab, merges)
    dump(os.path.join(folder, "golden.json"), {"greedy": cases}, indent=1)
    print(f"{len(train)} training tokens, {len(val)} validation tokens, loss {log[0]['loss']:.3f} -> {log[-1]['loss']:.3f}, {len(cases)} continuations")


if __name__ == "__main__":
    main()
