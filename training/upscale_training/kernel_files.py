"""Read kernels of downscaling from files, which are untrusted, and align them.

A kernel K of scale s makes an LR image from an HR image: LR[p] is the sum of K[i] * HR[s*p + i - c]
over i, where c = S // 2 is the origin of a kernel with S rows and columns. It is a correlation, as
in the code of KernelGAN (Bell-Kligler et al., arXiv 1909.06581).

Files differ in where the centre of mass of a kernel is: at the origin, or (s - 1) / 2 pixels behind
it, where the centre of an LR pixel is. `aligned` makes them equal.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.errors import TrainingError, UpscaleError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.images import read_image
from upscale_training.matlab_files import MAGIC as MATLAB_MAGIC
from upscale_training.matlab_files import read_matrices

Kernel = NDArray[np.float64]
"""Array of shape (S, S); S is odd, and the sum is 1."""

SUFFIXES = (".npy", ".npz", ".mat", ".png")

_LARGEST_SIDE = 255
_LARGEST_FILE = 1 << 26
_FORMATS = ".npy, .npz, .mat (version 5) or PNG"
_KERNELGAN_NAME = "Kernel"


def read_kernels(path: Path) -> tuple[Kernel, ...]:
    """Read all kernels of a file; the format is detected from the content.

    - NumPy, `.npy`: an array (S, S) or (N, S, S). `.npz`: several of them.
    - MATLAB, `.mat`, up to version 7: the matrix `Kernel`, as KernelGAN writes it, or all matrices.
    - PNG: the mean of the channels, in proportion to the sample values; 16 bits are better than 8.

    Args:
        path: Path of the file.

    Returns:
        The kernels, each with the sum 1. A row and a column of zeros behind the others make an even
        side odd, which keeps the origin.

    Raises:
        TrainingError: The file cannot be read, or contains something other than kernels.

    Example:
        >>> import numpy as np
        >>> np.save("box.npy", np.ones((4, 4)))
        >>> [kernel.shape for kernel in read_kernels(Path("box.npy"))]
        [(5, 5)]
    """
    try:
        content = _content(path)
        kernels = tuple(_checked(each) for array in _arrays(content) for each in _stack(array))
    except (OSError, ValueError, zlib.error, zipfile.BadZipFile, UpscaleError) as error:
        reason = one_line(error).removeprefix("image: ")
        raise TrainingError(f"{printable(path)}: no kernel can be read ({reason})") from error
    if not kernels:
        raise TrainingError(f"{printable(path)}: contains no kernels; remove it")
    return kernels


def aligned(kernel: Kernel, distance: float) -> Kernel:
    """Move a kernel so that its centre of mass has a given distance from the origin.

    The kernel is interpolated with cubic convolution (Keys, IEEE Trans. ASSP 29, 1981), which keeps
    its sum and its width. A kernel that is at the place already is returned unchanged.

    Args:
        kernel: Array of shape (S, S); S is odd, and the sum is 1.
        distance: Distance in pixels, the same for rows and columns: 0 to blur, (s - 1) / 2 to blur
            and then keep the pixels 0, s, 2s, ... of each row and column.

    Returns:
        Array of shape (T, T); T is odd, at least S, and the sum is 1.

    Example:
        >>> kernel = np.zeros((3, 3))
        >>> kernel[1, 0] = 1
        >>> aligned(kernel, 0)[2:5, 2:5].round(3).tolist()
        [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    side = len(kernel)
    shifts = [side // 2 + distance - each for each in centre_of_mass(kernel)]
    if max(map(abs, shifts)) < 1e-6:
        return kernel
    margin = math.ceil(max(map(abs, shifts))) + 1
    rows, columns = (_shift_matrix(side, margin, shift) for shift in shifts)
    return rows @ kernel @ columns.T


def centre_of_mass(kernel: Kernel) -> tuple[float, float]:
    """Return the row and the column of the centre of mass, in pixels from the first one.

    Args:
        kernel: Array of shape (S, S) with the sum 1.

    Example:
        >>> centre_of_mass(np.full((3, 3), 1 / 9))
        (1.0, 1.0)
    """
    places = np.arange(len(kernel))
    return float(kernel.sum(1) @ places), float(kernel.sum(0) @ places)


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"is larger than {_LARGEST_FILE >> 20} MB")
    return content


def _arrays(content: bytes) -> Iterator[NDArray[Any]]:
    read = next((read for magic, read in _READERS.items() if content.startswith(magic)), None)
    if read is None:
        raise ValueError(f"is not {_FORMATS}")
    return read(content)


def _from_npy(content: bytes) -> Iterator[NDArray[Any]]:
    file = io.BytesIO(content)
    try:
        np.lib.format.read_magic(file)
        # The header of version 1.0 is all that np.save writes for arrays of numbers.
        shape, by_columns, kind = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # NumPy evaluates the header as an expression: any error is possible
        raise ValueError("has a damaged header") from error
    if kind.hasobject:
        raise ValueError("contains objects, not numbers")
    values = np.frombuffer(content[file.tell() :], kind)
    if math.prod(shape) != values.size:
        raise ValueError("is cut off")
    yield values.reshape(shape, order="F" if by_columns else "C")


def _from_npz(content: bytes) -> Iterator[NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _LARGEST_FILE:
            raise ValueError(f"expands to more than {_LARGEST_FILE >> 20} MB")
        for member in archive.infolist():
            yield from _from_npy(archive.read(member))


def _from_mat(content: bytes) -> Iterator[NDArray[Any]]:
    matrices = read_matrices(content)
    if _KERNELGAN_NAME in matrices:
        return iter([matrices[_KERNELGAN_NAME]])
    return iter(matrices.values())


def _from_png(content: bytes) -> Iterator[NDArray[Any]]:
    yield read_image(content).pixels.mean(axis=2, dtype=np.float64)


_READERS: dict[bytes, Callable[[bytes], Iterator[NDArray[Any]]]] = {
    b"\x93NUMPY": _from_npy,
    b"PK\3\4": _from_npz,
    MATLAB_MAGIC: _from_mat,
    b"\x89PNG": _from_png,
}


def _stack(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return an array (S, S) or (N, S, S) as (N, S, S)."""
    if array.dtype.kind not in "fiu":
        raise ValueError(f"contains values of the type {array.dtype}")
    if array.ndim not in (2, 3) or array.shape[-2] != array.shape[-1]:
        raise ValueError(f"contains an array of the shape {array.shape}, not a square kernel")
    if not 1 <= array.shape[-1] <= _LARGEST_SIDE:
        raise ValueError(f"a kernel has 1 to {_LARGEST_SIDE} rows, not {array.shape[-1]}")
    return array.reshape(-1, *array.shape[-2:]).astype(np.float64)


def _checked(kernel: NDArray[np.float64]) -> Kernel:
    """Return a kernel with an odd side and the sum 1."""
    total = kernel.sum()
    if not (np.isfinite(total) and total > 0):
        raise ValueError(f"the sum of a kernel must be above 0, not {total:g}")
    kernel = kernel / total
    if not all(0 <= place <= len(kernel) for place in centre_of_mass(kernel)):
        raise ValueError("the centre of mass of a kernel is outside of it")
    return np.pad(kernel, (0, 1)) if len(kernel) % 2 == 0 else kernel


def _shift_matrix(side: int, margin: int, shift: float) -> NDArray[np.float64]:
    """Return the weights (side + 2 * margin, side) that pad a vector and move it by `shift`."""
    distance = np.arange(side + 2 * margin)[:, None] - margin - shift - np.arange(side)
    x = np.abs(distance)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
