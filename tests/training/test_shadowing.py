"""Folders in the working directory do not hide the training package."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_folder_called_training_shadows_nothing(tmp_path):
    for name in ("training", "training/recipes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('shadowed')\n")
    done = subprocess.run(
        [sys.executable, "-m", "upscale", "train", "--recipes"],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "tiny-x4" in done.stdout
