from __future__ import annotations

import importlib
import re
import sys

import cv2
import pytest

from upscale.dependencies import find_import_problem
from upscale.errors import ImageError
from upscale.images import read_image
from upscale.jobs.events import error_text

REINSTALL = "run: python -m pip install --no-deps --force-reinstall"


def problem_of(work):
    with pytest.raises((ImportError, OSError)) as raised:
        work()
    return find_import_problem(raised.value)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module and return a function that imports it."""
    monkeypatch.syspath_prepend(tmp_path)

    def module(name: str, text: str):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return lambda: importlib.import_module(name)

    return module


def test_the_library_that_ctypes_cannot_load_is_named(module):
    problem = problem_of(module("torch", "import ctypes\nctypes.CDLL('libmissing.so.3')\n"))
    assert problem.package == "torch"
    assert "the library libmissing.so.3 is missing" in problem.text


@pytest.mark.parametrize(
    ("text", "library"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", "libGL.so.1"),
        ("dlopen(x.so, 2): Library not loaded: @rpath/libavif.16.dylib", "@rpath/libavif.16.dylib"),
        ("Could not find module 'C:/x/vc.dll' (or one of its dependencies)", "C:/x/vc.dll"),
    ],
)
def test_messages_of_all_systems_are_understood(text, library, module):
    problem = problem_of(module("cv2", f"raise ImportError({text!r})"))
    assert problem.package == "opencv-python-headless"
    assert f"the library {library} is missing" in problem.text


def test_a_library_that_windows_does_not_name_is_an_import_that_fails(module):
    text = "DLL load failed while importing cv2: The specified module could not be found."
    problem = problem_of(module("cv2", f"raise ImportError({text!r}, name='cv2')"))
    assert str(problem).startswith(f"opencv-python-headless cannot be imported ({text[:-1]}); run")


def test_a_package_that_another_one_needs_is_named(module):
    problem = problem_of(module("tifffile", "import no_such_package"))
    assert str(problem) == (
        "no_such_package is not installed; run: python -m pip install no_such_package"
    )


def test_the_advice_names_the_versions_that_fit(module):
    problem = problem_of(module("av", "raise ImportError('bad build', name='av._core')"))
    assert re.fullmatch(rf"{REINSTALL} 'av[<>=,.\d]+'", problem.remedy)


def test_a_module_of_python_itself_is_not_a_package(module):
    text = "libffi.so.8: cannot open shared object file"
    problem = problem_of(module("cv2", f"raise ImportError({text!r}, name='_ctypes')"))
    assert problem.package == "Python"
    assert "_ctypes (libffi.so.8)" in problem.text


def test_a_name_that_this_program_lacks_is_not_a_broken_package():
    with pytest.raises(ImportError) as raised:
        exec("from upscale.images import no_such_name")
    assert find_import_problem(raised.value) is None
    assert error_text(raised.value).startswith("internal error: ImportError")


@pytest.mark.parametrize("error", [FileNotFoundError(2, "missing", "a.png"), ValueError("no")])
def test_other_errors_are_not_about_packages(error):
    assert find_import_problem(error) is None


def test_a_broken_decoder_does_not_look_like_a_damaged_file(data, monkeypatch):
    def decode(*arguments, **options):
        raise ImportError("could not import name 'jpeg8_decode'", name="imagecodecs")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(ImportError) as raised:
        read_image((data / "photos" / "kitten.webp").read_bytes())
    assert not isinstance(raised.value, ImageError)
    assert error_text(raised.value).startswith("imagecodecs cannot be imported (could not import")


def test_opencv_is_built_without_windows_and_needs_no_library_of_a_desktop():
    assert re.search(r"\n +GUI: +NONE\n", cv2.getBuildInformation())
