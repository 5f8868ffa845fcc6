#!/usr/bin/env python3
"""Model goldens for GPT-2: forward, loss, gradients, AdamW, decoding, padding, classification, LoRA, prompt tuning.

    python3 make_goldens.py --out DIR --seed N --config NAME [--as FOLDER]     (NAME: a key of PRESETS, or 'list')

Everything is computed in float64 from the exact values stored in model.safetensors and cast to float32; a float32 run
of the same computation gives the error hint stored beside it. Deterministic by seed (weights, batches and prompts come
from numpy PCG64 streams keyed by seed, preset name and purpose).
"""
import argparse
import json
import math
import os

import numpy as np
import torch
import torch.nn.functional as F

import st_io
from decoding import decoding
from gpt2_reference import decay_param, forward, init_params, leafs, lm_loss, rng_for, train

BIG = 200_000      # parameters with more elements are stored as selected rows only (a preset's `big` overrides it)
BIG_VOCAB = 1000   # with a larger vocabulary logits are stored as selected columns + logsumexp

_BASE = dict(V=97, ctx=32, L=2, H=2, D=16, inner=None, act="gelu_new", dtype="F32", prefix="", B=2, T=12)
PRESETS = {
    "tiny": dict(lora=True, prompt=True, seqcls=True),
    "odd": dict(V=131, ctx=48, L=3, H=5, D=40, inner=100, T=17, B=3, lora=True, prompt=True),
    "small": dict(V=50257, ctx=64, L=2, H=4, D=64, dtype="F16", T=16),
    "small_f32": dict(V=50257, ctx=64, L=2, H=4, D=64, T=16),
    "tiny_relu": dict(act="relu"),
    "tiny_gelu": dict(act="gelu"),
    "tiny_silu": dict(act="silu"),
    "tiny_tanh": dict(act="tanh"),
    "tiny_invlayer": dict(L=3, inv_layer=True),
    "tiny_noscale": dict(scale=False),
    "tiny_noscale_invlayer": dict(L=3, scale=False, inv_layer=True),
    "tiny_eps": dict(ln_eps=1e-2),
    "tiny_untied": dict(untied=True, prefix="transformer.", buffers="BOOL", lora=True),
    "tiny_prefix": dict(prefix="transformer.", buffers="F32", lm_head_copy=True),
    "tiny_bf16": dict(dtype="BF16"),
    "tiny_f16": dict(dtype="F16"),
    "deep1head": dict(V=61, ctx=40, L=7, H=1, D=24, T=15, lora=True, prompt=True, seqcls=True),
    "t1": dict(V=53, ctx=16, B=1, T=1, no_train=True),
    "tfull": dict(V=101, ctx=24, H=3, D=24, T=24, B=3, seqcls=True),
    "heads_eq_dim": dict(V=67, ctx=20, H=16, D=16, L=2, T=11),
    "combo": dict(V=151, ctx=36, L=4, H=3, D=36, inner=72, act="relu", inv_layer=True, untied=True, dtype="BF16", prefix="transformer.",
                  buffers="U8", T=20, B=2, lora=True, prompt=True),
    "long": dict(V=211, ctx=256, L=3, H=4, D=64, T=256, B=1),
    "ctx1": dict(V=31, ctx=1, B=2, T=1, no_train=True),
    "onelayer": dict(V=29, ctx=9, L=1, H=2, D=8, T=2, B=5, inner=8, act="silu", seqcls=True),
    "wide": dict(V=1013, ctx=24, D=12, H=3, T=9, act="gelu", prefix="transformer.", buffers="BOOL", lm_head_copy=True, big=5000),
    "long_thin": dict(V=61, ctx=256, D=12, T=256, B=1),
    "sharded": dict(V=71, ctx=28, L=3, H=3, D=12, inner=20, act="tanh", ln_eps=1e-2, dtype="F16", prefix="transformer.",
                    buffers="F32", shards=3, T=10),
}


def preset(name):
    c = dict(_BASE)
    c.update(scale=True, inv_layer=False, untied=False, ln_eps=1e-5, buffers=None, lm_head_copy=False, lora=False, prompt=False, seqcls=False,
             no_train=False, shards=1, big=BIG)
    c.update(PRESETS[name])
    c["name"] = name
    return c


