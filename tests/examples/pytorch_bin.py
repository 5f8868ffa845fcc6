"""Writes pytorch_model.bin as torch.save does, and compares what gpt-convert makes of it with the tensors that went in.

usage: pytorch_bin.py CONVERT DEMO_MODEL [torch]

With `torch`, PyTorch itself writes the files; exits with 77 (skipped) where Python has none. Without, Python's own pickle and
zipfile do, with stand-ins for the few names of torch that such a file refers to. Nothing here shares code with libgpt.
"""
import collections
import io
import json
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import types
import zipfile

STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}
BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: (e["dtype"], tuple(e["shape"]), data[8 + length :][slice(*e["data_offsets"])])
        for name, e in header.items()
    }


def stand_ins():
    """Modules of torch's names, so that pickle can refer to what is in them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch", "__qualname__": name}))

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("this file is only written")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    sys.modules["torch"], sys.modules["torch._utils"] = torch, utils
    return torch, utils


class Storage:
    def __init__(self, kind, key, size):
        self.id = ("storage", kind, key, "cpu", size)


class FakeTensor:
    def __init__(self, rebuild, storage, shape):
        self.rebuild, self.storage, self.shape = rebuild, storage, shape

    def __reduce__(self):
        stride, step = [], 1
        for extent in reversed(self.shape):
            stride.insert(0, step)
            step *= extent
        return self.rebuild, (self.storage, 0, self.shape, tuple(stride), False, collections.OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.id if isinstance(value, Storage) else None


def save_without_torch(tensors, path, protocol):
    torch, utils = stand_ins()
    state, contents, keys = collections.OrderedDict(), [], {}
    for name, (dtype, shape, data) in tensors.items():
        key = keys.setdefault(id(data), str(len(keys)))
        if key == str(len(contents)):
            contents.append(data)
        storage = Storage(getattr(torch, STORAGES[dtype]), key, len(data) // BYTES[dtype])
        state[name] = FakeTensor(utils._rebuild_tensor_v2, storage, shape)
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    out = io.BytesIO()
    Pickler(out, protocol).dump(state)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", out.getvalue())
        for key, data in enumerate(contents):
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    for name in ("torch", "torch._utils"):
        del sys.modules[name]


def save_with_torch(tensors, path, protocol):
    import torch

    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    made = {}
    state = collections.OrderedDict()
    for name, (dtype, shape, data) in tensors.items():
        if id(data) not in made:
            made[id(data)] = torch.frombuffer(bytearray(data), dtype=kinds[dtype]).reshape(shape)
        state[name] = made[id(data)]
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    torch.save(state, path, pickle_protocol=protocol)


def check(save, convert, demo, protocol, shards, folder):
    tensors = read_safetensors(demo / "model.safetensors")
    expected = {name if name.startswith("transformer.") else "transformer." + name: t for name, t in tensors.items()}
    wte = next(name for name in tensors if name.endswith("wte.weight"))
    tensors["lm_head.weight"] = tensors[wte]  # one storage, twice
    old, new = folder / "old", folder / "new"
    old.mkdir()
    shutil.copy(demo / "config.json", old)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(demo / name, old)
    names = list(tensors)
    parts = [names[i::shards] for i in range(shards)]
    files = ["pytorch_model.bin"] if shards == 1 else [f"pytorch_model-{i}.bin" for i in range(shards)]
    for part, file in zip(parts, files):
        save({name: tensors[name] for name in part}, old / file, protocol)
    if shards > 1:
        weight_map = {name: file for part, file in zip(parts, files) for name in part}
        (old / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    run = subprocess.run([convert, "--model", old, "--output", new], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "warning" not in run.stderr, run.stderr
    assert read_safetensors(new / "model.safetensors") == expected
    print(f"protocol {protocol}, {shards} files: {len(expected)} tensors are the same")


def main():
    convert, demo = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    save = save_without_torch
    if sys.argv[3:] == ["torch"]:
        try:
            import torch  # noqa: F401
        except ImportError:
            print("skipped: python3 has no torch")
            return 77
        save = save_with_torch
    for protocol in (2, 3, 4, 5):
        for shards in (1, 3):
            with tempfile.TemporaryDirectory() as folder:
                check(save, convert, demo, protocol, shards, pathlib.Path(folder))
    return 0


sys.exit(main())
