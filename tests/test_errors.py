from __future__ import annotations

import pytest

from upscale import errors


def test_the_former_name_of_an_error_still_works_with_one_warning():
    with pytest.warns(DeprecationWarning, match="PictureError was renamed to ImageError") as caught:
        former = errors.PictureError
    assert former is errors.ImageError
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="FilmError"):
        _ = errors.FilmError


def test_each_error_has_an_exit_code():
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    codes = {c.__name__: c.exit_code for c in classes if issubclass(c, errors.UpscaleError)}
    assert codes.pop("UsageError") is errors.ExitCode.USAGE
    assert len(codes) > 8 and set(codes.values()) == {errors.ExitCode.FAILED}
