from __future__ import annotations

import numpy as np
import pytest
import torch

from upscale.engine import temporary
from upscale.engine.temporary import image_array, mapped_array, mapped_tensor
from upscale.errors import OutputError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_tensor_in_a_file_works_like_any_other_and_leaves_no_file(tmp_path, monkeypatch, dtype):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(temporary.tempfile, "tempdir", None)
    tensor = mapped_tensor((5, 7, 3), dtype)
    values = torch.arange(105).view(5, 7, 3).to(dtype)
    tensor.copy_(values)
    assert torch.equal(tensor, values)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_raises_output_error_with_advice(monkeypatch):
    def full(descriptor, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(temporary, "_reserve", full)
    with pytest.raises(OutputError, match=r"No space left.*TMPDIR"):
        mapped_array((10, 10), np.uint8)


def test_images_too_large_for_memory_are_mapped_from_a_file(monkeypatch):
    monkeypatch.setattr(temporary, "available_memory", lambda device: 1000)
    assert isinstance(image_array((100, 10, 3), np.uint16), np.memmap)
    assert not isinstance(image_array((10, 10, 3), np.uint8), np.memmap)


def test_output_images_take_at_most_45_percent_of_available_memory(monkeypatch):
    monkeypatch.setattr(temporary, "available_memory", lambda device: 1000)
    assert not isinstance(image_array((45, 10, 1), np.uint8), np.memmap)
    assert isinstance(image_array((451, 1, 1), np.uint8), np.memmap)
