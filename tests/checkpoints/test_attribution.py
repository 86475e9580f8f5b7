"""Licences and authors in metadata, and licences that forbid commercial use."""

from __future__ import annotations

import pytest

from upscale.checkpoints import attribution, forbids_commercial_use, joint_attribution
from upscale.checkpoints.catalog_entries import catalog


@pytest.mark.parametrize(
    "licence",
    [
        "CC-BY-NC-4.0",
        "CC-BY-NC-SA-4.0",
        "cc by-nc 4.0",
        "CC_BY_NC_ND",
        "CC-BY-4.0 and CC-BY-NC-4.0",
        "Non-Commercial",
        "noncommercial use only",
        "S-Lab License 1.0",
    ],
)
def test_licences_that_forbid_commercial_use_are_recognised(licence: str) -> None:
    assert forbids_commercial_use(licence)


@pytest.mark.parametrize(
    "licence",
    ["", "unknown", "MIT", "CC-BY-4.0", "CC-BY-SA-4.0", "CC0-1.0", "NCSA", "ncnn", "GPL-3.0"],
)
def test_other_licences_are_not(licence: str) -> None:
    assert not forbids_commercial_use(licence)


def test_networks_of_the_catalogue_may_be_used_commercially() -> None:
    assert not [e.name for e in catalog().values() if forbids_commercial_use(e.licence)]


def test_the_preferred_spelling_of_a_key_wins() -> None:
    metadata = {"license": "A", "licence": "B", "modelspec.license": "C", "modelspec.author": "D"}
    assert attribution(metadata) == {"licence": "B", "author": "D"}
    assert attribution(metadata | {"licence": "Unknown"}) == {"licence": "A", "author": "D"}
    assert attribution(metadata | {"licence": "  "}) == {"licence": "A", "author": "D"}


def test_a_blend_names_every_licence_and_author_once() -> None:
    ann, bob = {"licence": "MIT", "author": "Ann"}, {"licence": "CC-BY-4.0", "author": "Bob"}
    assert joint_attribution([ann, ann]) == ann
    assert joint_attribution([ann, bob, ann]) == {
        "licence": "MIT and CC-BY-4.0",
        "author": "Ann; Bob",
    }
    both = joint_attribution([ann, bob])
    assert joint_attribution([both, bob, ann]) == both
    assert joint_attribution([{}, {}]) == {"licence": "unknown"}
