from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from upscale.errors import OutputError
from upscale.images import Image, read_image, write_file
from upscale.images.codecs import registry
from upscale.images.codecs.registry import codecs


def error_of(image, target, **options):
    with pytest.raises(OutputError) as caught:
        write_file(image, target, **{"format": "png", **options})
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_existing_file_is_kept_without_overwrite(noise, tmp_path):
    target = tmp_path / "a.png"
    write_file(noise(), target, format="png")
    assert "exists already" in error_of(noise(), target, format="bmp")
    write_file(noise(), target, format="bmp", overwrite=True)
    assert read_image(target).origin.format == "bmp" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failure", [MemoryError(), OSError("encoder\nerror -2")])
def test_failing_encoder_leaves_nothing_behind(noise, tmp_path, monkeypatch, failure):
    def fail(*_args):
        raise failure

    codec = replace(codecs()["png"], encode=fail)
    monkeypatch.setattr(registry, "_codecs", {"png": codec})
    assert "a.png" in error_of(noise(), tmp_path / "new" / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_error_about_unsupported_content_names_the_file(noise, tmp_path):
    message = error_of(noise(alpha=True), tmp_path / "a.jpg", format="jpeg")
    assert "a.jpg" in message and "transparency" in message
    assert list(tmp_path.iterdir()) == []


def test_the_suffix_states_the_format_unless_one_is_given(tmp_path):
    image = Image(np.zeros((4, 6, 3), np.uint8))
    write_file(image, tmp_path / "a.GIF")
    assert (tmp_path / "a.GIF").read_bytes().startswith(b"GIF89a")
    write_file(image, tmp_path / "b.gif", format="png")
    assert (tmp_path / "b.gif").read_bytes()[1:4] == b"PNG"
    with pytest.raises(OutputError, match=r"'c\.xyz' is not an image format"):
        write_file(image, tmp_path / "c.xyz")
