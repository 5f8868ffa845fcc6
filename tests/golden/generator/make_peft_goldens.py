#!/usr/bin/env python3
"""Goldens of DoRA, AdaLoRA, IA3 and prefix tuning beside a checkpoint of make_goldens.py: logits, loss, adapter gradients.

    python3 make_peft_goldens.py --out DIR --seed N --config NAME      (a preset of make_goldens.py, whose folder is in DIR)

What each method computes is what Hugging Face's PEFT computes (huggingface/peft, commit 5d602fd of 2026-08-21), of which nothing is
needed here: tuners/lora/dora.py, tuners/adalora/layer.py and model.py, tuners/ia3/layer.py, and get_prompt of peft_model.py. In
float64, with a float32 run beside it, as in make_goldens.py. Of AdaLoRA also a short training, adalora_run/: AdamW on the loss and
the orthogonality penalty, and after each update PEFT's RankAllocator.
"""
import argparse
import json
import math
import os

import torch

import st_io
from gpt2_reference import activation, init_params, layer_norm, leafs, lm_loss, rng_for
from make_goldens import Golden, preset

PREFIX = "base_model.model.transformer."
RANK = 4


def forward(c, p, ids, layer, past=None):
    """GPT-2's logits. layer(name, x) is what a dense layer gives; past are keys and values [2, B, H, n, D/H] of each block."""
    B, T = ids.shape
    n = 0 if past is None else past[0].shape[3]
    x = p["wte.weight"][ids] + p["wpe.weight"][n : n + T]
    hd = c["D"] // c["H"]
    allowed = torch.ones(T, n + T, dtype=torch.bool).tril(n)
    for i in range(c["L"]):
        h = f"h.{i}."
        a = layer_norm(x, p[h + "ln_1.weight"], p[h + "ln_1.bias"], c["ln_eps"])
        q, k, v = (z.reshape(B, T, c["H"], hd).transpose(1, 2) for z in layer(h + "attn.c_attn", a).split(c["D"], -1))
        if past is not None:
            k, v = torch.cat([past[i][0], k], 2), torch.cat([past[i][1], v], 2)
        w = torch.softmax((q @ k.transpose(-1, -2) / math.sqrt(hd)).masked_fill(~allowed, float("-inf")), -1)
        x = x + layer(h + "attn.c_proj", (w @ v).transpose(1, 2).reshape(B, T, c["D"]))
        a = layer_norm(x, p[h + "ln_2.weight"], p[h + "ln_2.bias"], c["ln_eps"])
        x = x + layer(h + "mlp.c_proj", activation(c["act"], layer(h + "mlp.c_fc", a)))
    return layer_norm(x, p["ln_f.weight"], p["ln_f.bias"], c["ln_eps"]) @ p["wte.weight"].T


def base_layer(p, name, x):
    return x @ p[name + ".weight"] + p[name + ".bias"]


def targets(c, kinds):
    return [f"h.{i}.{kind}" for i in range(c["L"]) for kind in kinds]


def exact(x):
    """Rounded to float32, as the files have it."""
    return torch.from_numpy(x.astype("float32")).double()


