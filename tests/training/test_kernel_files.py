"""Files of kernels: what each format is read as, what is refused, and how kernels are moved."""

from __future__ import annotations

import io
import struct
import zipfile

import cv2
import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from upscale_training.kernel_files import aligned, centre_of_mass, read_kernels

from upscale.errors import TrainingError


def gaussian(side=9, sigma=1.3, middle=(4.2, 3.7)):
    """A Gaussian that is not in the middle, with the sum 1."""
    axes = (np.arange(side) - place for place in middle)
    rows, columns = (np.exp(-(axis**2) / (2 * sigma**2)) for axis in axes)
    kernel = np.outer(rows, columns)
    return kernel / kernel.sum()


def saved_png(path, kernel):
    levels = (kernel / kernel.max() * 65535).round().astype(np.uint16)
    assert cv2.imwrite(str(path), levels)


WRITERS = {
    "npy": lambda path, kernel: np.save(path, kernel * 7),
    "columns.npy": lambda path, kernel: np.save(path, np.asfortranarray(kernel)),
    "npz": np.savez,
    "compressed.npz": lambda path, kernel: np.savez_compressed(path, kernel=kernel),
    "mat": lambda path, kernel: scipy.io.savemat(path, {"other": 3.0, "Kernel": kernel}),
    "compressed.mat": lambda path, kernel: scipy.io.savemat(
        path, {"k": kernel}, do_compression=True
    ),
    "png": saved_png,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_kernel(tmp_path, name):
    path, kernel = tmp_path / f"kernel.{name}", gaussian()
    WRITERS[name](path, kernel)
    (found,) = read_kernels(path)
    np.testing.assert_allclose(found, kernel, atol=2e-6 if name == "png" else 1e-12)


def test_the_content_decides_about_the_format(tmp_path):
    np.save(tmp_path / "kernel.npy", gaussian())
    (tmp_path / "kernel.npy").rename(tmp_path / "kernel.mat")
    assert len(read_kernels(tmp_path / "kernel.mat")) == 1


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("compression", [False, True])
def test_matlab_files_agree_with_scipy(tmp_path, kind, compression):
    path = tmp_path / "kernel.mat"
    kernel = (gaussian() * 250).astype(kind)
    scipy.io.savemat(path, {"Kernel": kernel}, do_compression=compression)
    (found,) = read_kernels(path)
    expected = scipy.io.loadmat(path)["Kernel"].astype(float)
    np.testing.assert_allclose(found, expected / expected.sum())


def test_matlab_files_of_the_other_byte_order_are_read(tmp_path):
    values = np.arange(1, 10, dtype=">f8").reshape(3, 3)

    def element(kind, data):
        return struct.pack(">2I", kind, len(data)) + data + bytes(-len(data) % 8)

    parts = (
        element(6, struct.pack(">2I", 6, 0)),
        element(5, struct.pack(">2i", 3, 3)),
        struct.pack(">2H", 1, 1) + b"k\0\0\0",
        element(9, values.tobytes("F")),
    )
    header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    (tmp_path / "kernel.mat").write_bytes(header + element(14, b"".join(parts)))
    np.testing.assert_allclose(read_kernels(tmp_path / "kernel.mat")[0], values / 45)


def test_a_stack_gives_one_kernel_each(tmp_path):
    np.savez(tmp_path / "k.npz", a=np.stack([gaussian(5), gaussian(5, 2.0)]), b=gaussian(7))
    assert [len(each) for each in read_kernels(tmp_path / "k.npz")] == [5, 5, 7]


def test_an_even_kernel_keeps_its_origin(tmp_path):
    kernel = gaussian(8)
    np.save(tmp_path / "k.npy", kernel)
    (found,) = read_kernels(tmp_path / "k.npy")
    assert found.shape == (9, 9)
    np.testing.assert_allclose(found[:8, :8], kernel)


def npy_with(shape):
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(72)


def bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("k.npy", bytes(1 << 27))
    return file.getvalue()


def mat_of(**matrices):
    file = io.BytesIO()
    scipy.io.savemat(file, matrices)
    return file.getvalue()


def npy_of(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


REFUSED = {
    "text": (b"1 2 1", "is not .npy, .npz, .mat"),
    "objects": (npy_of(np.array([[{}]], dtype=object)), "contains objects"),
    "a header that promises more than there is": (npy_with((1 << 40, 3, 3)), "is cut off"),
    "an archive that expands": (bomb(), "expands to more than 64 MB"),
    "no square": (npy_of(np.ones((3, 4))), r"shape \(3, 4\)"),
    "no numbers": (npy_of(np.full((3, 3), "x")), "type <U1"),
    "nan": (npy_of(np.full((3, 3), np.nan)), "sum of a kernel must be above 0, not nan"),
    "sum 0": (npy_of(np.zeros((3, 3))), "sum of a kernel must be above 0, not 0"),
    "too large": (npy_of(np.ones((301, 301))), "1 to 255 rows, not 301"),
    "empty": (npy_of(np.ones((0, 0))), "1 to 255 rows, not 0"),
    "mass elsewhere": (npy_of(np.array([[-9, 0, 9.1]] * 3)), "centre of mass"),
    "a cell": (mat_of(k=np.array([[1], "x"], dtype=object)), "contains no kernels"),
    "complex": (mat_of(k=np.ones((3, 3)) * 1j), "contains no kernels"),
    "a cut .mat": (mat_of(Kernel=np.ones((9, 9)))[:-100], "is cut off"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_in_one_line(tmp_path, name):
    content, reason = REFUSED[name]
    (tmp_path / "kernel.npy").write_bytes(content)
    with pytest.raises(TrainingError, match=reason) as raised:
        read_kernels(tmp_path / "kernel.npy")
    assert str(raised.value).startswith(f"{tmp_path / 'kernel.npy'}: ")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"missing\.npy: no kernel can be read"):
        read_kernels(tmp_path / "missing.npy")


@given(st.binary(max_size=300), st.integers(0, 600), st.booleans())
def test_damaged_files_give_one_line_or_kernels(tmp_path_factory, noise, place, is_matlab):
    path = tmp_path_factory.mktemp("damaged") / "k"
    content = mat_of(Kernel=gaussian()) if is_matlab else npy_of(gaussian())
    path.write_bytes(content[:place] + noise + content[place + len(noise) :])
    try:
        kernels = read_kernels(path)
    except TrainingError:
        return
    assert all(abs(kernel.sum() - 1) < 1e-6 for kernel in kernels)


@pytest.mark.parametrize("distance", [0, 0.5, 1.5, -0.5])
def test_alignment_moves_the_centre_of_mass_and_keeps_the_width(distance):
    kernel = gaussian()
    moved = aligned(kernel, distance)
    assert len(moved) % 2 == 1
    assert moved.sum() == pytest.approx(1)
    centre = [place - len(moved) // 2 for place in centre_of_mass(moved)]
    np.testing.assert_allclose(centre, distance, atol=1e-9)

    def variance(values):
        axis = np.arange(len(values))
        return values.sum(1) @ axis**2 - centre_of_mass(values)[0] ** 2

    assert variance(moved) == pytest.approx(variance(kernel), abs=1e-9)


def test_an_aligned_kernel_stays_as_it_is():
    kernel = gaussian(middle=(4, 4))
    assert aligned(kernel, 0) is kernel
