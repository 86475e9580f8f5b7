"""The first commands of new users, and their most likely mistakes."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from tests.video.clips import Clip, even, make
from upscale.cli import app
from upscale.cli.arguments import check_command_name, expand_patterns
from upscale.errors import UsageError


def only_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text.rstrip("\n")


# --- IN OUT


def test_the_second_name_is_the_output_if_it_does_not_exist(call, photo, tmp_path, size_of):
    photo("photo.jpg", 24, 16)
    ended = call("photo.jpg", "large.png")
    assert (ended.code, ended.out) == (0, "large.png\n")
    assert size_of(tmp_path / "large.png") == (96, 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.png", "photo.jpg"]


def test_the_second_name_is_an_input_if_it_exists(call, photo):
    photo("a.png")
    photo("b.png")
    assert call("a.png", "b.png").out == "a_x4.png\nb_x4.png\n"


def test_a_new_folder_with_a_slash_is_the_output(call, photo, tmp_path):
    photo("photo.jpg")
    photo("in/a.png")
    assert call("photo.jpg", "new/").out == "new/photo.jpg\n"
    assert call("in", "other/").out == "other/a.png\n"
    assert (tmp_path / "other" / "a.png").is_file()


def test_standard_input_and_output_have_no_need_of_a_flag(call, photo):
    content = photo("photo.png", 24, 16).read_bytes()
    assert call("-", "large.png", stdin=content).out == "large.png\n"
    for arguments in (("photo.png", "-"), ("-", "-")):
        ended = call(*arguments, stdin=content)
        assert ended.code == 0, ended.err
        decoded = cv2.imdecode(np.frombuffer(ended.out_bytes, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape == (64, 96, 3)


def test_a_name_on_the_command_line_outranks_the_output_of_the_environment(call, photo):
    photo("photo.jpg")
    ended = call("photo.jpg", "large.png", env={"UPSCALE_OUTPUT": "elsewhere/"})
    assert ended.out == "large.png\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("a.png", "b.png", "out.png"),
            "out.png: does not exist; if it is meant as the output, pass -o FOLDER/, because "
            "several images need a folder",
        ),
        (("a.png", "b.png", "out/"), "out/: does not exist; for an output folder, pass -o out/"),
        (
            ("a.png", "out"),
            "out: does not exist; for an output, pass -o out/ (a folder) or -o out.png (an image)",
        ),
        (
            ("a.png", "folder"),
            "folder: is a folder; if it is meant as the output, pass -o folder",
        ),
        (("in", "new"), "new: does not exist; for an output folder, pass -o new"),
        (("in", "out.png"), "-o out.png: several images need a folder: pass one that ends in /"),
    ],
)
def test_a_missing_last_name_is_refused_before_any_work(arguments, message, call, photo, tmp_path):
    for name in ("a.png", "b.png", "in/c.png", "folder/d.png"):
        photo(name)
    ended = call(*arguments)
    assert (ended.code, only_line(ended.err)) == (2, f"error: {message}")
    assert not list(tmp_path.rglob("*_x4*"))


# --- videos and addresses


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos in several containers, some under names that do not tell it."""
    folder = tmp_path_factory.mktemp("videos")
    containers = {"mkv": "matroska", "ts": "mpegts"}
    codecs = {"webm": "libvpx-vp9", "flv": "flv1"}
    for suffix in ("mp4", "mkv", "mov", "webm", "avi", "ts", "flv"):
        container, codec = containers.get(suffix, suffix), codecs.get(suffix, "mpeg4")
        make(Clip(even(3), codec=codec, container=container), folder / f"clip.{suffix}")
    return folder


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "webm", "avi", "ts", "flv"])
@pytest.mark.parametrize("renamed", [False, True])
def test_a_video_is_answered_with_the_right_command(suffix, renamed, videos, call, tmp_path):
    name = "my clip" if renamed else f"clip.{suffix}"
    (tmp_path / name).write_bytes((videos / f"clip.{suffix}").read_bytes())
    ended = call(name)
    quote = '"' if os.name == "nt" else "'"
    word = f"{quote}my clip{quote}" if renamed else name
    assert ended.code == 1
    assert only_line(ended.err) == f"error: {name}: is a video; run: upscale video {word} OUT.mp4"


@pytest.mark.parametrize("arguments", [("clip.mp4", "large.mp4"), ("clip.mp4", "-o", "large.mp4")])
def test_a_video_with_an_output_gets_the_whole_command(arguments, videos, call, tmp_path):
    (tmp_path / "clip.mp4").write_bytes((videos / "clip.mp4").read_bytes())
    ended = call(*arguments)
    expected = "error: clip.mp4: is a video; run: upscale video clip.mp4 large.mp4"
    assert only_line(ended.err) == expected


