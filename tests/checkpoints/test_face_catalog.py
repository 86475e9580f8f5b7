"""The networks for faces in the catalogue."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from upscale.checkpoints import (
    catalog,
    face_catalog,
    face_entries,
    forbids_commercial_use,
    known_face_entry,
    resolving,
)
from upscale.errors import CheckpointError


def test_networks_for_faces_are_apart_from_those_for_upscaling():
    assert list(face_catalog()) == ["gfpgan", "gfpgan-1.3", "restoreformer", "codeformer"]
    assert list(face_catalog("face-detector")) == ["retinaface"]
    assert list(face_catalog("face-parser")) == ["parsenet"]
    names = [entry.name for entry in face_entries()]
    assert len({*names, *catalog()}) == len(names) + len(catalog())
    assert {entry.kind for entry in face_catalog().values()} == {"face"}
    assert {entry.kind for entry in catalog().values()} == {"model"}


def test_only_codeformer_and_parsenet_forbid_commercial_use():
    forbidden = [each.name for each in face_entries() if forbids_commercial_use(each.licence)]
    assert forbidden == ["codeformer", "parsenet"]


def test_they_are_files_of_releases():
    for entry in face_entries():
        assert entry.url.startswith("https://github.com/")
        assert "/releases/download/v" in entry.url
        assert entry.size > 80_000_000


@pytest.mark.parametrize(
    ("name", "known"),
    [("GFPGANv1.4.pth", "gfpgan"), ("GFPGANv1.3", "gfpgan-1.3"), ("CodeFormer", "codeformer"),
     ("RestoreFormer.pth", "restoreformer"), ("parsing_parsenet", "parsenet"),
     ("detection_Resnet50_Final.pth", "retinaface"),
     ("realesrgan-x4plus", None)],
)  # fmt: skip
def test_names_of_releases_are_known(name, known):
    entry = known_face_entry(name)
    assert (entry and entry.name) == known


def test_a_file_of_a_release_is_imported_under_its_name(tmp_path, monkeypatch):
    """The network itself cannot be checked, because only spandrel knows it."""
    import torch

    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "GFPGANv1.4.pth"
    torch.save({"params_ema": {"first.weight": torch.zeros(3)}}, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = replace(face_catalog()["gfpgan"], sha256=digest, size=file.stat().st_size)
    monkeypatch.setattr(resolving, "face_entries", lambda: [entry])
    kept = resolving.import_checkpoint(file)
    assert kept.stem == "gfpgan"
    assert resolving.locate(entry) == kept


def test_an_import_does_not_take_the_name_of_a_network_for_faces(tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "gfpgan.pth"
    torch.save({"params": {"first.weight": torch.zeros(3)}}, file)
    with pytest.raises(Exception, match="gfpgan is a name of the catalogue") as raised:
        resolving.import_checkpoint(file)
    assert not isinstance(raised.value, CheckpointError)
