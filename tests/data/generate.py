"""Write the files of `images/generated`, which come from no other project.

    python tests/data/generate.py

They are checked in, because what an encoder writes differs between versions.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, ImageCms

DATA = Path(__file__).parent
TARGET = DATA / "images" / "generated"
D50 = np.array((0.9642, 1, 0.8249))
D50_XYY = (0.3457, 0.3585, 1)
D65_XYY = (0.3127, 0.3290, 1)
INK_GRID, LAB_GRID = 7, 9


def xyz_of(light: np.ndarray) -> np.ndarray:
    """CIEXYZ under D50 of linear sRGB (Bradford)."""
    matrix = [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
    return light @ np.array(matrix).T


def lab_of(xyz: np.ndarray) -> np.ndarray:
    """CIELAB: L* 0..100, a* and b*."""
    t = xyz / D50
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack((116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]),
                     200 * (f[..., 1] - f[..., 2])), -1)  # fmt: skip


def xyz_of_lab(lab: np.ndarray) -> np.ndarray:
    y = (lab[..., 0] + 16) / 116
    f = np.stack((y + lab[..., 1] / 500, y, y - lab[..., 2] / 200), -1)
    return np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50


def light_of_inks(inks: np.ndarray) -> np.ndarray:
    """Linear light that four inks (0..1) leave: each takes its part; none is perfect."""
    passes = np.array([[0.04, 0.42, 0.75], [0.62, 0.05, 0.22], [0.93, 0.78, 0.05], [0.02] * 3])
    spread = inks**0.8  # dots of ink grow on paper
    return np.prod(1 - spread[..., None] * (1 - passes), axis=-2)


def lut(kind: bytes, sides: tuple[int, int, int], table: np.ndarray) -> bytes:
    """An ICC table of 8 bits (`mft1`) or 16 (`mft2`) with straight curves."""
    inputs, outputs, grid = sides
    head = kind + bytes(4) + struct.pack(">4B", inputs, outputs, grid, 0)
    head += struct.pack(">9i", *(np.eye(3, dtype=int).ravel() * 65536))
    if kind == b"mft1":
        curve = bytes(range(256))
        return head + curve * inputs + table.astype("u1").tobytes() + curve * outputs
    curve = struct.pack(">2H", 0, 65535)
    head += struct.pack(">2H", 2, 2)
    return head + curve * inputs + table.astype(">u2").tobytes() + curve * outputs


def ink_profile() -> bytes:
    """A profile of a printer that does not exist: CMYK to CIELAB and back."""
    steps = np.linspace(0, 1, INK_GRID)
    inks = np.stack(np.meshgrid(*[steps] * 4, indexing="ij"), -1).reshape(-1, 4)
    white = light_of_inks(np.zeros(4))
    lab = lab_of(xyz_of(light_of_inks(inks) / white)).clip((0, -128, -128), (100, 127, 127))
    to_lab = np.rint((lab + np.array((0, 128, 128))) * (65280 / 100, 256, 256)).clip(0, 65535)

    steps = np.linspace(0, 1, LAB_GRID)
    grid = np.stack(np.meshgrid(*[steps] * 3, indexing="ij"), -1).reshape(-1, 3)
    places = grid * (100, 255, 255) - (0, 128, 128)
    light = np.linalg.solve(xyz_of(np.eye(3)).T, xyz_of_lab(places).T).T.clip(0, 1)
    bright = light.max(-1, keepdims=True)
    colours = np.where(bright > 0, 1 - light / np.maximum(bright, 1e-9), 0)
    to_inks = np.rint(np.concatenate((colours, 1 - bright), -1) ** 1.25 * 255)

    text = b"An invented printer, CC0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text) + 1) + text + bytes(79),
        b"cprt": b"text" + bytes(4) + text + b"\0",
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", *np.rint(D50 * 65536).astype(int)),
        b"A2B0": lut(b"mft2", (4, 3, INK_GRID), to_lab),
        b"B2A0": lut(b"mft1", (3, 4, LAB_GRID), to_inks),
    }
    place, index, content = 132 + 12 * len(tags), b"", b""
    for name, tag in tags.items():
        index += struct.pack(">4s2I", name, place + len(content), len(tag))
        content += tag + bytes(-len(tag) % 4)
    head = struct.pack(">4sI4s4s4s", b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    head += struct.pack(">3i", *np.rint(D50 * 65536).astype(int))
    body = head + bytes(124 - len(head)) + struct.pack(">I", len(tags)) + index + content
    return struct.pack(">I", 4 + len(body)) + body


def photograph(name: str, size: tuple[int, int]) -> Image.Image:
    with Image.open(DATA / "photos" / "scenes" / f"{name}.webp") as image:
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def subsampled_tiff() -> bytes:
    """YCbCr without compression, one pair of chroma samples for 2x2 pixels."""
    ycbcr = np.asarray(photograph("baby", (64, 48)).convert("YCbCr"))
    luma = ycbcr[..., 0].reshape(24, 2, 32, 2).transpose(0, 2, 1, 3).reshape(24, 32, 4)
    chroma = ycbcr[..., 1:].reshape(24, 2, 32, 2, 2).mean((1, 3)).round().astype(np.uint8)
    strip = np.concatenate((luma, chroma), -1).tobytes()
    # Width, height, depth, compression, photometric, strip, orientation, channels, rows of the
    # strip, its bytes, planar configuration, subsampling, position, reference black and white.
    tags = [(256, 3, 1, 64), (257, 3, 1, 48), (258, 3, 3, "depths"), (259, 3, 1, 1),
            (262, 3, 1, 6), (273, 4, 1, "strip"), (274, 3, 1, 1), (277, 3, 1, 3), (278, 3, 1, 48),
            (279, 4, 1, len(strip)), (284, 3, 1, 1), (530, 3, 2, 2 | 2 << 16), (531, 3, 1, 1),
            (532, 5, 6, "range")]  # fmt: skip
    end = 8 + 2 + 12 * len(tags) + 4
    parts = {
        "depths": struct.pack("<3H", 8, 8, 8) + bytes(2),
        "range": struct.pack("<12I", 0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1),
        "strip": strip,
    }
    places, content = {}, b""
    for name, part in parts.items():
        places[name] = end + len(content)
        content += part
    index = b"".join(
        struct.pack("<2H2I", tag, kind, count, places.get(value, value))
        for tag, kind, count, value in tags
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + index + bytes(4) + content


def profile_of(kind: str, **options: object) -> bytes:
    """An ICC profile of a fixed date: a new run writes the same bytes."""
    profile = imagecodecs.cms_profile(kind, **options)
    return profile[:24] + struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + profile[36:]


def rgb_profile(primaries: tuple[float, ...], gamma: float, white: tuple[float, ...]) -> bytes:
    return profile_of("rgb", whitepoint=white, primaries=primaries, gamma=gamma)


def wrong_illuminant(profile: bytes) -> bytes:
    """Put 32, 812, 12784 in the place of the illuminant D50 of a profile's head."""
    return profile[:68] + struct.pack(">3i", 1 << 21, 812 << 16, 12784 << 16) + profile[80:]


