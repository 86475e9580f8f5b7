from __future__ import annotations

import hashlib
import os

from upscale.files.hashing import sha256_of


def test_checksum_is_that_of_the_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(os.urandom(2**17 + 3))
    assert sha256_of(path) == hashlib.sha256(path.read_bytes()).hexdigest()
