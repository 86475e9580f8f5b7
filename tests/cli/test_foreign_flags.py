"""Flags of other programs: one test per row of the table."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from upscale.cli.foreign_flags import FOREIGN_FLAGS, markdown_table, own_flags
from upscale.errors import UsageError

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "coming-from.md"

SAME = [
    ("image", "-i a.jpg -o b.png", "a.jpg -o b.png"),
    ("image", "--input a.jpg", "a.jpg"),
    ("video", "-i a.mp4 -o b.mp4", "a.mp4 -o b.mp4"),
    ("video", "-o b.mp4 -i a.mp4 --scale 2", "-o b.mp4 a.mp4 --scale 2"),
    ("image", "a.jpg --outscale 3.5", "a.jpg --scale 3.5"),
    ("image", "a.jpg --outscale=3.5", "a.jpg --scale 3.5"),
    ("image", "a.jpg --scale_ratio 2", "a.jpg --scale 2"),
    ("video", "a.mp4 b.mp4 --scaling-factor 2", "a.mp4 b.mp4 --scale 2"),
    ("image", "a.jpg -dn 0.5", "a.jpg --denoise 0.5"),
    ("image", "a.jpg --model_name RealESRGAN_x4plus", "a.jpg --model RealESRGAN_x4plus"),
    ("video", "a.mp4 --realesrgan-model realesrgan-plus", "a.mp4 --model realesrgan-plus"),
    ("image", "a.jpg --model_path 'my net.pth'", "a.jpg --model 'my net.pth'"),
    ("image", "a.jpg --fp32", "a.jpg --precision fp32"),
    ("image", "a.jpg --half", "a.jpg --precision fp16"),
    ("image", "a.jpg --ext auto", "a.jpg"),
    ("image", "a.jpg --ext png", "a.jpg --format png"),
    ("image", "a.jpg --suffix out", "a.jpg --name {stem}_out.{ext}"),
    ("image", "a.jpg -w 1920", "a.jpg --width 1920"),
    ("video", "a.mp4 -w 1920 -h 1080", "a.mp4 --width 1920 --height 1080"),
    ("video", "a.mp4 -c libx264", "a.mp4 --codec libx264"),
    ("video", "a.mp4 -c:v libx265", "a.mp4 --codec libx265"),
    ("video", "a.mp4 -e tune=film", "a.mp4 --encoder-option tune=film"),
    ("video", "a.mp4 -crf 18", "a.mp4 --crf 18"),
    ("video", "a.mp4 -preset slow", "a.mp4 --preset slow"),
    ("video", "a.mp4 -pix_fmt yuv420p10le", "a.mp4 --pix-fmt yuv420p10le"),
    ("video", "a.mp4 -ss 5", "a.mp4 --start 5"),
    ("video", "a.mp4 -to 10", "a.mp4 --end 10"),
    ("video", "a.mp4 -frames:v 3", "a.mp4 --frames 3"),
    ("video", "a.mp4 -an", "a.mp4 --audio none"),
    ("video", "a.mp4 -sn", "a.mp4 --subtitle-tracks none"),
]
"""Command, its words, and the same words in this program."""

OTHER = [
    ("image", "-g 0", "--device"),
    ("image", "--gpu-id 1", "--device"),
    ("image", "-j 1:2:2", "-j N"),
    ("image", "-j 1:2,2:2", "-j N"),
    ("image", "-r 1920x1080", "--width PIXELS and --height PIXELS"),
    ("image", "-r 1920x1080:lanczos", "--width PIXELS and --height PIXELS"),
    ("image", "-c 50", "-q 1..100"),
    ("image", "-m models/", "-n FILE"),
    ("image", "-z 4", "--scale"),
    ("image", "-n 2", "--denoise 0..1"),
    ("image", "-n -1", "--denoise 0..1"),
    ("image", "--noise-level 2", "--denoise 0..1"),
    ("image", "-t 200,200", "-t N"),
    ("image", "--tile_pad 10", "leave it out"),
    ("image", "--pre_pad=0", "leave it out"),
    ("image", "--face_enhance", "--face"),
    ("image", "--alpha_upsampler bicubic", "leave it out"),
    ("video", "-p realesrgan", "-n NAME"),
    ("video", "--num_process_per_gpu 2", "leave it out"),
    ("video", "-r 30000/1001", "leave it out"),
    ("video", "-vf scale=1920:-1", "--scale"),
    ("video", "-b:v 5M", "--crf N"),
    ("image", "-y", "--overwrite"),
]
"""Command, a flag without an exact equivalent, and what the error names instead."""

OWN = [
    ("image", "a.jpg -r -j 4 -n mine.pth -t 200 -f png -o b.png -x -s 2 -v"),
    ("image", "-r scans -j 1"),
    ("image", "a.jpg -- -i b.jpg"),
    ("image", "a.jpg --name=-i"),
    ("image", "-h"),
    ("video", "-h"),
    ("video", "a.mp4 b.mp4 --crf 18 --width 20"),
    ("video", "-r clips -o out/ --fps 30"),
]
"""Words of this program, which must not change."""


@pytest.mark.parametrize(("command", "words", "expected"), SAME)
def test_an_exact_synonym_works(command, words, expected):
    assert own_flags(shlex.split(words), command) == shlex.split(expected)


@pytest.mark.parametrize(("command", "words", "named"), OTHER)
def test_another_flag_is_an_error_that_names_ours(command, words, named):
    with pytest.raises(UsageError) as caught:
        own_flags(["in", *shlex.split(words)], command)
    message = str(caught.value)
    assert message.startswith(f"{words.replace('=', ' ')}: " if "--" in words else f"{words}: ")
    assert named in message and "\n" not in message


@pytest.mark.parametrize(("command", "words"), OWN)
def test_own_flags_are_kept(command, words):
    assert own_flags(shlex.split(words), command) == shlex.split(words)


def test_every_row_is_tested():
    tried = set()
    for command, words, _ in [*SAME, *OTHER]:
        parts = [
            part
            for word in shlex.split(words)
            for part in (word.split("=", 1) if word.startswith("--") else [word])
        ]
        for flag, value in zip(parts, [*parts[1:], None], strict=True):
            rows = (row for row in FOREIGN_FLAGS if row.applies(flag, value, command))
            tried.add(next(rows, None))
    assert [row.flags for row in FOREIGN_FLAGS if row not in tried] == []


def test_the_documentation_shows_the_table():
    assert markdown_table() in PAGE.read_text(encoding="utf-8")


def test_a_command_of_another_program_runs(call, photo, tmp_path, size_of, upscalers):
    photo("photo.jpg", 24, 16)
    arguments = "-i photo.jpg -o results/ --outscale 3 --fp32 --suffix out --ext png -t 32"
    ended = call(*arguments.split())
    assert (ended.code, ended.out) == (0, "results/photo_out.png\n"), ended.err
    assert size_of(tmp_path / "results" / "photo_out.png") == (72, 48)
    assert upscalers[0].engine.precision == "fp32"


def test_an_error_is_one_line_before_any_work(call, photo, upscalers):
    photo("photo.jpg")
    ended = call("photo.jpg", "-j", "1:2:2")
    assert (ended.code, ended.out, upscalers) == (2, "", [])
    assert ended.err == (
        "error: -j 1:2:2: use -j N (--jobs), one number of threads that read and write\n"
    )
