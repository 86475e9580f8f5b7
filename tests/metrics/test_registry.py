from __future__ import annotations

import subprocess
import sys

import pytest

from upscale.errors import CheckpointError, DependencyError
from upscale.metrics import brisque, niqe, piqe, psnr, ssim
from upscale.metrics.registry import Resources, metrics


def test_builtin_metrics_are_registered_in_table_order():
    known = metrics()
    assert list(known) == [
        *("psnr", "psnr-y", "ssim", "ssim-y", "lpips", "lpips-vgg", "dists", "st-lpips"),
        *("text", "colour-shift", "niqe", "brisque", "piqe"),
    ]
    assert [name for name, metric in known.items() if not metric.paired] == list(known)[-3:]
    assert [name for name, metric in known.items() if metric.better == "more"] == list(known)[:4]
    assert all(metric.implementation for metric in known.values())


def test_metrics_without_files_load(photo, damages):
    bad = damages["jpeg"](photo, 2)
    expected = {
        "psnr": psnr(bad, photo, border=4),
        "psnr-y": psnr(bad, photo, border=4, luma=True),
        "ssim": ssim(bad, photo, border=4),
        "ssim-y": ssim(bad, photo, border=4, luma=True),
        "niqe": niqe(bad, border=4),
        "brisque": brisque(bad, border=4),
        "piqe": piqe(bad, border=4),
    }
    assert {name: metrics()[name].load(Resources())(bad, photo, 4) for name in expected} == expected


def test_paired_metrics_need_a_reference(photo):
    with pytest.raises(ValueError, match="needs a reference"):
        metrics()["psnr"].load(Resources())(photo, None, 0)
    assert metrics()["niqe"].load(Resources())(photo, None, 0) == niqe(photo)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("lpips", r"needs alexnet-owt-7be5be79\.pth from torchvision's models, which is not down"),
        ("lpips-vgg", r"needs vgg16-397923af\.pth .* --metric-files"),
        ("dists", r"needs vgg16-397923af\.pth"),
    ],
)
def test_missing_weight_file_is_named(tmp_path, name, needed):
    for resources in (Resources(), Resources(tmp_path)):
        with pytest.raises(DependencyError, match=needed):
            metrics()[name].load(resources)


def test_package_with_the_weight_file_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install --no-deps stlpips-pytorch"):
        metrics()["st-lpips"].load(Resources())


def test_weight_file_with_another_checksum_is_rejected(tmp_path):
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match=r"is not the vgg16-397923af\.pth of torchvision"):
        metrics()["dists"].load(Resources(tmp_path))


def test_registry_does_not_import_torch():
    code = "import sys, upscale.metrics.registry as c; c.metrics(); print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ended.stdout.split() == [b"False"]


def test_packages_with_weight_files_are_never_imported():
    code = (
        "import sys, numpy as np; from upscale.metrics.registry import *\n"
        "try: metrics()['st-lpips'].load(Resources())\n"
        "except Exception as error: print(error)\n"
        "print([n for n in sys.modules if n.startswith(('stlpips', 'torchvision', 'IPython'))])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ended.stdout.splitlines()[-1] == b"[]"