def test_a_video_without_an_output_gets_an_example(videos, call, tmp_path):
    (tmp_path / "clip.mp4").write_bytes((videos / "clip.mp4").read_bytes())
    ended = call("video", "clip.mp4")
    assert ended.code == 2
    assert only_line(ended.err) == (
        "error: OUT is missing, as in: upscale video clip.mp4 clip_x4.mp4; or use --preview"
    )


def test_videos_in_folders_are_ignored(videos, call, photo, tmp_path):
    photo("in/a.png")
    (tmp_path / "in" / "clip.mp4").write_bytes((videos / "clip.mp4").read_bytes())
    ended = call("in", "-o", "out/")
    assert ended.code == 0
    assert "1 other file ignored" in ended.err


def test_an_image_is_answered_with_the_command_for_images(call, photo):
    photo("photo.jpg")
    for arguments in (("photo.jpg", "out.mp4"), ("photo.jpg",), ("photo.jpg", "--preview")):
        ended = call("video", *arguments)
        assert ended.code == 1
        assert only_line(ended.err) == "error: photo.jpg: is an image; run: upscale photo.jpg"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("https://example.com/a.jpg",), 1),
        (("video", "https://example.com/a.jpg", "out.mp4"), 2),
        (("eval", "https://example.com/a.jpg"), 2),
    ],
)
def test_addresses_are_not_fetched(arguments, code, call):
    ended = call(*arguments)
    advice = "addresses are not fetched; download the file first"
    assert (ended.code, only_line(ended.err)) == (
        code,
        f"error: https://example.com/a.jpg: {advice}",
    )


def test_an_address_beside_images_fails_alone(call, photo):
    photo("a.png")
    ended = call("a.png", "https://example.com/b.png")
    assert (ended.code, ended.out) == (3, "a_x4.png\n")


# --- commands and options


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("vidoe", "clip.mp4", "out.mp4"), "upscale video"),
        (("model",), "upscale models"),
        (("Models",), "upscale models"),
        (("evaluate", "a.png"), "upscale eval"),
        (("benchmark",), "upscale bench"),
        (("version",), "upscale --version"),
        (("help", "vidoe"), "upscale video"),
    ],
)
def test_a_mistyped_command_gets_one_suggestion(arguments, command, call):
    ended = call(*arguments)
    assert ended.code == 2
    assert only_line(ended.err).endswith(f"no such command or file; did you mean `{command}`?")


def test_a_file_that_is_named_almost_like_a_command_is_an_input(photo, call, tmp_path):
    photo("a.png").rename(tmp_path / "model")
    assert call("model").out == "model_x4.png\n"