def cutout() -> Image.Image:
    """A round part of a photograph, black and transparent outside."""
    image = photograph("sand", (96, 96))
    rows, columns = np.mgrid[-47.5:48, -47.5:48]
    alpha = ((44 - np.hypot(rows, columns)) * 64).clip(0, 255).astype(np.uint8)
    pixels = np.asarray(image) * (alpha > 0)[..., None]
    return Image.fromarray(np.dstack((pixels.astype(np.uint8), alpha)))


def png_16(samples: np.ndarray, icc: bytes) -> bytes:
    """A PNG of 16 bits: 2 channels (grey and alpha) or 4 (RGB and alpha)."""
    height, width, channels = samples.shape
    rows = np.ascontiguousarray(samples.astype(">u2")).view(np.uint8).reshape(height, -1)
    data = np.hstack((np.zeros((height, 1), np.uint8), rows)).tobytes()
    head = struct.pack(">2I5B", width, height, 16, {2: 4, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join((
        chunk(b"IHDR", head),
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc)),
        chunk(b"IDAT", zlib.compress(data, 9)),
        chunk(b"IEND", b""),
    ))  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep(name: str, size: tuple[int, int]) -> np.ndarray:
    """A photograph of 16 bits with as many levels: averages of 8-bit pixels."""
    pixels = np.asarray(photograph(name, (size[0] * 3, size[1] * 3)), np.float64)
    means = pixels.reshape(size[1], 3, size[0], 3, 3).mean((1, 3))
    return np.rint(means * 257).astype(np.uint16)


