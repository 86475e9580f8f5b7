"""The catalogue is complete, and invalid catalogues are rejected."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from upscale import checkpoints
from upscale.checkpoints import availability, catalog, known_name, named_scale
from upscale.checkpoints.catalog_entries import (
    bundled_source,
    catalog_path,
    read_catalog,
    read_withdrawn,
    withdrawal,
)
from upscale.errors import CheckpointError

MODEL = f"""
[[model]]
name = "net"
scale = 4
architecture = "some"
purpose = "testing"
source = "here"
licence = "MIT"
sha256 = "{"a" * 64}"
url = "https://models.invalid/net.pth"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "catalog.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_catalogue_contains_the_documented_names() -> None:
    assert list(catalog()) == [
        "realesrgan-x4plus",
        "realsr-df2k",
        "realesrgan-x4plus-anime",
        "realesr-animevideov3",
        "upscale-x1",
        "upscale-x4-fast",
        "upscale-x2-fast",
        "realesrgan-x2plus",
        "realesrnet-x4plus",
        "realesr-general-x4v3",
        "realesr-general-wdn-x4v3",
        "4xnomoswebphoto-esrgan",
        "4xnomos2-otf-esrgan",
        "4xnomos8ksc",
        "4xlsdirplus",
    ]


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("realesrgan-x4plus", "realesrgan-x4plus"),
        ("RealESRGAN_x4plus", "realesrgan-x4plus"),
        ("RealESRGAN_x4plus_anime_6B", "realesrgan-x4plus-anime"),
        ("REALESRGAN_X2PLUS", "realesrgan-x2plus"),
        ("RealESRNet_x4plus", "realesrnet-x4plus"),
        ("RealESRGAN_x4plus.pth", "realesrgan-x4plus"),
        ("realesrgan_x4plus", "realesrgan-x4plus"),
        ("RealESRGAN_x4plus_anime_6B.pth", "realesrgan-x4plus-anime"),
        ("realesrgan-x4plus-anime.bin", "realesrgan-x4plus-anime"),
        ("realesr-general-x4v3.pth", "realesr-general-x4v3"),
        ("realesr-animevideov3-x2", "realesr-animevideov3"),
        ("realesr-animevideov3-x3.param", "realesr-animevideov3"),
        ("realesr-animevideov3-x4", "realesr-animevideov3"),
        ("4xNomosWebPhoto_esrgan.pth", "4xnomoswebphoto-esrgan"),
        ("4xNomos2_otf_esrgan", "4xnomos2-otf-esrgan"),
        ("4xNomos8kSC.pth", "4xnomos8ksc"),
        ("Nomos8kSC", "4xnomos8ksc"),
        ("4x-LSDIRplus", "4xlsdirplus"),
        ("x4plus", None),
        ("realesrgan-x4plus.png", None),
        ("realesr-animevideov3-x5", None),
        ("weights/RealESRGAN_x4plus.pth", None),
    ],
)
def test_official_and_ncnn_names_are_known(
    word: str, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert known_name(word) == name


def test_a_file_of_an_official_name_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RealESRGAN_x4plus.pth").write_bytes(b"mine")
    assert known_name("RealESRGAN_x4plus.pth") is None
    assert known_name("RealESRGAN_x4plus") == "realesrgan-x4plus"


@pytest.mark.parametrize(
    ("word", "scale"),
    [
        ("realesr-animevideov3-x2", 2),
        ("realesr-animevideov3-x3.bin", 3),
        ("realesr-animevideov3-x4", None),
        ("realesrgan-x4plus", None),
        ("upscale-x1", None),
    ],
)
def test_ncnn_names_contain_the_output_scale(word: str, scale: int | None) -> None:
    assert named_scale(word) == scale


def test_every_model_has_a_card() -> None:
    cards = catalog_path().with_name("README.md").read_text(encoding="utf-8")
    for name in catalog():
        assert f"| `{name}` |" in cards


def test_downloads_are_official_and_of_known_size() -> None:
    bases = {
        "Xintao Wang and others": "https://github.com/xinntao/Real-ESRGAN/releases/download/",
        "Philip Hofmann (Helaman)": "https://github.com/Phhofm/models/",
    }
    fetched = [entry for entry in catalog().values() if entry.url]
    assert [entry.author for entry in fetched].count("Xintao Wang and others") == 4
    assert len(fetched) == 8
    for entry in fetched:
        assert str(entry.url).startswith(bases[str(entry.author)])
        assert entry.size is not None


def test_networks_of_openmodeldb_have_its_licence() -> None:
    theirs = [entry for entry in catalog().values() if "openmodeldb.info" in entry.source]
    assert len(theirs) == 4
    for entry in theirs:
        assert entry.attribution == {"licence": "CC-BY-4.0", "author": "Philip Hofmann (Helaman)"}


def test_denoise_partner() -> None:
    pairs = {entry.name: entry.denoise_partner for entry in catalog().values()}
    assert pairs.pop("realesr-general-x4v3") == "realesr-general-wdn-x4v3"
    assert pairs.pop("upscale-x4-fast") == "realesr-animevideov3"
    assert set(pairs.values()) == {None}
    defaults = {entry.name: entry.denoise for entry in catalog().values()}
    assert set(defaults.values()) == {1}


def test_every_model_names_its_author() -> None:
    for entry in catalog().values():
        assert entry.author, entry.name
        assert entry.attribution == {"licence": entry.licence, "author": entry.author}


def test_minimal_entry_is_read(tmp_path: Path) -> None:
    entry = read_catalog(write(tmp_path, MODEL))["net"]
    assert (entry.scale, entry.size, entry.also, entry.denoise_partner) == (4, None, (), None)
    assert (entry.denoise, entry.author, entry.attribution) == (1, None, {"licence": "MIT"})
    assert entry.accepted == {"a" * 64}
    assert availability(entry) == "absent"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[model]]", "[[model", "cannot be read"),
        ("[[model]]", "[model]", "must be a table"),
        ('name = "net"', 'name = "Net work"', "not a valid model name"),
        ('name = "net"', 'name = "../net"', "not a valid model name"),
        ('name = "net"', "", "[[model]]  needs name"),
        ('licence = "MIT"', "", "[[model]] net needs licence"),
        ('licence = "MIT"', 'licence = ""', "licence"),
        ('licence = "MIT"', 'license = "MIT"', "unknown key 'license'"),
        ("scale = 4", "scale = 5", "scale"),
        ("scale = 4", 'scale = "4"', "scale"),
        ("scale = 4", "scale = true", "scale"),
        ("a" * 64, "a" * 63, "sha256"),
        ("a" * 64, "A" * 64, "sha256"),
        ("https:", "http:", "https://"),
        (
            'url = "https://models.invalid/net.pth"',
            "",
            "needs exactly one of url, file and wheel_file",
        ),
        ("scale = 4", 'scale = 4\nwheel_file = "x"', "needs exactly one of"),
        ("scale = 4", 'scale = 4\nfile = "x"', "needs exactly one of"),
        (
            'url = "https://models.invalid/net.pth"',
            'file = "../x"',
            "not a valid name of a file beside",
        ),
        ("scale = 4", 'scale = 4\nwheel_package = "x"', "must both be given"),
        ("scale = 4", 'scale = 4\ndenoise_partner = "none"', "no model none"),
        ("scale = 4", "scale = 4\ndenoise = 0.5", "denoise needs a denoise_partner"),
        ("scale = 4", "scale = 4\ndenoise = 1.5", "denoise is 1.5, outside 0..1"),
        ("scale = 4", "scale = 4\ndenoise = nan", "denoise is nan, outside 0..1"),
        ("scale = 4", "scale = 4\ndenoise = true", "denoise = True is not float"),
        ("scale = 4", 'scale = 4\nauthor = ""', "author"),
        ("scale = 4", "scale = 4\nsize = -1", "size"),
        ("scale = 4", "scale = 4\naliases = [1]", "aliases"),
        ("scale = 4", 'scale = 4\nalso = ["b"]', "sha256"),
        ("scale = 4", 'scale = 4\naliases = ["NET"]', "share a name"),
    ],
)
def test_invalid_catalogue_is_rejected(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MODEL
    path = write(tmp_path, MODEL.replace(old, new, 1))
    with pytest.raises(CheckpointError) as raised:
        read_catalog(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


WITHDRAWN = '[[withdrawn]]\nname = "old-net"\nadvice = "use net"\n'


def test_withdrawn_models_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, MODEL + WITHDRAWN)
    assert read_withdrawn(path) == {"old-net": "use net"}
    assert list(read_catalog(path)) == ["net"]
    assert read_withdrawn(write(tmp_path, MODEL)) == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[withdrawn]]", "[withdrawn]", "must have a name and an advice"),
        ('advice = "use net"', "", "must have a name and an advice"),
        ('advice = "use net"', 'advice = "use net"\nscale = 4', "must have a name and an advice"),
        ('advice = "use net"', "advice = 4", "advice = 4 is not str"),
        ('name = "old-net"', 'name = ""', "name = '' is not str"),
        ('name = "old-net"', 'name = "net"', "net is both a model and withdrawn"),
    ],
)
def test_invalid_withdrawn_models_are_rejected(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in WITHDRAWN
    path = write(tmp_path, MODEL + WITHDRAWN.replace(old, new, 1))
    with pytest.raises(CheckpointError) as raised:
        read_withdrawn(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_advice_on_withdrawn_models_names_models_of_the_catalogue() -> None:
    withdrawn = read_withdrawn(catalog_path())
    assert "upscale-x2" in withdrawn
    for name, advice in withdrawn.items():
        assert name not in catalog()
        named = [word for word in re.findall(r"[\w-]+", advice) if word in catalog()]
        assert named, f"{name}: {advice}"


@pytest.mark.parametrize("word", ["upscale-x2", "Upscale_X2", "upscale-x2.safetensors"])
def test_message_on_a_withdrawn_model_says_what_to_use(word: str) -> None:
    message = str(withdrawal(word))
    assert message.startswith(f"{word}: this network was withdrawn; use realsr-df2k")
    assert "realesrgan-x4plus" in message and "--scale 2" in message
    assert "\n" not in message


def test_catalogue_of_this_installation_is_a_file() -> None:
    assert catalog_path().name == "catalog.toml"
    assert read_catalog(catalog_path()) == catalog()


def test_file_of_a_wheel_is_found_in_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = 'wheel_package = "toy_weights"\nwheel_file = "models/net.bin"'
    text = MODEL.replace('url = "https://models.invalid/net.pth"', sources)
    entry = read_catalog(write(tmp_path, text))["net"]
    assert bundled_source(entry) is None
    file = tmp_path / "toy_weights" / "models" / "net.bin"
    file.parent.mkdir(parents=True)
    (tmp_path / "toy_weights" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert bundled_source(entry) is None, "the package is there, its file is not"
    file.touch()
    assert bundled_source(entry) == file


def test_every_exported_name_is_available() -> None:
    for name in checkpoints.__all__:
        assert getattr(checkpoints, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        checkpoints.__getattr__("nonsense")


@pytest.mark.parametrize("name", ["blend", "load_community", "read_state_dict", "resolve"])
def test_functions_that_need_torch_are_imported_on_access(name: str) -> None:
    function = checkpoints.__getattr__(name)
    assert function.__name__ == name
    assert function.__module__.startswith("upscale.checkpoints.")


def test_missing_catalogue_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_catalog(tmp_path / "none.toml")


def test_listing_models_imports_no_torch() -> None:
    script = (
        "import sys; from upscale import checkpoints as c; "
        "print(sorted({c.availability(e) for e in c.catalog().values()}), c.imported_names()); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