@pytest.mark.parametrize("word", ["missing", "a.png", "./vidoe", "-x", "videos/clip"])
def test_other_words_are_no_commands(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_command_name(word)


def test_a_mistyped_option_gets_a_suggestion_once(call, photo):
    photo("a.png")
    ended = call("a.png", "--ovewrite")
    assert ended.code == 2
    assert only_line(ended.err).count("--overwrite") == 1


@pytest.mark.parametrize("command", [(), ("video",), ("models",), ("models", "info"), ("eval",)])
def test_the_short_flag_prints_the_same_help(command, call, capsys):
    assert call(*command, "--help").code == 0
    page = capsys.readouterr().out
    assert "Usage: " + " ".join(("upscale", *command)) in page
    assert call(*command, "-h").code == 0
    assert capsys.readouterr().out == page
    assert call("help", *command).code == 0
    assert capsys.readouterr().out == page


# --- patterns


def test_patterns_are_expanded_where_shells_do_not(call, photo, monkeypatch):
    for name in ("b.png", "a.png", "c.jpg"):
        photo(name)
    monkeypatch.setattr(app, "is_windows", lambda: True)
    assert call("*.png").out == "a_x4.png\nb_x4.png\n"


def test_a_file_with_brackets_is_not_a_pattern(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo("a1.png")
    photo("a[1].png")
    assert expand_patterns(["a[1].png", "a?.png", "--name", "*.gif"]) == [
        *("a[1].png", "a1.png", "--name", "*.gif")
    ]


def test_elsewhere_a_quoted_pattern_is_a_name(call, photo, monkeypatch):
    photo("a.png")
    monkeypatch.setattr(app, "is_windows", lambda: False)
    ended = call("*.png")
    assert (ended.code, only_line(ended.err)) == (1, "error: *.png: matches no file")


# --- large outputs


def test_a_very_large_output_fails_without_a_terminal(call, photo, upscalers):
    photo("photo.jpg", 72, 54)
    ended = call("photo.jpg", "--scale", "400")
    assert ended.code == 1
    assert only_line(ended.err) == (
        "error: photo.jpg: the output would have 28800x21600 = 622 megapixels: pass --yes, or a "
        "higher --max-output-pixels, if that is what you want"
    )
    assert upscalers == []


def test_on_a_terminal_a_question_is_asked(call, photo, tmp_path):
    photo("a.png", 24, 16)
    arguments = ("a.png", "--max-output-pixels", "6143")
    for answer in (b"n\n", b"\n", b""):
        ended = call(*arguments, stdin=answer, terminal=True, stdin_terminal=True)
        assert ended.code == 1
        question = "a.png: the output would have 96x64 = 0.00614 megapixels; continue? [y/N] "
        assert ended.err.startswith(question)
        assert ended.err.rstrip().endswith("not confirmed")
    ended = call(*arguments, stdin=b"y\n", terminal=True, stdin_terminal=True)
    assert (ended.code, ended.out) == (0, "a_x4.png\n")


@pytest.mark.parametrize("flags", [("--yes",), ("--max-output-pixels", "6144"), ()])
def test_flags_allow_a_large_output(flags, call, photo):
    photo("a.png", 24, 16)
    limit = () if "--max-output-pixels" in flags else ("--max-output-pixels", "6143")
    ended = call("a.png", *limit, *flags)
    assert ended.code == (0 if flags else 1)


# --- notes, and checks before the work


def test_quality_without_effect_is_noted_once(call, photo):
    for name in ("a.png", "b.png", "c.bmp", "d.jpg"):
        photo(f"in/{name}")
    ended = call("in", "-o", "out/", "-q", "90")
    notes = [line for line in ended.err.splitlines() if "quality" in line]
    assert notes == ["note: --quality has no effect on BMP, PNG"]
    assert "quality" not in call("in/d.jpg", "-q", "90").err
    assert "quality" not in call("in/a.png", env={"UPSCALE_QUALITY": "90"}).err
    assert call("in/b.png", "-q", "90", "--quiet").err == ""


def test_bench_checks_names_before_it_measures(call, monkeypatch):
    from upscale.jobs import benchmark

    monkeypatch.setattr(benchmark, "measure_peak_rates", lambda device: pytest.fail("measured"))
    ended = call("bench", "realesr-animevideov3", "nope")
    assert ended.code == 1
    assert only_line(ended.err).startswith("error: nope: no model or file has this name")


def test_eval_of_a_missing_image_prints_the_error_only(call):
    ended = call("eval", "x")
    assert (ended.code, ended.out) == (1, "")
    assert only_line(ended.err) == "error: x: does not exist; check the name"


def test_the_check_of_commands_raises_a_usage_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="images need none"):
        check_command_name("image")


# --- names of networks


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("realesr-animevideov3-x2", (48, 32)),
        ("realesr-animevideov3-x4", (96, 64)),
        ("RealESRGAN_x4plus_anime_6B.pth", (96, 64)),
        ("RealESRGAN_x2plus", (48, 32)),
    ],
)
def test_names_of_other_programs_are_known(name, size, call, photo, tmp_path, size_of):
    photo("a.png", 24, 16)
    ended = call("a.png", "-n", name)
    assert ended.code == 0, ended.err
    assert size_of(tmp_path / ended.out.strip()) == size


def test_an_unknown_network_is_answered_with_a_similar_name(call, photo):
    photo("a.png")
    ended = call("a.png", "-n", "realesrgan-x4pluss")
    assert only_line(ended.err).startswith(
        "error: realesrgan-x4pluss: no model or file has this name; did you mean realesrgan-x4plus"
    )
    ended = call("models", "pull", "realesrgan-x2plu")
    assert only_line(ended.err).startswith(
        "error: realesrgan-x2plu: unknown network; did you mean realesrgan-x2plus"
    )


def test_the_page_of_a_comparison_needs_no_flag(call, photo, tmp_path):
    photo("photo.jpg")
    ended = call("photo.jpg", "page.html", "--models", "realesr-animevideov3,upscale-x4-fast")
    assert (ended.code, ended.out) == (0, "page.html\n"), ended.err
    assert "photo.jpg" in (tmp_path / "page.html").read_text()
