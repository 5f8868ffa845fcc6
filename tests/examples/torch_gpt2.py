"""Loads a checkpoint that gpt-finetune saved into a plain PyTorch GPT-2, and compares its log-probabilities with gpt-generate's.

usage: torch_gpt2.py FINETUNE GENERATE DEMO_MODEL

Exits with 77 (skipped) where Python has no PyTorch. Nothing here shares code with libgpt: the file format, the names, the
shapes and the formulas are those that transformers expects.
"""
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("skipped: python3 has no torch")
    sys.exit(77)

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
TEXT = "To be, or not to be: that is the question.\nWhether 'tis nobler in the mind to suffer\n" * 20
IDS = [5, 17, 900, 3, 44, 1023, 2, 2, 600, 71]
TOLERANCE = 2e-5  # golden_check's, of the largest magnitude: float32 sums in another order


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + length + begin : 8 + length + end])
        tensors[name] = torch.frombuffer(raw, dtype=DTYPES[entry["dtype"]]).view(entry["shape"]).float()
    return tensors


def expected_shapes(c):
    d, inner = c["n_embd"], c["n_inner"] or 4 * c["n_embd"]
    shapes = {"wte.weight": [c["vocab_size"], d], "wpe.weight": [c["n_positions"], d]}
    norms = ["ln_f"]
    for i in range(c["n_layer"]):
        norms += [f"h.{i}.ln_1", f"h.{i}.ln_2"]
        for name, rows, columns in [("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, inner), ("mlp.c_proj", inner, d)]:
            shapes[f"h.{i}.{name}.weight"] = [rows, columns]
            shapes[f"h.{i}.{name}.bias"] = [columns]
    for norm in norms:
        shapes[norm + ".weight"] = shapes[norm + ".bias"] = [d]
    return {"transformer." + name: shape for name, shape in shapes.items()}


def forward(c, w, ids):
    """Log-probabilities after the last of the ids."""
    d, heads = c["n_embd"], c["n_head"]
    p = lambda name: w["transformer." + name]
    norm = lambda x, name: F.layer_norm(x, [d], p(name + ".weight"), p(name + ".bias"), c["layer_norm_epsilon"])
    linear = lambda x, name: x @ p(name + ".weight") + p(name + ".bias")
    split = lambda x: x.view(len(ids), heads, d // heads).transpose(0, 1)
    hidden = p("wte.weight")[ids] + p("wpe.weight")[: len(ids)]
    mask = torch.full((len(ids), len(ids)), -math.inf).triu(1)
    for i in range(c["n_layer"]):
        block = f"h.{i}."
        q, k, v = (split(x) for x in linear(norm(hidden, block + "ln_1"), block + "attn.c_attn").split(d, 1))
        weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(d // heads) + mask, -1)
        hidden = hidden + linear((weights @ v).transpose(0, 1).reshape(len(ids), d), block + "attn.c_proj")
        inner = linear(norm(hidden, block + "ln_2"), block + "mlp.c_fc")
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        hidden = hidden + linear(inner, block + "mlp.c_proj")
    return torch.log_softmax((norm(hidden[-1:], "ln_f") @ p("wte.weight").T)[0].double(), -1)


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def main():
    finetune, generate, demo = sys.argv[1:]
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        (directory / "corpus.txt").write_text(TEXT)
        run(finetune, "--model", demo, "--train-file", directory / "corpus.txt", "--output-dir", directory / "tuned", "--block-size", "64",
            "--max-steps", "2", "--learning-rate", "1e-3", "--per-device-train-batch-size", "2")
        c = json.loads((directory / "tuned/config.json").read_text())
        assert c["model_type"] == "gpt2" and c["architectures"] == ["GPT2LMHeadModel"] and c["torch_dtype"] == "float32", c
        assert c["activation_function"] == "gelu_new" and c["tie_word_embeddings"], c
        weights = read_safetensors(directory / "tuned/model.safetensors")
        assert {n: list(t.shape) for n, t in weights.items()} == expected_shapes(c)
        before = read_safetensors(pathlib.Path(demo) / "model.safetensors")
        assert not torch.equal(weights["transformer.wte.weight"], next(t for n, t in before.items() if n.endswith("wte.weight")))

        result = json.loads(run(generate, "--model", directory / "tuned", "--input-ids", ",".join(map(str, IDS)), "--max-new-tokens", "1",
                                "--logprobs", str(c["vocab_size"]), "--no-do-sample", "--json"))
        ours = torch.empty(c["vocab_size"], dtype=torch.float64)
        for token in result["logprobs"][0]["top"]:
            ours[token["id"]] = token["logprob"]
        theirs = forward(c, weights, IDS)
        difference = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        print("largest difference of log-probabilities, relative:", difference)
        assert difference < TOLERANCE, difference


main()