# ------------------------------------------------------------------------------------------------ golden container
class Golden:
    """Collects expected tensors (float64) with the float32 run beside them."""

    def __init__(self, big=BIG):
        self.t, self.tol, self.meta, self.big = {}, {}, {}, big

    def ints(self, name, x):
        self.t[name] = torch.as_tensor(np.asarray(x), dtype=torch.int64)

    def real(self, name, x64, x32=None):
        x64 = x64.detach().double()
        if x64.dim() == 0:
            x64 = x64[None]
        self.t[name] = x64.float()
        if x32 is not None:
            x32 = x32.detach().double().reshape(x64.shape)
            self.tol[name] = {"max_abs": float(x64.abs().max()) if x64.numel() else 0.0,
                              "f32_err": float((x64 - x32).abs().max()) if x64.numel() else 0.0}

    def param(self, group, name, x64, x32, rows):
        """A parameter-shaped tensor; large ones as selected rows plus Frobenius norm and sum."""
        if x64.numel() > self.big:
            self.meta.setdefault("norms", {})[f"{group}.{name}"] = {"l2": float(x64.norm()), "sum": float(x64.sum())}
            self.real(f"{group}_rows.{name}", x64[rows], x32[rows])
        else:
            self.real(f"{group}.{name}", x64, x32)
            if group.startswith("adamw") and name.endswith(".attn.c_attn.bias"):
                # the key third of this bias has an identically zero gradient; its float32 update is rounding noise
                D = len(x64) // 3
                err = (x64.detach().double() - x32.detach().double()).abs()
                tol = self.tol[f"{group}.{name}"]
                tol["f32_err"], tol["f32_err_key_slice"] = float(torch.cat([err[:D], err[2 * D:]]).max()), float(err[D:2 * D].max())

    def logits(self, name, x64, x32, cols):
        if x64.shape[-1] > BIG_VOCAB:
            self.real(name + "_sel", x64[..., cols], x32[..., cols])
            self.real(name + "_lse", torch.logsumexp(x64, -1), torch.logsumexp(x32, -1))
            self.ints(name + "_argmax", x64.argmax(-1))
        else:
            self.real(name, x64, x32)

    def write(self, folder, stem):
        st_io.save(os.path.join(folder, stem + ".safetensors"), self.t)
        self.meta["tolerances"] = self.tol
        with open(os.path.join(folder, stem + ".json"), "w") as f:
            json.dump(self.meta, f, indent=1)


# ------------------------------------------------------------------------------------------------ goldens of one model
def config_json(c, arch="GPT2LMHeadModel", **extra):
    j = {"model_type": "gpt2", "architectures": [arch], "vocab_size": c["V"], "n_positions": c["ctx"], "n_ctx": c["ctx"], "n_embd": c["D"],
         "n_layer": c["L"], "n_head": c["H"], "n_inner": c["inner"], "activation_function": c["act"], "resid_pdrop": 0.0, "embd_pdrop": 0.0,
         "attn_pdrop": 0.0, "layer_norm_epsilon": c["ln_eps"], "initializer_range": 0.02, "scale_attn_weights": c["scale"],
         "scale_attn_by_inverse_layer_idx": c["inv_layer"], "reorder_and_upcast_attn": False, "use_cache": True,
         "bos_token_id": c["V"] - 1, "eos_token_id": c["V"] - 1,
         "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[c["dtype"]]}
    if c["untied"]:
        j["tie_word_embeddings"] = False
    j.update(extra)
    return j


def write_model(folder, c, p, dt, arch="GPT2LMHeadModel", score=None, **extra):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config_json(c, arch, **extra), f, indent=2)
    t = {}
    for k, v in p.items():
        t[k if k == "lm_head.weight" else c["prefix"] + k] = v.to(dt)
        if c["buffers"] and k.endswith("ln_1.bias"):
            h = c["prefix"] + k[:-len("ln_1.bias")]
            tri = torch.ones(c["ctx"], c["ctx"]).tril()[None, None]
            t[h + "attn.bias"] = {"F32": tri, "BOOL": tri.bool(), "U8": tri.to(torch.uint8)}[c["buffers"]]
            t[h + "attn.masked_bias"] = torch.tensor(-1e4)
    if c["lm_head_copy"]:
        t["lm_head.weight"] = p["wte.weight"].to(dt)
    if score is not None:
        t["score.weight"] = score.to(dt)
    if c["shards"] > 1:
        write_shards(folder, t, c["shards"])
    else:
        st_io.save(os.path.join(folder, "model.safetensors"), t, {"format": "pt"})


