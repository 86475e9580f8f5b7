from __future__ import annotations

import json

import pytest

from upscale.checkpoints import resolve
from upscale.checkpoints.fusion import (
    ALPHA,
    GAMMA,
    Fusion,
    alpha_of,
    check_networks,
    fusion_file,
    read_fusion,
    write_fusion,
)
from upscale.errors import CheckpointError


def test_a_fusion_is_read_as_it_was_written(tmp_path):
    fusion = Fusion("realsr-df2k", "realesrgan-x4plus", alpha=0.25, gamma=60)
    path = tmp_path / "fusion.json"
    write_fusion(fusion, path)
    assert read_fusion(path) == fusion
    assert json.loads(path.read_text()) == {
        "relativistic": "realsr-df2k", "standard": "realesrgan-x4plus",
        "alpha": 0.25, "beta": 0.75, "gamma": 60,
    }  # fmt: skip


def test_files_are_found_beside_the_fusion_wherever_the_folder_is_moved(tmp_path, monkeypatch):
    folder = tmp_path / "here" / "networks"
    folder.mkdir(parents=True)
    for name in ("r.pth", "s.pth"):
        (folder / name).write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "here" / "fusion.json"
    write_fusion(Fusion("here/networks/r.pth", str(folder / "s.pth")), path)
    assert json.loads(path.read_text())["relativistic"] == "networks/r.pth"
    (tmp_path / "here").rename(tmp_path / "there")
    moved = read_fusion(tmp_path / "there" / "fusion.json")
    assert moved.networks == tuple(
        str(tmp_path / "there" / "networks" / name) for name in ("r.pth", "s.pth")
    )


def test_what_is_left_out_has_the_defaults(tmp_path):
    path = tmp_path / "a"
    path.write_text('\n {"relativistic": "r", "standard": "s"}')
    assert read_fusion(path) == Fusion("r", "s", ALPHA, GAMMA)
    path.write_text('{"relativistic": "r", "standard": "s", "beta": 0.2}')
    assert read_fusion(path).alpha == 0.8


def test_content_decides_what_is_a_fusion(tmp_path):
    for name, content, found in (
        ("a.json", b"\xef\xbb\xbf{}", True), ("b.safetensors", b" {}", True),
        ("c.json", b"PK\3\4", False), ("d.json", b"", False),
    ):  # fmt: skip
        path = tmp_path / name
        path.write_bytes(content)
        assert (fusion_file(path) == path) == found
    assert fusion_file(tmp_path) is None
    assert fusion_file("a\0b") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as a fusion"),
        ("{" * 100_000, "cannot be read as a fusion"),
        ('{"standard": "s"}', "lacks relativistic"),
        ('{"relativistic": "r", "standard": ""}', "lacks standard"),
        ('{"relativistic": "r", "standard": 5}', "standard must be a text"),
        ('{"relativistic": "r", "standard": "s", "alpha": true}', "alpha must be a number"),
        ('{"relativistic": "r", "standard": "s", "alpha": 2}', "alpha 2 is outside"),
        ('{"relativistic": "r", "standard": "s", "alpha": NaN}', "alpha nan is outside"),
        ('{"relativistic": "r", "standard": "s", "gamma": -1}', "gamma -1 is outside"),
        ('{"relativistic": "r", "standard": "s", "alpha": 0.5, "beta": 0.6}', "do not add up"),
        ('{"relativistic": "r", "standard": "s", "delta": 1}', "'delta' is no key"),
    ],
)
def test_damaged_fusions_are_refused_with_a_line(tmp_path, content, message):
    path = tmp_path / "fusion.json"
    path.write_text(content)
    with pytest.raises(CheckpointError) as caught:
        read_fusion(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_fusion_of_a_fusion_is_refused(tmp_path):
    path = tmp_path / "fusion.json"
    write_fusion(Fusion("r", "s"), path)
    with pytest.raises(CheckpointError, match="is a fusion itself"):
        check_networks(Fusion("r", str(path)))
    path.write_text('{"relativistic": "fusion.json", "standard": "s"}')
    with pytest.raises(CheckpointError, match="is a fusion itself"):
        read_fusion(path)


def test_where_one_network_is_needed_a_fusion_is_refused(tmp_path):
    path = tmp_path / "fusion.json"
    write_fusion(Fusion("r", "s"), path)
    with pytest.raises(CheckpointError, match="is a fusion of two networks"):
        resolve(str(path))


def test_alpha_may_be_given_by_beta():
    assert alpha_of(None, None) == ALPHA
    assert alpha_of(0.3, None) == alpha_of(0.3, 0.7) == 0.3
    assert alpha_of(None, 0.75) == 0.25
    with pytest.raises(CheckpointError, match="do not add up to 1"):
        alpha_of(0.5, 0.4)
    with pytest.raises(CheckpointError, match=r"beta 1\.5 is outside"):
        alpha_of(None, 1.5)
