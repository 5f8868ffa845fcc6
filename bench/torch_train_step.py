#!/usr/bin/python3
"""A training step of a GPT-2 124M in PyTorch, for bench/training_step: forward, backward, AdamW, float32, no dropout.

usage: torch_train_step.py THREADS B T [STEPS [RANK]]

With a RANK, a LoRA adapter of that rank at c_attn learns alone, as PEFT computes it.

Prints the median rate of STEPS steps (3) after one that is not timed, and the peak memory. Debian's python3-torch is fast with
the OpenMP build of OpenBLAS (libopenblas0-openmp) first in LD_LIBRARY_PATH. OpenBLAS knows processors by their model: on one
newer than itself it would use kernels for SSE3, five times slower; OPENBLAS_CORETYPE, unless it is set, becomes the best ones that
the processor's instructions allow.
"""
import os
import statistics
import sys
import time

threads, batch, tokens = (int(a) for a in sys.argv[1:4])
steps = int(sys.argv[4]) if len(sys.argv) > 4 else 3
rank = int(sys.argv[5]) if len(sys.argv) > 5 else 0
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)

with open("/proc/cpuinfo", encoding="ascii") as cpus:
    instructions = next((line.split() for line in cpus if line.startswith("flags")), [])
for instruction, kernels in (("avx512bw", "SkylakeX"), ("avx2", "Haswell")):
    if instruction in instructions:
        os.environ.setdefault("OPENBLAS_CORETYPE", kernels)

import torch
import torch.nn as nn
import torch.nn.functional as F

VOCABULARY, POSITIONS, LAYERS, HEADS, FEATURES = 50257, 1024, 12, 12, 768


class Lora(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base
        self.a, self.b = nn.Linear(base.in_features, rank, bias=False), nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.base(x) + self.b(self.a(x)) * (8 / rank)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(FEATURES), nn.LayerNorm(FEATURES)
        self.c_attn, self.attn_proj = nn.Linear(FEATURES, 3 * FEATURES), nn.Linear(FEATURES, FEATURES)
        self.c_fc, self.mlp_proj = nn.Linear(FEATURES, 4 * FEATURES), nn.Linear(4 * FEATURES, FEATURES)

    def forward(self, x, mask):
        b, t, _ = x.shape
        q, k, v = (y.view(b, t, HEADS, -1).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(FEATURES, 2))
        weights = torch.softmax(q @ k.transpose(2, 3) * (FEATURES // HEADS) ** -0.5 + mask, -1)
        x = x + self.attn_proj((weights @ v).transpose(1, 2).reshape(b, t, FEATURES))
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, FEATURES), nn.Embedding(POSITIONS, FEATURES)
        self.h = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(FEATURES)
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def loss(self, ids, labels):
        t = ids.shape[1]
        x = self.wte(ids) + self.wpe.weight[:t]
        mask = torch.full((t, t), float("-inf")).triu(1)
        for block in self.h:
            x = block(x, mask)
        return F.cross_entropy((self.ln_f(x) @ self.wte.weight.T).view(-1, VOCABULARY), labels.reshape(-1))


torch.set_num_threads(threads)
torch.manual_seed(1)
network = Gpt2()
if rank > 0:
    for p in network.parameters():
        p.requires_grad = False
    for block in network.h:
        block.c_attn = Lora(block.c_attn)
learned = [p for p in network.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(learned, lr=1e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
ids = torch.randint(0, VOCABULARY, (batch, tokens + 1))
times = []
for _ in range(steps + 1):
    start = time.perf_counter()
    network.loss(ids[:, :-1], ids[:, 1:]).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    times.append(time.perf_counter() - start)
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(f"peak memory {peak / 1024:.0f} MiB, {batch * tokens / statistics.median(times[1:]):.1f} tok/s")
