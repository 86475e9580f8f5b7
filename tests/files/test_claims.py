from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from upscale.files.atomic import remove_stale_temporaries
from upscale.files.claims import claim_output, empty_folders_removed

ROOT = Path(__file__).parents[2]


def test_an_output_has_one_claim_at_a_time(tmp_path):
    first = claim_output(tmp_path / "a.png")
    assert claim_output(tmp_path / "a.png") is None
    other = claim_output(tmp_path / "b.png")
    assert first is not None and other is not None
    first.release()
    second = claim_output(tmp_path / "a.png")
    assert second is not None
    second.release()
    other.release()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_claims_are_removed_if_they_stay_empty(tmp_path):
    inner, other = tmp_path / "new" / "inner", tmp_path / "other"
    with empty_folders_removed([inner, other]):
        claims = [claim_output(inner / name) for name in ("a.png", "b.png")]
        claim_output(other / "c.png").release()
        (inner / "a.png").touch()
        for claim in claims:
            claim.release()
            claim.release()
    assert [path.name for path in tmp_path.rglob("*.png")] == ["a.png"]
    assert not other.exists()
    (inner / "a.png").unlink()
    with empty_folders_removed([inner]):
        claim_output(inner / "a.png").release()
    assert inner.exists()  # it was there before


def test_a_claim_in_use_stays_and_that_of_a_killed_process_is_removed(tmp_path):
    claim = claim_output(tmp_path / "a.png")
    remove_stale_temporaries(tmp_path)
    assert claim_output(tmp_path / "a.png") is None
    claim.release()
    script = (
        "import os, sys; from pathlib import Path; from upscale.files.claims import claim_output\n"
        "claim = claim_output(Path(sys.argv[1])); os._exit(0 if claim else 1)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "a.png"], check=True, cwd=ROOT)
    assert len(list(tmp_path.iterdir())) == 1
    claim = claim_output(tmp_path / "a.png")
    assert claim is not None
    claim.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="links need a permission there")
def test_a_link_in_place_of_the_claim_is_not_followed(tmp_path):
    folder = tmp_path / "shared"
    claim = claim_output(folder / "a.png")
    (name,) = folder.iterdir()
    claim.release()
    name.symlink_to(tmp_path / "victim")
    claim = claim_output(folder / "a.png")
    assert claim is not None  # without the exclusive right, as on a drive without locks
    assert not (tmp_path / "victim").exists()


def test_where_nothing_can_be_stored_the_work_goes_on(tmp_path):
    (tmp_path / "file").touch()
    claim = claim_output(tmp_path / "file" / "a.png")
    assert claim is not None
    claim.release()
