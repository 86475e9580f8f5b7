"""Basicsr's discriminators, losses and training steps, which tests take as oracles."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest
from torch import nn

from benchmarks.peers import PeerMissingError, load_basicsr

_MODULES = (
    "archs.discriminator_arch",
    "losses.gan_loss",
    "losses.basic_loss",
    "models.esrgan_model",
)


def load_official(vgg19: nn.Sequential | None = None) -> SimpleNamespace:
    """Return basicsr's classes; skip the test where basicsr is absent.

    Args:
        vgg19: what its PerceptualLoss gets for torchvision's VGG19 features.
    """
    stand_ins = _stand_ins(vgg19)
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        discriminators, gan, basic, esrgan = load_basicsr(*_MODULES)
    except PeerMissingError as error:
        pytest.skip(f"{error} (the README's test command installs it)")
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
    return SimpleNamespace(
        UNetDiscriminatorSN=discriminators.UNetDiscriminatorSN,
        VGGStyleDiscriminator=discriminators.VGGStyleDiscriminator,
        GANLoss=gan.GANLoss,
        L1Loss=basic.L1Loss,
        CharbonnierLoss=basic.CharbonnierLoss,
        PerceptualLoss=basic.PerceptualLoss,
        ESRGANModel=esrgan.ESRGANModel,
    )


def _stand_ins(vgg19: nn.Sequential | None) -> dict[str, ModuleType]:
    """What else these modules import: packages that scan folders, torchvision, a base class."""
    spec = importlib.util.find_spec("basicsr")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("basicsr is not installed (the README's test command installs it)")
    [folder] = spec.submodule_search_locations
    vgg = _module("torchvision.models.vgg", vgg19=lambda pretrained: _Features(vgg19))
    modules = [
        _module("basicsr.losses", __path__=[f"{folder}/losses"]),
        _module("basicsr.models", __path__=[f"{folder}/models"]),
        _module("basicsr.models.srgan_model", SRGANModel=object),
        _module("torchvision.models", vgg=vgg),
        vgg,
    ]
    return {module.__name__: module for module in modules}


class _Features:
    def __init__(self, features: nn.Sequential | None) -> None:
        self.features = features


def _module(name: str, **attributes: object) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(attributes)
    return module
