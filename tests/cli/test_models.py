from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from upscale.checkpoints import (
    availability,
    cache_root,
    catalog,
    locate,
    read_metadata,
    resolve,
    write_safetensors,
)

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
    names = [line.split()[0] for line in lines[1 : len(catalog()) + 2]]
    assert names == ["auto", *catalog()]


@needs_quick
def test_an_included_network_is_never_listed_as_downloaded(call, own_cache):
    def status():
        lines = call("models").out.splitlines()
        return next(line.split()[2] for line in lines if line.startswith(f"{QUICK} "))

    assert status() == "included"
    assert call("models", "pull", QUICK).code == 0
    assert status() == "included"


def test_the_list_as_json(call):
    records = list(map(json.loads, call("models", "--json").out.splitlines()))
    assert [record["name"] for record in records[: len(catalog())]] == list(catalog())
    assert call("models", "list", "--json").out == call("models", "--json").out


def test_info_of_a_network_names_its_licence_and_checksum(call):
    ended = call("models", "info", "realesrgan-x4plus")
    entry = catalog()["realesrgan-x4plus"]
    assert ended.code == 0
    for value in (entry.sha256, entry.licence, entry.purpose):
        assert value in ended.out


def test_info_of_auto_names_its_networks(call):
    ended = call("models", "info", "auto")
    assert ended.code == 0
    facts = json.loads(call("models", "info", "auto", "--json").out)
    assert facts["scale"] == "4"
    networks = facts["networks"].split(", ")
    assert len(networks) == 3
    for name in networks:
        assert name in catalog()
        assert name in facts["architecture"]
        assert name in ended.out


def test_pulling_auto_makes_all_its_networks_ready(call, own_cache):
    ended = call("models", "pull", "auto")
    assert (ended.code, len(ended.out.splitlines())) == (0, 3), ended.err


def test_no_network_may_be_called_auto(call, own_cache, tmp_path):
    (tmp_path / "auto.pth").write_bytes(b"")
    path = call("models", "pull", QUICK).out.strip()
    ended = call("models", "import", path, "--name", "auto")
    assert ended.code == 2
    assert "auto" in ended.err
    ended = call("models", "blend", "auto", QUICK, "-o", "b.safetensors")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert "auto: chooses among several networks" in ended.err


def test_info_of_a_network_with_denoise_names_partner_and_default(call):
    facts = json.loads(call("models", "info", "upscale-x4-fast", "--json").out)
    assert facts["denoise partner"] == QUICK
    assert facts["denoise default"] == "1"
    facts = json.loads(call("models", "info", "realesr-general-x4v3", "--json").out)
    assert facts["denoise default"] == "1"
    assert "denoise default" not in call("models", "info", "realesrgan-x4plus", "--json").out


def test_help_names_the_networks_with_denoise(call, capsys):
    assert call("--help").code == 0
    page = " ".join(capsys.readouterr().out.replace("│", "").split())
    expected = ", ".join(
        f"{entry.name} (default: {entry.denoise:g})"
        for entry in catalog().values()
        if entry.denoise_partner
    )
    assert expected and expected in page


@needs_quick
def test_non_commercial_licences_are_named(call, own_cache, tmp_path):
    call("models", "blend", QUICK, QUICK, "-o", "mix.safetensors")
    metadata = {"license": "CC-BY-NC-SA-4.0", "author": "Ann\x1b[31m"}
    write_safetensors(
        load_file(tmp_path / "mix.safetensors"), tmp_path / "nc.safetensors", metadata
    )
    ended = call("models", "import", "nc.safetensors")
    assert ended.code == 0
    assert "note: commercial use is not allowed by the licence, CC-BY-NC-SA-4.0" in ended.err
    for name in ("nc", "nc.safetensors"):
        ended = call("models", "info", name)
        assert "commercial use  not allowed by the licence\n" in ended.out
        assert r"Ann\x1b[31m" in ended.out and "\x1b" not in ended.out
        facts = json.loads(call("models", "info", name, "--json").out)
        assert facts["licence"] == "CC-BY-NC-SA-4.0"
        assert facts["commercial use"] == "not allowed by the licence"
    assert "commercial use" not in call("models", "info", QUICK).out
    assert "note" not in call("models", "import", "mix.safetensors").err


@needs_quick
def test_licence_and_author_are_given_with_an_import(call, own_cache, tmp_path):
    assert call("models", "blend", QUICK, QUICK, "-o", "mix.safetensors").code == 0
    save_file(load_file(tmp_path / "mix.safetensors"), tmp_path / "bare.safetensors")
    ended = call(
        "models", "import", "bare.safetensors", "--licence", "CC-BY-4.0", "--author", "Ann"
    )
    assert (ended.code, ended.out) == (0, "bare\n"), ended.err
    facts = json.loads(call("models", "info", "bare", "--json").out)
    assert (facts["licence"], facts["author"]) == ("CC-BY-4.0", "Ann")
    ended = call("models", "import", "mix.safetensors", "--licence", "MIT")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "mix.safetensors: its licence is known: BSD-3-Clause" in ended.err


@needs_quick
def test_a_blend_keeps_licences_and_authors(call, own_cache, tmp_path):
    assert call("models", "blend", "upscale-x4-fast", QUICK, "-o", "mix.safetensors").code == 0
    metadata = read_metadata(tmp_path / "mix.safetensors")
    assert metadata["licence"] == "BSD-3-Clause"
    assert metadata["author"] == "The upscale authors; Xintao Wang and others"
    assert metadata["source"] == f"0.5 upscale-x4-fast + 0.5 {QUICK}"
    ends = [resolve("upscale-x4-fast", denoise=1).state(), resolve(QUICK).state()]
    for key, tensor in load_file(tmp_path / "mix.safetensors").items():
        half = 0.5 * ends[0][key].float() + 0.5 * ends[1][key].float()
        assert torch.allclose(tensor, half, atol=1e-6)


def test_info_of_an_unknown_name_is_an_error(call):
    ended = call("models", "info", "nonsense")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: nonsense")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("photo.png -n upscale-x2", 1),
        ("photo.png -n upscale-x2 --scale 2 --dry-run", 1),
        ("models info upscale-x2", 1),
        ("models pull upscale-x2", 2),
        ("bench upscale-x2", 1),
        ("photo.png page.html --models upscale-x2,realesr-animevideov3", 1),
    ],
)
def test_a_withdrawn_network_is_an_error_that_says_what_to_use(
    command, code, call, own_cache, photo
):
    photo("photo.png")
    ended = call(*command.split())
    assert (ended.code, ended.out) == (code, ""), ended
    assert ended.err.startswith("error: upscale-x2: this network was withdrawn; use realsr-df2k")
    assert ended.err.count("\n") == 1


def test_info_of_an_invalid_file_is_one_line(call, tmp_path):
    (tmp_path / "net.pth").write_bytes(b"no network")
    ended = call("models", "info", "net.pth")
    assert ended.code == 1
    assert ended.err.count("\n") == 1


@needs_quick
def test_pull_prints_the_file_of_an_included_network(call, own_cache):
    ended = call("models", "pull", QUICK)
    assert (ended.code, ended.out) == (0, f"{locate(catalog()[QUICK])}\n")
    assert availability(catalog()[QUICK]) == "bundled"
    assert not cache_root().exists()


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