def write_shards(folder, tensors, n):
    """The tensors dealt out in turn over n files, and the index that names the file of each."""
    file = lambda i: f"model-{i + 1:05d}-of-{n:05d}.safetensors"
    names = list(tensors)
    for i in range(n):
        st_io.save(os.path.join(folder, file(i)), {k: tensors[k] for k in names[i::n]}, {"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": {k: file(j % n) for j, k in enumerate(names)}}, f, indent=1)


def draw_labels(r, ids):
    """Labels = ids with some positions set to -100 (never all)."""
    lab = ids.copy()
    lab[r.random(ids.shape) < 0.2] = -100
    if ids.shape[1] > 3:
        lab[0, 2:4] = -100
    if (lab[:, 1:] == -100).all():
        lab[:, 1:] = ids[:, 1:]
    return lab


def rows_of_interest(r, c, *idsets):
    used = np.unique(np.concatenate([np.asarray(i).ravel() for i in idsets]))
    return torch.from_numpy(np.unique(np.concatenate([used[used >= 0], r.integers(0, c["V"], 64)])))


def to32(p):
    return {k: v.float() for k, v in p.items()}


def lm_golden(folder, c, p, seed):
    g = Golden(c["big"])
    r = rng_for(seed, c["name"], "batches")
    p32 = to32(p)
    V, B, T = c["V"], c["B"], c["T"]
    ids = r.integers(0, V, (B, T))
    labels = draw_labels(r, ids) if T > 1 else ids.copy()
    tids = r.integers(0, V, (5, B, T))
    tids[:, 0, : T // 2] = tids[0, 0, : T // 2]       # recurring tokens, so that the moments matter
    tlab = np.stack([draw_labels(r, x) for x in tids]) if T > 1 else tids.copy()
    cols = torch.from_numpy(np.sort(r.choice(V, min(V, 256), replace=False)))
    rows = rows_of_interest(r, c, ids[:, :8], tids[0, :, :8])
    g.ints("input_ids", ids)
    g.ints("labels", labels)
    if V > BIG_VOCAB:
        g.ints("logits_cols", cols)
        g.ints("rows.wte.weight", rows)
    I, Lb = torch.from_numpy(ids), torch.from_numpy(labels)

    out = {}
    for dt in (torch.float64, torch.float32):
        q = leafs(p, dt)
        o = forward(c, q, I)
        res = {"o": o}
        lsm = torch.log_softmax(o["logits"], -1)
        if T > 1:
            res["tok"] = lsm[:, :-1].gather(-1, I[:, 1:, None])[..., 0]
        if not c["no_train"]:
            loss = lm_loss(o["logits"], Lb)
            loss.backward()
            res["loss"], res["grad"] = loss, {k: v.grad for k, v in q.items()}
        out[dt] = res
    a, b = out[torch.float64], out[torch.float32]
    g.logits("logits", a["o"]["logits"], b["o"]["logits"], cols)
    if V > BIG_VOCAB:
        g.real("logits_last", a["o"]["logits"][:, -1], b["o"]["logits"][:, -1])
    for i, (x, y) in enumerate(zip(a["o"]["hidden"], b["o"]["hidden"])):
        g.real(f"hidden.{i}", x, y)
    g.real("hidden_final", a["o"]["final"], b["o"]["final"])
    if T > 1:
        g.real("token_logprobs", a["tok"], b["tok"])
        g.real("seq_logprob", a["tok"].sum(-1), b["tok"].sum(-1))
    if not c["no_train"]:
        g.real("loss", a["loss"], b["loss"])
        g.meta["loss"] = float(a["loss"])
        g.meta["grad_norm"] = float(torch.sqrt(sum((x ** 2).sum() for x in a["grad"].values())))
        for k in p:
            g.param("grad", k, a["grad"][k], b["grad"][k], rows)
        TI, TL = torch.from_numpy(tids), torch.from_numpy(tlab)
        g.ints("train_input_ids", tids)
        g.ints("train_labels", tlab)
        fn = lambda q, s: lm_loss(forward(c, q, TI[s])["logits"], TL[s])
        s64, l64, n64 = train(p, fn, 5, torch.float64)
        s32, l32, n32 = train(p, fn, 5, torch.float32)
        for s in (1, 5):
            for k in p:
                g.param(f"adamw{s}", k, s64[s][k], s32[s][k], rows)
        g.real("train_loss", torch.tensor(l64, dtype=torch.float64), torch.tensor(l32))
        g.real("train_grad_norm", torch.tensor(n64, dtype=torch.float64), torch.tensor(n32))
        g.meta["adamw"] = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "clip_norm": 1.0,
                           "decayed": [k for k, v in p.items() if decay_param(k, v)]}
    if T > 2:
        padding_golden(c, p, p32, r, g, cols)
    decoding(c, p, p32, rng_for(seed, c["name"], "prompts"), g)
    g.write(folder, "golden")


