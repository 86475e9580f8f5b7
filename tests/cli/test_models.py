from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from upscale.checkpoints import availability, cache_root, catalog
from upscale.options import DEFAULT_MODEL

QUICK = "realesr-animevideov3"
needs_quick = pytest.mark.skipif(
    availability(catalog()[QUICK]) == "absent", reason=f"{QUICK} is not here"
)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UPSCALE_OFFLINE", "1")


@pytest.mark.parametrize("command", [["models"], ["models", "list"]])
def test_every_network_is_listed_on_a_line(command, call):
    ended = call(*command)
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(catalog()) + 1]] == list(catalog())


@needs_quick
def test_an_included_network_is_never_listed_as_downloaded(call, own_cache):
    def status():
        lines = call("models").out.splitlines()
        return next(line.split()[2] for line in lines if line.startswith(f"{QUICK} "))

    assert status() == "included"
    assert call("models", "pull", QUICK).code == 0
    assert status() == "ready"


def test_the_list_as_json(call):
    records = list(map(json.loads, call("models", "--json").out.splitlines()))
    assert [record["name"] for record in records[: len(catalog())]] == list(catalog())
    assert call("models", "list", "--json").out == call("models", "--json").out


def test_info_of_a_network_names_its_licence_and_checksum(call):
    ended = call("models", "info", DEFAULT_MODEL)
    entry = catalog()[DEFAULT_MODEL]
    assert ended.code == 0
    for value in (entry.sha256, entry.licence, entry.purpose):
        assert value in ended.out


def test_info_of_an_unknown_name_is_an_error(call):
    ended = call("models", "info", "nonsense")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: nonsense")


def test_info_of_an_invalid_file_is_one_line(call, tmp_path):
    (tmp_path / "net.pth").write_bytes(b"no network")
    ended = call("models", "info", "net.pth")
    assert ended.code == 1
    assert ended.err.count("\n") == 1


@needs_quick
def test_pull_copies_an_included_network_to_the_cache(call, own_cache):
    ended = call("models", "pull", QUICK)
    assert (ended.code, ended.out) == (0, f"{cache_root() / 'models' / QUICK}.safetensors\n")
    assert availability(catalog()[QUICK]) == "cached"


@needs_quick
def test_pull_continues_after_a_failure_and_exits_3(call, own_cache):
    ended = call("models", "pull", "realesrgan-x2plus", QUICK)
    assert ended.code == 3
    assert ended.out.count("\n") == 1
    assert "error: " in ended.err
    assert call("models", "pull", "realesrgan-x2plus").code == 1


@needs_quick
def test_blend_import_and_use(call, own_cache, tmp_path):
    ended = call("models", "blend", QUICK, QUICK, "--alpha", "0.8", "-o", "mix.safetensors")
    assert (ended.code, ended.out) == (0, "mix.safetensors\n"), ended.err
    assert call("models", "blend", QUICK, QUICK, "-o", "mix.safetensors").code == 1
    assert call("models", "blend", QUICK, QUICK, "-o", "mix.safetensors", "--overwrite").code == 0
    info = call("models", "info", "mix.safetensors", "--json").out
    assert json.loads(info)["scale"] == "4"
    ended = call("models", "import", "mix.safetensors", "--name", "my-mix")
    assert (ended.code, ended.out) == (0, "my-mix\n"), ended.err
    assert "my-mix" in call("models").out
    assert json.loads(call("models", "info", "my-mix", "--json").out)["scale"] == "4"
    assert call("models", "remove", "my-mix").code == 0
    assert "my-mix" not in call("models").out
    assert call("models", "remove", "my-mix").code == 1


@needs_quick
def test_a_blend_can_be_stored_as_fp16(call, own_cache, tmp_path):
    for name, more in (("whole", ()), ("half", ("--half",))):
        assert call("models", "blend", QUICK, QUICK, "-o", f"{name}.safetensors", *more).code == 0
    whole, half = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "half"))
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}
    for key, tensor in whole.items():
        assert torch.equal(tensor.half(), half[key])


@needs_quick
def test_a_dry_run_uses_the_scale_of_files_and_imported_networks(call, own_cache, photo):
    photo("a.png")
    call("models", "blend", QUICK, QUICK, "-o", "mix.safetensors")
    call("models", "import", "mix.safetensors", "--name", "my-mix")
    for model in ("mix.safetensors", "my-mix"):
        assert call("a.png", "--dry-run", "-n", model).out == "a_x4.png  24x16 -> 96x64\n"


def test_a_blend_is_a_safetensors_file(call):
    ended = call("models", "blend", "a", "b", "-o", "c.pth")
    assert ended.code == 2
    assert ".safetensors" in ended.err