class Dora:
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "lora_dropout": 0.0, "target_modules": ["c_attn", "c_proj"],
              "fan_in_fan_out": True, "bias": "none", "use_rslora": True, "use_dora": True, "modules_to_save": None}
    scaling = 6 / math.sqrt(RANK)

    def __init__(self, c, p, r):
        self.c, self.modules, self.start = c, targets(c, ["attn.c_attn", "attn.c_proj", "mlp.c_proj"]), {}
        for name in self.modules:
            w = p[name + ".weight"]
            a, b = exact(r.standard_normal((RANK, w.shape[0])) / math.sqrt(w.shape[0])), exact(r.standard_normal((w.shape[1], RANK)) * 0.1)
            self.start[PREFIX + name + ".lora_A.weight"] = a
            self.start[PREFIX + name + ".lora_B.weight"] = b
            self.start[PREFIX + name + ".lora_magnitude_vector"] = exact((w.norm(dim=0) * torch.from_numpy(1 + 0.2 * r.standard_normal(w.shape[1]))).numpy())

    def logits(self, p, t, ids):
        def layer(name, x):
            result = base_layer(p, name, x)
            if name not in self.modules:
                return result
            A, B, magnitude = (t[PREFIX + name + "." + part] for part in ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector"))
            norm = torch.linalg.norm(p[name + ".weight"].T + self.scaling * (B @ A).detach(), dim=1).detach()
            factor = (magnitude / norm).view(1, -1)
            return result + (factor - 1) * (result - p[name + ".bias"]) + factor * (x @ A.T @ B.T) * self.scaling
        return forward(self.c, p, ids, layer)


class AdaLora:
    alpha = 5
    config = {"peft_type": "ADALORA", "init_r": RANK, "target_r": 2, "tinit": 1, "tfinal": 2, "deltaT": 1, "beta1": 0.85, "beta2": 0.85,
              "orth_reg_weight": 0.5, "total_step": 8, "r": 8, "lora_alpha": alpha, "lora_dropout": 0.0, "target_modules": ["c_attn", "c_fc"],
              "fan_in_fan_out": True, "bias": "none", "modules_to_save": None}

    def __init__(self, c, p, r, kept=None):
        """kept: of each target that a training has left ranks of, which they are (rank_pattern)."""
        self.c, self.modules, self.start, kept = c, targets(c, ["attn.c_attn", "mlp.c_fc"]), {}, kept or {}
        for name in self.modules:
            n_in, n_out = p[name + ".weight"].shape
            ranks = torch.tensor(kept.get(name, [True] * RANK))
            self.start[PREFIX + name + ".lora_A"] = exact(r.standard_normal((RANK, n_in)) / math.sqrt(n_in))[ranks]
            self.start[PREFIX + name + ".lora_B"] = exact(r.standard_normal((n_out, RANK)) * 0.3)[:, ranks]
            self.start[PREFIX + name + ".lora_E"] = exact(r.standard_normal((RANK, 1)))[ranks]
        if kept:
            self.config = dict(self.config, rank_pattern={f"transformer.{k}.lora_E": v for k, v in kept.items()})

    def logits(self, p, t, ids):
        def layer(name, x):
            result = base_layer(p, name, x)
            if name not in self.modules:
                return result
            A, B, E = (t[PREFIX + name + ".lora_" + part] for part in "ABE")
            return result + (x @ (A * E).T @ B.T) * self.alpha / (RANK + 1e-5)  # ranknum is the rank at first
        return forward(self.c, p, ids, layer)

    def penalty(self, t):
        total, count = 0, 0
        for k, v in t.items():
            if not k.endswith("lora_E"):
                cov = v @ v.T if k.endswith("lora_A") else v.T @ v
                total, count = total + torch.norm(cov - torch.eye(len(cov), dtype=v.dtype), p="fro"), count + 1
        return self.config["orth_reg_weight"] * total / count


class Allocator:
    """PEFT's RankAllocator with AdaLoraModel.update_and_allocate."""

    def __init__(self, f, t, modules):
        self.f, self.t, self.modules = f, t, modules
        self.mean = {k: torch.zeros_like(v) for k, v in t.items()}
        self.uncertainty = {k: torch.zeros_like(v) for k, v in t.items()}
        self.first = RANK * len(modules)
        self.last = f["target_r"] * len(modules)

    def after_update(self, step):
        f, end = self.f, self.f["total_step"] - self.f["tfinal"]
        with torch.no_grad():
            if step < end:
                for k, v in self.t.items():
                    now = (v * v.grad).abs()
                    self.mean[k] = f["beta1"] * self.mean[k] + (1 - f["beta1"]) * now
                    self.uncertainty[k] = f["beta2"] * self.uncertainty[k] + (1 - f["beta2"]) * (now - self.mean[k]).abs()
            if step > f["tinit"] and step < end and step % f["deltaT"] == 0:
                left = 1 - (step - f["tinit"]) / (end - f["tinit"])
                self.mask = self.choose(int((self.first - self.last) * left ** 3 + self.last))
            elif step == end:
                self.mask = self.choose(self.last)
            elif step <= f["tinit"]:
                return
            for name in self.modules:
                self.t[PREFIX + name + ".lora_E"][~self.mask[name]] = 0

    def choose(self, budget):
        score = lambda k: self.mean[k] * self.uncertainty[k]
        scores = {}
        for name in self.modules:
            n = PREFIX + name + ".lora_"
            scores[name] = score(n + "E").view(-1) + score(n + "A").mean(1) + score(n + "B").mean(0)
        threshold = torch.kthvalue(torch.cat(list(scores.values())), self.first - budget)[0]
        return {name: s > threshold for name, s in scores.items()}


class Ia3:
    config = {"peft_type": "IA3", "target_modules": ["c_attn", "mlp.c_proj"], "feedforward_modules": ["mlp.c_proj"],
              "fan_in_fan_out": True, "init_ia3_weights": True, "modules_to_save": None}

    def __init__(self, c, p, r):
        self.c, self.start = c, {}
        for name in targets(c, ["attn.c_attn", "mlp.c_proj"]):
            n_in, n_out = p[name + ".weight"].shape
            shape = (1, n_in) if name.endswith("mlp.c_proj") else (n_out, 1)
            self.start[PREFIX + name + ".ia3_l"] = exact(1 + 0.3 * r.standard_normal(shape))

    def logits(self, p, t, ids):
        def layer(name, x):
            l = t.get(PREFIX + name + ".ia3_l")
            if l is None:
                return base_layer(p, name, x)
            return base_layer(p, name, x * l.flatten()) if name.endswith("mlp.c_proj") else base_layer(p, name, x) * l.flatten()
        return forward(self.c, p, ids, layer)


class Prefix:
    n = 3

    def __init__(self, c, p, r):
        self.c = c
        self.config = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": self.n, "token_dim": c["D"], "num_attention_heads": c["H"],
                       "num_layers": c["L"], "num_transformer_submodules": 1, "encoder_hidden_size": c["D"], "prefix_projection": False}
        self.start = {"prompt_embeddings": exact(r.standard_normal((self.n, 2 * c["L"] * c["D"])))}

    def logits(self, p, t, ids):
        c, B = self.c, len(ids)
        past = t["prompt_embeddings"].repeat(B, 1, 1).view(B, self.n, 2 * c["L"], c["H"], c["D"] // c["H"])
        return forward(c, p, ids, lambda name, x: base_layer(p, name, x), past.permute([2, 0, 3, 1, 4]).split(2))


def write_adapter(folder, method):
    os.makedirs(folder, exist_ok=True)
    st_io.save(os.path.join(folder, "adapter_model.safetensors"), {k: v.float() for k, v in method.start.items()}, {"format": "pt"})
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump(dict(method.config, task_type="CAUSAL_LM", base_model_name_or_path=None, inference_mode=True), f, indent=2)
        f.write("\n")


def golden(folder, name, c, p, method, r, B=2, T=5):
    write_adapter(os.path.join(folder, name), method)
    g = Golden()
    ids, labels = torch.from_numpy(r.integers(0, c["V"], (B, T))), torch.from_numpy(r.integers(0, c["V"], (B, T)))
    labels[0, 2] = -100
    g.ints("input_ids", ids)
    g.ints("labels", labels)
    res = {}
    for dt in (torch.float64, torch.float32):
        t, w = leafs(method.start, dt), {k: v.to(dt) for k, v in p.items()}
        logits = method.logits(w, t, ids)
        loss = lm_loss(logits, labels)
        loss.backward()
        res[dt] = logits, loss, {k: v.grad for k, v in t.items()}
    a, b = res[torch.float64], res[torch.float32]
    g.real("logits", a[0], b[0])
    g.real("loss", a[1], b[1])
    g.meta["loss"] = float(a[1])
    for k in method.start:
        g.real("grad." + k, a[2][k], b[2][k])
    g.write(folder, "golden_" + name)


def adalora_run(folder, c, p, r, lr=0.02, B=2, T=6):
    """Eight updates: adapter_model.safetensors before, run.safetensors the batches and what the tensors are after."""
    method = AdaLora(c, p, r)
    write_adapter(folder, method)
    steps = method.config["total_step"]
    ids = torch.from_numpy(r.integers(0, c["V"], (steps, B, T)))
    t = leafs(method.start, torch.float64)
    optimizer = torch.optim.AdamW(t.values(), lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    allocator = Allocator(method.config, t, method.modules)
    losses, ranks = [], []
    for s in range(steps):
        optimizer.zero_grad()
        loss = lm_loss(method.logits(p, t, ids[s]), ids[s])
        (loss + method.penalty(t)).backward()
        optimizer.step()
        allocator.after_update(s + 1)
        losses.append(float(loss))
        ranks.append([int((t[PREFIX + name + ".lora_E"] != 0).sum()) for name in method.modules])
    out = {"train_input_ids": ids, "train_loss": torch.tensor(losses).float(), "ranks": torch.tensor(ranks),
           "learning_rate": torch.tensor([lr]).float()}
    out.update({"after." + k: v.float() for k, v in t.items()})
    st_io.save(os.path.join(folder, "run.safetensors"), out)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--config", required=True)
    a = ap.parse_args()
    c = preset(a.config)
    p, _ = init_params(c, a.seed)
    folder = os.path.join(a.out, a.config)
    kept = {"h.0.attn.c_attn": [True, False, True, False], "h.0.mlp.c_fc": [True] * RANK}
    for name, make in {"dora": Dora, "adalora": lambda c, p, r: AdaLora(c, p, r, kept), "ia3": Ia3, "prefix_tuning": Prefix}.items():
        r = rng_for(a.seed, a.config, name)
        golden(folder, name, c, p, make(c, p, r), r)
    adalora_run(os.path.join(folder, "adalora_run"), c, p, rng_for(a.seed, a.config, "adalora_run"))


if __name__ == "__main__":
    main()
