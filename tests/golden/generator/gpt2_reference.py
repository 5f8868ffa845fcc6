"""GPT-2 in PyTorch, in whatever precision its parameters have: weights, forward, loss, training steps."""
import math
import zlib

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def rng_for(seed, name, purpose):
    return np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(purpose.encode())])


def init_params(c, seed):
    """float32-exact (or f16/bf16-exact) weights, as float64 tensors, official names without prefix."""
    r = rng_for(seed, c["name"], "weights")
    D, V = c["D"], c["V"]
    I = c["inner"] or 4 * D
    n = lambda s, *shape: r.standard_normal(shape) * s
    p = {"wte.weight": n(2 / math.sqrt(D), V, D), "wpe.weight": n(1.5 / math.sqrt(D), c["ctx"], D)}
    for i in range(c["L"]):
        h = f"h.{i}."
        p[h + "ln_1.weight"] = 1 + n(0.15, D)
        p[h + "ln_1.bias"] = n(0.15, D)
        p[h + "attn.c_attn.weight"] = n(1.2 / math.sqrt(D), D, 3 * D)
        p[h + "attn.c_attn.bias"] = n(0.2, 3 * D)
        p[h + "attn.c_proj.weight"] = n(1.5 / math.sqrt(D), D, D)
        p[h + "attn.c_proj.bias"] = n(0.1, D)
        p[h + "ln_2.weight"] = 1 + n(0.15, D)
        p[h + "ln_2.bias"] = n(0.15, D)
        p[h + "mlp.c_fc.weight"] = n(1.5 / math.sqrt(D), D, I)
        p[h + "mlp.c_fc.bias"] = n(0.2, I)
        p[h + "mlp.c_proj.weight"] = n(2.5 / math.sqrt(I), I, D)
        p[h + "mlp.c_proj.bias"] = n(0.1, D)
    p["ln_f.weight"] = 1 + n(0.15, D)
    p["ln_f.bias"] = n(0.15, D)
    if c["untied"]:
        p["lm_head.weight"] = n(2 / math.sqrt(D), V, D)
    dt = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[c["dtype"]]
    return {k: torch.from_numpy(v).to(dt).double() for k, v in p.items()}, dt


def activation(name, x):
    if name == "gelu_new":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))
    if name == "gelu":
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    if name == "relu":
        return torch.clamp_min(x, 0)
    if name == "silu":
        return x * torch.sigmoid(x)
    if name == "tanh":
        return torch.tanh(x)
    raise ValueError(name)


def layer_norm(x, w, b, eps):
    d = x - x.mean(-1, keepdim=True)
    return d / torch.sqrt((d * d).mean(-1, keepdim=True) + eps) * w + b


def linear(p, name, x, lora):
    """Conv1D: x @ W + b with W [in, out]; plus scaling * (x A^T) B^T when an adapter covers the layer."""
    y = x @ p[name + ".weight"] + p[name + ".bias"]
    if lora is not None and name + ".A" in lora["t"]:
        y = y + (x @ lora["t"][name + ".A"].T) @ lora["t"][name + ".B"].T * lora["scaling"]
    return y


def forward(c, p, ids=None, embeds=None, mask=None, lora=None, want_logits=True):
    """Batched forward. Returns dict hidden (list, before ln_f), final, logits."""
    x = p["wte.weight"][ids] if embeds is None else embeds
    B, T, D = x.shape
    if mask is None:
        pos = torch.arange(T).expand(B, T)
        allowed = torch.ones(T, T, dtype=torch.bool).tril().expand(B, 1, T, T)
    else:
        pos = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)
        allowed = torch.ones(T, T, dtype=torch.bool).tril()[None, None] & mask.bool()[:, None, None, :]
        allowed = allowed | torch.eye(T, dtype=torch.bool)[None, None]   # pad rows are never read; keeps softmax finite
    x = x + p["wpe.weight"][pos]
    hidden = [x]
    H = c["H"]
    hd = D // H
    for i in range(c["L"]):
        h = f"h.{i}."
        a = layer_norm(x, p[h + "ln_1.weight"], p[h + "ln_1.bias"], c["ln_eps"])
        q, k, v = (z.reshape(B, T, H, hd).transpose(1, 2) for z in linear(p, h + "attn.c_attn", a, lora).split(D, -1))
        s = q @ k.transpose(-1, -2)
        if c["scale"]:
            s = s / math.sqrt(hd)
        if c["inv_layer"]:
            s = s / (i + 1)
        w = torch.softmax(s.masked_fill(~allowed, float("-inf")), -1)
        y = (w @ v).transpose(1, 2).reshape(B, T, D)
        x = x + linear(p, h + "attn.c_proj", y, lora)
        a = layer_norm(x, p[h + "ln_2.weight"], p[h + "ln_2.bias"], c["ln_eps"])
        x = x + linear(p, h + "mlp.c_proj", activation(c["act"], linear(p, h + "mlp.c_fc", a, lora)), lora)
        hidden.append(x)
    f = layer_norm(x, p["ln_f.weight"], p["ln_f.bias"], c["ln_eps"])
    out = {"hidden": hidden, "final": f}
    if want_logits:
        out["logits"] = f @ p.get("lm_head.weight", p["wte.weight"]).T
    return out


def lm_loss(logits, labels):
    """Mean cross entropy of logits[:, t] against labels[:, t+1], positions with -100 left out."""
    return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100)


def decay_param(name, t):
    return t.dim() == 2


def leafs(params, dtype):
    return {k: v.detach().clone().to(dtype).requires_grad_(True) for k, v in params.items()}


def train(params, loss_fn, steps, dtype, keep=(1, 5), lr=1e-3, wd=0.1):
    """AdamW with clipping; returns snapshots, losses, gradient norms (before clipping)."""
    p = leafs(params, dtype)
    opt = torch.optim.AdamW([{"params": [v for k, v in p.items() if decay_param(k, v)], "weight_decay": wd},
                             {"params": [v for k, v in p.items() if not decay_param(k, v)], "weight_decay": 0.0}],
                            lr=lr, betas=(0.9, 0.95), eps=1e-8)
    snaps, losses, norms = {}, [], []
    for s in range(steps):
        opt.zero_grad()
        loss = loss_fn(p, s)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(p.values()), 1.0)))
        opt.step()
        losses.append(float(loss))
        if s + 1 in keep:
            snaps[s + 1] = {k: v.detach().clone() for k, v in p.items()}
    return snaps, losses, norms
