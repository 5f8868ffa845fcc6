"""Greedy and beam search, and prompts whose results withstand float32 rounding."""
import numpy as np
import torch

from gpt2_reference import forward


@torch.no_grad()
def next_logits(c, p, seqs, noise=None):
    """Logits of the next token for equally long sequences [n, V], in float64; optional additive noise."""
    out = forward(c, p, torch.tensor(seqs))["logits"][:, -1].double()
    if noise is not None:
        out = out + torch.from_numpy(noise.standard_normal(tuple(out.shape))) * 1e-5
    return out


def greedy(c, p, prompt, n, eos=None):
    """Greedy continuation; stops after eos (which is included). Also the smallest top-1 margin met."""
    seq, margin = list(prompt), float("inf")
    for _ in range(n):
        top = torch.topk(next_logits(c, p, [seq])[0], 2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        seq.append(int(top.indices[0]))
        if seq[-1] == eos:
            break
    return seq[len(prompt):], margin


def beam_search(c, p, prompt, n_new, beams=4, length_penalty=1.0, early_stopping=False, eos=None, noise=None):
    """Beam search as described in README (single prompt). Returns all finished hypotheses, best first: (score, ids)."""
    P = len(prompt)
    alive = [list(prompt) for _ in range(beams)]
    score = [0.0] + [-1e9] * (beams - 1)
    hyps, done = [], False            # hyps: list of (normalised score, generated ids)

    def add(ids, total, length):
        s = total / length ** length_penalty
        if len(hyps) < beams or s > min(h[0] for h in hyps):
            hyps.append((s, ids))
            if len(hyps) > beams:
                hyps.remove(min(hyps, key=lambda h: h[0]))

    for step in range(1, n_new + 1):
        lp = torch.log_softmax(next_logits(c, p, alive, noise), -1) + torch.tensor(score, dtype=torch.float64)[:, None]
        top = torch.topk(lp.reshape(-1), 2 * beams)
        nxt, nsc = [], []
        for rank, (v, j) in enumerate(zip(top.values.tolist(), top.indices.tolist())):
            b, tok = divmod(j, c["V"])
            if eos is not None and tok == eos:
                if rank < beams:
                    add(alive[b][P:] + [eos], v, step)
                continue
            nxt.append(alive[b] + [tok])
            nsc.append(v)
            if len(nxt) == beams:
                break
        alive, score = nxt, nsc
        if len(hyps) >= beams:
            worst = min(h[0] for h in hyps)
            done = early_stopping or worst >= float(top.values[0]) / step ** length_penalty
        if done:
            break
    if not done:
        for ids, v in zip(alive, score):
            add(ids[P:], v, n_new)
    return sorted(hyps, key=lambda h: -h[0])


def decoding(c, p64, p32, r, g):
    """Greedy and beam goldens; prompts are redrawn until the result is stable under float32 rounding and small noise."""
    res_g, res_b = [], []
    for P in (1, 4, 9):
        n = min(32, c["ctx"] + 1 - P)
        if n < 1:
            continue
        for attempt in range(60):
            prompt = r.integers(0, c["V"], P).tolist()
            ids, margin = greedy(c, p64, prompt, n)
            if margin > 2e-3 and ids == greedy(c, p32, prompt, n)[0]:
                break
        else:
            raise RuntimeError("no stable greedy prompt")
        res_g.append({"prompt": prompt, "max_new_tokens": n, "eos_token_id": None, "generated": ids, "min_top1_margin": margin})
        if n > 6:
            eos = ids[n // 3]
            ids2, m2 = greedy(c, p64, prompt, n, eos)
            res_g.append({"prompt": prompt, "max_new_tokens": n, "eos_token_id": eos, "generated": ids2, "min_top1_margin": m2})
    cases = [(3, 12, 1.0, False, False), (3, 12, 1.0, False, True), (3, 12, 1.0, True, True), (1, 16, 0.0, False, True), (5, 10, 2.0, False, True),
             (2, 1, 1.0, False, False), (2, 8, -1.0, False, True)]
    for P, n, lpen, early, use_eos in cases:
        n = min(n, c["ctx"] + 1 - P)
        if n < 1 or c["V"] < 10:
            continue
        for attempt in range(80):
            prompt = r.integers(0, c["V"], P).tolist()
            eos = None
            if use_eos:
                plain = beam_search(c, p64, prompt, n, 4, lpen)
                pool = [t for _, ids in plain for t in ids[:max(1, n // 2)]]
                eos = int(pool[r.integers(len(pool))])
            kw = dict(beams=4, length_penalty=lpen, early_stopping=early, eos=eos)
            ref = beam_search(c, p64, prompt, n, **kw)
            ids = [h[1] for h in ref]
            gaps = min([a[0] - b[0] for a, b in zip(ref, ref[1:])] + [9.0])
            if gaps > 1e-4 and ids == [h[1] for h in beam_search(c, p32, prompt, n, **kw)] and all(
                    ids == [h[1] for h in beam_search(c, p64, prompt, n, noise=np.random.default_rng(k), **kw)] for k in range(3)):
                break
        else:
            raise RuntimeError("no stable beam prompt")
        res_b.append({"prompt": prompt, "num_beams": 4, "max_new_tokens": n, "length_penalty": lpen, "early_stopping": early, "eos_token_id": eos,
                      "sequences": ids, "scores": [h[0] for h in ref]})
    g.meta["greedy"], g.meta["beam"] = res_g, res_b
    if res_g:
        g.ints("greedy_prompt", res_g[0]["prompt"])
        g.ints("greedy_generated", res_g[0]["generated"])
