from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks.peers import PeerMissingError, load_basicsr


@pytest.fixture(scope="session")
def basicsr():
    """basicsr's RRDBNet and SRVGGNetCompact, the oracles, from the installed package."""
    try:
        rrdbnet, srvgg = load_basicsr("archs.rrdbnet_arch", "archs.srvgg_arch")
    except PeerMissingError as error:
        pytest.skip(f"{error} (the README's test command installs it)")
    return SimpleNamespace(RRDBNet=rrdbnet.RRDBNet, SRVGGNetCompact=srvgg.SRVGGNetCompact)
