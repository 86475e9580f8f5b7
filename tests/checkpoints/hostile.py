"""Small hostile checkpoints, and a program that reads one under limits. No file here runs code."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

CPU_SECONDS = 5
GROWTH_BYTES = 500 << 20

_READ = """
import resource, sys
import torch
from upscale.checkpoints.state_dicts import read_state_dict
from upscale.errors import CheckpointError
from upscale.models import detect
from pathlib import Path

def address_space():
    text = Path("/proc/self/statm").read_text()
    return int(text.split()[0]) * resource.getpagesize()

used = resource.getrusage(resource.RUSAGE_SELF)
spent = int(used.ru_utime + used.ru_stime) + 1
resource.setrlimit(resource.RLIMIT_CPU, (spent + {seconds},) * 2)
resource.setrlimit(resource.RLIMIT_AS, (address_space() + {growth},) * 2)
try:
    detected = detect(read_state_dict(Path(sys.argv[1])))
except CheckpointError as error:
    print(f"refused: {{error}}")
else:
    print(f"read: {{detected.spec.describe()}}")
"""


def read_under_limits(path: Path) -> str:
    """Read a checkpoint in a process of its own and return what it printed."""
    program = _READ.format(seconds=CPU_SECONDS, growth=GROWTH_BYTES)
    ended = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{path.name}: {ended.returncode}, {ended.stderr[-500:]}"
    return ended.stdout


def srvgg(features: int = 4, inputs: int = 3, scale: int = 4) -> dict[str, torch.Tensor]:
    """Return the tensors of an SRVGGNetCompact without hidden convolutions."""
    outputs = inputs * scale**2
    return {
        "body.0.weight": torch.full((features, inputs, 3, 3), 0.01),
        "body.0.bias": torch.zeros(features),
        "body.1.weight": torch.full((features,), 0.2),
        "body.2.weight": torch.full((outputs, features, 3, 3), 0.01),
        "body.2.bias": torch.zeros(outputs),
    }


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def archive(
    pickled: bytes, records: Mapping[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> bytes:
    """Return an archive as torch writes it, with any pickle and records."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
        for key, content in (records or {}).items():
            file.writestr(key, content)
    return buffer.getvalue()


def storage(count: int, *, old: bool = False) -> bytes:
    parts = text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu")
    return b"(" + parts + number(count) + b"N" * old + b"tQ"


def tensor(count: int, stored: int | None = None, offset: int = 0, *, old: bool = False) -> bytes:
    """Return the pickle of a vector of `count` numbers in a storage of `stored`."""
    start = name("torch._utils", "_rebuild_tensor_v2") + b"("
    shape = number(offset) + b"(" + number(count) + b"t(" + number(1) + b"t\x89"
    hooks = name("collections", "OrderedDict") + b")R"
    return start + storage(count if stored is None else stored, old=old) + shape + hooks + b"tR"


def state(value: bytes) -> bytes:
    return b"}(" + text("w") + value + b"u"


def codec_bomb() -> bytes:
    """Return nested calls of `_codecs.encode`, each of which doubles the text."""
    value = text("A" * 64)
    for codec in ("latin1", *["hex_codec"] * 24):
        value = name("_codecs", "encode") + value + text(codec) + b"\x86R"
    return value


def copying_bomb() -> bytes:
    """Return a dictionary of 50,000 entries that is copied 2,000 times."""
    entries = b"".join(number(index) + b"N" for index in range(50_000))
    copy = name("collections", "OrderedDict") + b"h\x00\x85R"
    return b"](}(" + entries + b"uq\x00" + copy * 2000 + b"e"


def tuple_bomb() -> bytes:
    """Return a tuple of a tuple twice, 60 deep, as a key: its hash takes 2 ** 60 steps."""
    return b"}(" + b")" + b"q\x00h\x00\x86" * 60 + b"Nu"


def legacy(value: bytes, count: int = 1) -> bytes:
    """Return a file in torch's old format, without the `count` numbers of its only storage."""
    head = b"".join(
        pickle.dumps(item, 2) for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    )
    return head + b"\x80\x02" + value + b"." + pickle.dumps(["0"], 2) + struct.pack("<q", count)


MILLIARD = 10**9

