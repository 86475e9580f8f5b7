from __future__ import annotations

import platform
import shutil

import pytest

from tests.kernels.building import ROOT, hatch_build

pytest.importorskip("hatchling")


@pytest.fixture
def hook():
    return hatch_build()


@pytest.fixture
def source(hook, tmp_path):
    (tmp_path / hook.KERNELS).mkdir(parents=True)
    for source in (ROOT / hook.KERNELS).glob("*.[ch]"):
        shutil.copy(source, tmp_path / hook.KERNELS)
    return tmp_path


def data(hook, root):
    build_data = {"artifacts": [], "pure_python": True}
    hook.KernelHook(str(root), {}, None, None, "", "wheel").initialize("standard", build_data)
    return build_data


def test_a_compiler_gives_kernels_and_a_wheel_for_this_platform(hook, source):
    if hook._compiler() is None or not hook.build_kernels(source):
        pytest.skip("the kernels cannot be compiled here")
    found = data(hook, source)
    names = {f"/{hook.KERNELS / name}" for name in hook.TARGETS[platform.machine().lower()]}
    assert names <= set(found["artifacts"])
    assert all((source / path[1:]).is_file() for path in found["artifacts"])
    assert found["tag"].startswith("py3-none-") and not found["tag"].endswith("any")


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_working_compiler_the_wheel_is_pure(hook, source, monkeypatch, capsys, compiler):
    monkeypatch.setenv("CC", compiler)
    older = source / hook.KERNELS / "winograd-avx2.so"
    older.write_bytes(b"")
    assert data(hook, source) == {"artifacts": [], "pure_python": True}
    assert "without its compiled kernels" in capsys.readouterr().err
    assert not older.exists()


def test_other_processors_get_a_pure_wheel(hook, source, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert data(hook, source) == {"artifacts": [], "pure_python": True}


def test_arm64_gets_one_library_of_its_own(hook, source, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    if hook._compiler() is None or not hook.build_kernels(source):
        pytest.skip("the kernels cannot be compiled here")
    assert data(hook, source)["artifacts"] == [f"/{hook.KERNELS}/winograd-neon.so"]
