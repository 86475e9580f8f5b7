from __future__ import annotations

import os
from pathlib import Path

import pytest

from upscale.files.printable import printable


@pytest.mark.skipif(os.name != "posix", reason="bytes that are not UTF-8")
def test_names_that_are_not_utf8_are_escaped():
    assert printable(Path(os.fsdecode(b"\xff.png"))) == "\\udcff.png"