PICKLES: dict[str, tuple[bytes, str]] = {
    "bytearray": (
        archive(name("builtins", "bytearray") + number(1_500_000_000) + b"\x85R"),
        "builtins.bytearray",
    ),
    "codecs": (archive(codec_bomb()), "_codecs.encode"),
    "tensor_class": (
        archive(state(name("torch", "FloatTensor") + number(MILLIARD) + b"\x85R")),
        "torch.FloatTensor",
    ),
    "storage_class": (
        archive(state(name("torch", "FloatStorage") + number(MILLIARD) + b"\x85R")),
        "torch.FloatStorage",
    ),
    "copies": (archive(copying_bomb()), "copies its content"),
    "tuples": (archive(tuple_bomb()), "large tuples"),
    "beyond_the_record": (
        archive(state(tensor(MILLIARD)), {"archive/data/0": bytes(64)}),
        "larger than the file",
    ),
    "beyond_the_storage": (
        archive(state(tensor(8, 16, offset=12)), {"archive/data/0": bytes(64)}),
        "larger than the file",
    ),
    "negative_offset": (
        archive(state(tensor(8, 16, offset=-4)), {"archive/data/0": bytes(64)}),
        "larger than the file",
    ),
    "many_calls": (archive(b"](" + (name("collections", "OrderedDict") + b")R") * 150_000 + b"e"),
                   "too long"),
    "many_instructions": (archive(b"](" + b"N" * 2_000_000 + b"e"), "too long"),
    "legacy_storage": (legacy(state(tensor(MILLIARD, old=True))), "larger than the file"),
    "hidden_deflate": (
        archive(state(tensor(5 << 20)), {"archive/data/0": bytes(20 << 20)}, zipfile.ZIP_DEFLATED)
        + bytes(65_600),
        "damaged archive",
    ),
    "data_in_front": (
        b"PK\x03\x04" + bytes(60) + archive(state(tensor(16)), {"archive/data/0": bytes(64)}),
        "not an archive as torch writes it",
    ),
    "two_names": (
        archive(
            state(tensor(16)), {"archive/data/0": bytes(64), "ARCHIVE/data.pkl": b"\x80\x02N."}
        ),
        "not an archive as torch writes it",
    ),
}  # fmt: skip
"""Pickles with a part of the error message that each must lead to."""

STATES: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "million_layers": (
        {**srvgg(), f"body.{10**6}.weight": torch.zeros(48, 4, 3, 3)},
        "few tensors",
    ),
    "milliard_layers": (
        {**srvgg(), f"body.{10**9}.weight": torch.zeros(48, 4, 3, 3)},
        "few tensors",
    ),
    "five_thousand_digits": (
        {**srvgg(), "body." + "9" * 5000 + ".weight": torch.zeros(48, 4, 3, 3)},
        "few tensors",
    ),
    "high_layer": (
        {**srvgg(), "body.50.weight": torch.zeros(48, 4, 3, 3)},
        "a number too high for 6 tensors",
    ),
    "old_keys_without_blocks": ({"model.1.sub.x.weight": torch.zeros(1)}, "too high for 1 tensors"),
    "old_keys_without_tail": (
        {
            "model.1.sub.0.RDB1.conv1.0.weight": torch.zeros(2, 4, 3, 3),
            "model.1.weight": torch.zeros(1),
            "model.0.weight": torch.zeros(4, 3, 3, 3),
        },
        "conv_last.weight is missing",
    ),
    "no_input_channels": (srvgg(inputs=0), "body.0.weight has the shape (4, 0, 3, 3)"),
    "no_features": (srvgg(features=0), "body.0.weight has the shape (0, 3, 3, 3)"),
    "many_blocks": (
        {
            "conv_first.weight": torch.zeros(4, 3, 3, 3),
            "conv_last.weight": torch.zeros(3, 4, 3, 3),
            "body.0.rdb1.conv1.weight": torch.zeros(2, 4, 3, 3),
            **{f"body.{index}.x": torch.zeros(1) for index in range(5000)},
        },
        "not those of an RRDBNet with 5000 blocks",
    ),
    "many_tensors": ({f"a{index}": torch.zeros(1) for index in range(20_001)}, "20001 tensors"),
    "large_product": (
        {
            "block_1.c1_r.sk.weight": torch.zeros(1, 1, 1, 1),
            "block_1.c1_r.conv.0.weight": torch.zeros(1, 200_000, 1, 1),
            "block_1.c1_r.conv.1.weight": torch.zeros(1, 1, 3, 3),
            "block_1.c1_r.conv.2.weight": torch.zeros(200_000, 1, 1, 1),
            **{f"block_1.c1_r.conv.{index}.bias": torch.zeros(1) for index in range(3)},
            "block_1.c1_r.sk.bias": torch.zeros(1),
            "block_1.c1_r.eval_conv.weight": torch.zeros(1),
        },
        "not those of a SPAN",
    ),
}
"""State dicts with a part of the error message that each must lead to."""
