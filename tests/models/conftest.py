"""basicsr's networks as oracles.

`import basicsr` fails with any current torchvision, so its architecture files are loaded with
stand-ins for what else they import.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest


def stand_in(name: str, **attributes) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    return module


@pytest.fixture(scope="session")
def basicsr():
    """basicsr's RRDBNet and SRVGGNetCompact, from the installed package."""
    spec = importlib.util.find_spec("basicsr")
    if spec is None:
        pytest.skip("basicsr is not installed (see the README's test command)")
    [folder] = spec.submodule_search_locations
    stand_ins = [
        stand_in("basicsr", __path__=[folder]),
        stand_in("basicsr.archs", __path__=[f"{folder}/archs"]),
        stand_in("basicsr.utils", __path__=[f"{folder}/utils"], get_root_logger=None),
        stand_in("basicsr.ops", __path__=[]),
        stand_in("basicsr.ops.dcn", ModulatedDeformConvPack=object, modulated_deform_conv=None),
        stand_in("torchvision", __version__="0.0.0"),
        stand_in("distutils", __path__=[]),
        stand_in("distutils.version", LooseVersion=str),
    ]
    before = dict(sys.modules)
    sys.modules.update({module.__name__: module for module in stand_ins})
    try:
        rrdbnet = importlib.import_module("basicsr.archs.rrdbnet_arch")
        srvgg = importlib.import_module("basicsr.archs.srvgg_arch")
    finally:
        for name in set(sys.modules) - set(before):
            if name.partition(".")[0] in {"basicsr", "torchvision", "distutils"}:
                del sys.modules[name]
        sys.modules.update(before)
    return SimpleNamespace(RRDBNet=rrdbnet.RRDBNet, SRVGGNetCompact=srvgg.SRVGGNetCompact)