def with_orientation(transpose: Image.Transpose, rotation: int, mirror: int) -> bytes:
    """An AVIF whose container turns it: `irot` is a number of quarter turns, `imir` an axis."""
    exif = Image.Exif()
    exif[0x0112] = 5  # Pillow writes it as `irot` 1 and `imir` 0
    stored = photograph("waves", (128, 96)).transpose(transpose)
    data = bytearray(saved(stored, "AVIF", quality=80, exif=exif))
    data[data.index(b"irot") + 4] = rotation
    data[data.index(b"imir") + 4] = mirror
    return bytes(data)


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    profile = ink_profile()
    paper = ImageCms.profileToProfile(
        photograph("flowers", (125, 83)),
        ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        outputMode="CMYK",
    )
    wide = (0.7347, 0.2653, 1, 0, 1, 1, 0.0001, -0.077, 1)  # primaries of ACES
    linear = rgb_profile(wide, 1.0, D50_XYY)
    frames = [photograph("nyc", (13, 169)).rotate(90 * turn) for turn in range(12)]
    gif = saved(photograph("city", (320, 264)), "GIF")
    jpeg = saved(photograph("city", (320, 264)), "JPEG", quality=90)
    p3 = rgb_profile((0.680, 0.320, 1, 0.265, 0.690, 1, 0.150, 0.060, 1), 2.2, D65_XYY)
    prophoto = rgb_profile((0.7347, 0.2653, 1, 0.1596, 0.8404, 1, 0.0366, 0.0001, 1), 1.8, D50_XYY)
    adobe = rgb_profile((0.64, 0.33, 1, 0.21, 0.71, 1, 0.15, 0.06, 1), 2.2, D65_XYY)
    grey_icc = profile_of("gray", whitepoint=D50_XYY, gamma=2.2)
    colour = deep("flowers", (72, 56))
    fade = np.linspace(0, 65535, 72).astype(np.uint16) * np.ones((56, 1), np.uint16)
    turns = [photograph("flowers", (64, 48)).rotate(15 * turn) for turn in range(4)]
    clear = [Image.merge("RGBA", (*turn.split(), turn.getchannel("G"))) for turn in turns]
    png = saved(photograph("city", (160, 132)), "PNG")
    small = bytearray(saved(photograph("baby", (64, 48)), "JPEG"))
    size = small.index(b"\xff\xc0") + 5
    small[size : size + 4] = struct.pack(">2H", 14000, 20000)
    large = struct.pack(">2I5B", 65536, 65536, 8, 2, 0, 0, 0)
    files = {
        "16-bit-grey-alpha.png": png_16(np.dstack((colour[..., 1], fade)), grey_icc),
        "65536x65536.png": b"".join((
            png[:8],
            chunk(b"IHDR", large),
            chunk(b"IDAT", zlib.compress(bytes(100_000))),
            chunk(b"IEND", b""),
        )),
        "animated-loop-3.webp": saved(clear[0], "WEBP", save_all=True, append_images=clear[1:],
                                      duration=70, loop=3, quality=60),
        "animated.avifs": saved(clear[0], "AVIF", save_all=True, append_images=clear[1:],
                                duration=100, quality=60),
        "animated.png": saved(clear[0], "PNG", save_all=True, append_images=clear[1:4],
                              duration=70, loop=0, disposal=1, blend=1),
        "cutout.png": saved(cutout(), "PNG"),
        "deep_alpha.png": png_16(np.dstack((colour, fade)), adobe),
        "giant-image.jpg": bytes(small),
        "grey.jpg": saved(photograph("girl", (128, 96)).convert("L"), "JPEG"),
        "grey.png": saved(photograph("girl", (96, 72)).convert("L"), "PNG", dpi=(72, 72)),
        "invalid-illuminant.icc": wrong_illuminant(adobe),
        "old_photo.jpg": saved(photograph("girl", (110, 110)).resize((220, 220)), "JPEG",
                               quality=30),
        "p3.png": saved(photograph("baby", (8, 8)), "PNG", icc_profile=p3),
        "prophoto.png": saved(photograph("baby", (8, 8)), "PNG", icc_profile=prophoto),
        "rot1mir0.avif": with_orientation(Image.Transpose.TRANSPOSE, 1, 0),
        "rot3mir1.avif": with_orientation(Image.Transpose.TRANSPOSE, 3, 1),
        "truncated.png": png[: len(png) // 3],
        "cmyk.jpg": saved(paper, "JPEG", icc_profile=profile),
        "cmyk_no_profile.jpg": saved(paper, "JPEG", icc_profile=b""),
        "linear.png": saved(photograph("house", (64, 64)), "PNG", icc_profile=linear),
        "subsampled.tif": subsampled_tiff(),
        "tall.webp": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:],
                           duration=[40 + 10 * n for n in range(12)], loop=0, quality=60),
        "truncated.gif": gif[: len(gif) // 3],
        "truncated.jpg": jpeg[: len(jpeg) // 3],
    }  # fmt: skip
    for name, content in files.items():
        (TARGET / name).write_bytes(content)


if __name__ == "__main__":
    main()