def padded(r, c, T, side):
    """A padded batch of 3 rows: ids, mask; pad id = V-1."""
    lens = [T, max(1, T - 3), max(1, T // 3)]
    ids = np.full((3, T), c["V"] - 1)
    mask = np.zeros((3, T), np.int64)
    for b, n in enumerate(lens):
        sl = slice(T - n, T) if side == "left" else slice(0, n)
        ids[b, sl] = r.integers(0, c["V"] - 1, n)
        mask[b, sl] = 1
    return ids, mask


def padding_golden(c, p, p32, r, g, cols):
    for side in ("left", "right"):
        ids, mask = padded(r, c, c["T"], side)
        I, M = torch.from_numpy(ids), torch.from_numpy(mask)
        lab = np.where(mask == 1, ids, -100)
        for b in range(3):
            lab[b, int(np.argmax(mask[b]))] = -100       # first real token: its predecessor is padding
        x, y = forward(c, p, I, mask=M)["logits"], forward(c, p32, I, mask=M)["logits"]
        keep = M.bool()[..., None]
        n = f"pad_{side}_"
        g.ints(n + "input_ids", ids)
        g.ints(n + "attention_mask", mask)
        g.ints(n + "position_ids", (M.cumsum(-1) - 1).masked_fill(M == 0, 1))
        g.ints(n + "labels", lab)
        L = torch.from_numpy(lab)
        g.real(n + "loss", lm_loss(x, L), lm_loss(y, L))
        if c["V"] > BIG_VOCAB:
            x, y = x[..., cols], y[..., cols]
            n += "logits_sel"
        else:
            n += "logits"
        g.real(n, torch.where(keep, x, torch.zeros_like(x)), torch.where(keep, y, torch.zeros_like(y)))


def lora_golden(folder, c, p, seed):
    r = rng_for(seed, c["name"], "lora")
    rank, alpha = 4, 8
    ad = {}
    for k, v in p.items():
        if k.endswith(("c_attn.weight", "c_proj.weight")):
            base = k[:-len(".weight")]
            ad[base + ".A"] = torch.from_numpy((r.standard_normal((rank, v.shape[0])) / math.sqrt(v.shape[0])).astype(np.float32)).double()
            ad[base + ".B"] = torch.from_numpy((r.standard_normal((v.shape[1], rank)) * 0.1).astype(np.float32)).double()
    peft = lambda k: "base_model.model.transformer." + k[:-2] + (".lora_A.weight" if k.endswith(".A") else ".lora_B.weight")
    d = os.path.join(folder, "lora")
    os.makedirs(d, exist_ok=True)
    st_io.save(os.path.join(d, "adapter_model.safetensors"), {peft(k): v.float() for k, v in ad.items()}, {"format": "pt"})
    with open(os.path.join(d, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": None, "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0,
                   "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "bias": "none", "use_rslora": False, "use_dora": False,
                   "modules_to_save": None, "inference_mode": True}, f, indent=2)
    g = Golden()
    ids = r.integers(0, c["V"], (c["B"], c["T"]))
    lab = draw_labels(r, ids)
    tids = r.integers(0, c["V"], (5, c["B"], c["T"]))
    g.ints("input_ids", ids)
    g.ints("labels", lab)
    g.ints("train_input_ids", tids)
    I, Lb, TI = torch.from_numpy(ids), torch.from_numpy(lab), torch.from_numpy(tids)
    res = {}
    for dt in (torch.float64, torch.float32):
        q, w = leafs(ad, dt), {k: v.to(dt) for k, v in p.items()}
        lo = forward(c, w, I, lora={"t": q, "scaling": alpha / rank})["logits"]
        loss = lm_loss(lo, Lb)
        loss.backward()
        snaps, ls, ns = train(ad, lambda z, s: lm_loss(forward(c, w, TI[s], lora={"t": z, "scaling": alpha / rank})["logits"], TI[s]), 5, dt)
        res[dt] = lo, loss, {k: v.grad for k, v in q.items()}, snaps, ls, ns
    a, b = res[torch.float64], res[torch.float32]
    g.real("logits", a[0], b[0])
    g.real("loss", a[1], b[1])
    g.meta["loss"] = float(a[1])
    for k in ad:
        g.real("grad." + peft(k), a[2][k], b[2][k])
        for s in (1, 5):
            g.real(f"adamw{s}." + peft(k), a[3][s][k], b[3][s][k])
    g.real("train_loss", torch.tensor(a[4], dtype=torch.float64), torch.tensor(b[4]))
    g.real("train_grad_norm", torch.tensor(a[5], dtype=torch.float64), torch.tensor(b[5]))
    for k, v in p.items():
        base = k[:-len(".weight")]
        if base + ".A" in ad:
            m = lambda A, B, W: W + (alpha / rank) * (B @ A).T
            g.real("merged." + k, m(ad[base + ".A"], ad[base + ".B"], v), m(ad[base + ".A"].float(), ad[base + ".B"].float(), v.float()))
    g.write(folder, "golden_lora")


def prompt_golden(folder, c, p, seed):
    r = rng_for(seed, c["name"], "prompt_tuning")
    nv = 8
    emb = torch.from_numpy((r.standard_normal((nv, c["D"])) * 0.5).astype(np.float32)).double()
    d = os.path.join(folder, "prompt_tuning")
    os.makedirs(d, exist_ok=True)
    st_io.save(os.path.join(d, "adapter_model.safetensors"), {"prompt_embeddings": emb.float()}, {"format": "pt"})
    with open(os.path.join(d, "adapter_config.json"), "w") as f:
        json.dump({"peft_type": "PROMPT_TUNING", "task_type": "CAUSAL_LM", "base_model_name_or_path": None, "num_virtual_tokens": nv, "token_dim": c["D"],
                   "num_attention_heads": c["H"], "num_layers": c["L"], "num_transformer_submodules": 1, "prompt_tuning_init": "RANDOM",
                   "prompt_tuning_init_text": None, "tokenizer_name_or_path": None, "inference_mode": True}, f, indent=2)
    g = Golden()
    T = min(c["T"], c["ctx"] - nv)
    ids = r.integers(0, c["V"], (c["B"], T))
    lab = draw_labels(r, ids)
    tids = r.integers(0, c["V"], (5, c["B"], T))
    g.ints("input_ids", ids)
    g.ints("labels", lab)
    g.ints("train_input_ids", tids)
    I, Lb, TI = torch.from_numpy(ids), torch.from_numpy(lab), torch.from_numpy(tids)

    def run(w, e, x, y):
        B = x.shape[0]
        lo = forward(c, w, embeds=torch.cat([e[None].expand(B, -1, -1), w["wte.weight"][x]], 1))["logits"]
        return lo, lm_loss(lo, torch.cat([torch.full((B, nv), -100), y], 1))

    res = {}
    for dt in (torch.float64, torch.float32):
        q, w = leafs({"prompt_embeddings": emb}, dt), {k: v.to(dt) for k, v in p.items()}
        lo, loss = run(w, q["prompt_embeddings"], I, Lb)
        loss.backward()
        snaps, ls, ns = train({"prompt_embeddings": emb}, lambda z, s: run(w, z["prompt_embeddings"], TI[s], TI[s])[1], 5, dt)
        res[dt] = lo, loss, q["prompt_embeddings"].grad, snaps, ls, ns
    a, b = res[torch.float64], res[torch.float32]
    g.real("logits", a[0], b[0])
    g.real("loss", a[1], b[1])
    g.meta["loss"] = float(a[1])
    g.real("grad.prompt_embeddings", a[2], b[2])
    for s in (1, 5):
        g.real(f"adamw{s}.prompt_embeddings", a[3][s]["prompt_embeddings"], b[3][s]["prompt_embeddings"])
    g.real("train_loss", torch.tensor(a[4], dtype=torch.float64), torch.tensor(b[4]))
    g.real("train_grad_norm", torch.tensor(a[5], dtype=torch.float64), torch.tensor(b[5]))
    g.write(folder, "golden_prompt_tuning")


def seqcls_golden(folder, c, p, dt_file, seed):
    r = rng_for(seed, c["name"], "seqcls")
    NL = 3
    score = torch.from_numpy((r.standard_normal((NL, c["D"])) / math.sqrt(c["D"])).astype(np.float32)).to(dt_file).double()
    cc = dict(c, prefix="transformer.", untied=False, lm_head_copy=False)
    p = {k: v for k, v in p.items() if k != "lm_head.weight"}
    write_model(folder, cc, p, dt_file, "GPT2ForSequenceClassification", score, pad_token_id=c["V"] - 1, num_labels=NL,
                id2label={str(i): f"LABEL_{i}" for i in range(NL)}, label2id={f"LABEL_{i}": i for i in range(NL)},
                problem_type="single_label_classification")
    g = Golden()
    for side in ("right", "left"):
        ids, mask = padded(r, c, c["T"], side)
        I, M = torch.from_numpy(ids), torch.from_numpy(mask)
        last = torch.tensor([int(np.nonzero(m)[0].max()) for m in mask])
        y = torch.from_numpy(r.integers(0, NL, 3))
        ym = torch.from_numpy(r.integers(0, 2, (3, NL)).astype(np.float32))
        yr = torch.from_numpy(r.standard_normal((3, NL)).astype(np.float32))
        n = side + "_"
        g.ints(n + "input_ids", ids)
        g.ints(n + "attention_mask", mask)
        g.ints(n + "labels", y)
        g.real(n + "labels_multi", ym)
        g.real(n + "labels_regression", yr)
        res = {}
        for dt in (torch.float64, torch.float32):
            q = leafs(dict(p, **{"score.weight": score}), dt)
            f = forward(c, q, I, mask=M, want_logits=False)["final"]
            lo = (f @ q["score.weight"].T)[torch.arange(3), last]
            losses = [F.cross_entropy(lo, y), F.binary_cross_entropy_with_logits(lo, ym.to(dt)), ((lo - yr.to(dt)) ** 2).mean()]
            grads = []
            for l in losses:
                for v in q.values():
                    v.grad = None
                l.backward(retain_graph=True)
                grads.append({k: v.grad.clone() for k, v in q.items()})
            res[dt] = lo, losses, grads
        a, b = res[torch.float64], res[torch.float32]
        g.real(n + "logits", a[0], b[0])
        for nm, la, lb in zip(("loss", "loss_multi", "loss_regression"), a[1], b[1]):
            g.real(n + nm, la, lb)
            g.meta[n + nm] = float(la)
        for k in a[2][0]:
            g.real(f"{n}grad.{k}", a[2][0][k], b[2][0][k])
        for j, nm in ((1, "multi"), (2, "regression")):
            for k in ("score.weight", "ln_f.weight", "wpe.weight"):
                g.real(f"{n}grad_{nm}.{k}", a[2][j][k], b[2][j][k])
    g.write(folder, "golden")


def make(out, name, seed, alias=None):
    c = preset(name)
    p, dt = init_params(c, seed)
    folder = os.path.join(out, alias or name)
    write_model(folder, c, p, dt)
    lm_golden(folder, c, p, seed)
    if c["lora"]:
        lora_golden(folder, c, p, seed)
    if c["prompt"]:
        prompt_golden(folder, c, p, seed)
    if c["seqcls"]:
        seqcls_golden(folder + "_seqcls", c, p, dt, seed)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--config", required=True, help="comma-separated preset names")
    ap.add_argument("--as", dest="alias", default=None, help="folder name when a single preset is given")
    a = ap.parse_args()
    if a.config == "list":
        print("\n".join(PRESETS))
        return
    for name in a.config.split(","):
        make(a.out, name, a.seed, a.alias)
        print(name, "done", flush=True)


if __name__ == "__main__":
    main()
