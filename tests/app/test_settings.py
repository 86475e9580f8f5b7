from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from upscale.app.settings import SettingsReader, command_lines, name_template
from upscale.app.uploads import Upload
from upscale.cli.app import run
from upscale.cli.session import Session
from upscale.errors import UsageError

ENVIRON = {"UPSCALE_CONFIG": ""}


def upload(name: str, is_video: bool = False) -> Upload:
    folder, _, rest = name.rpartition("/")
    root = Path("/private/x")
    return Upload("x", name, folder.partition("/")[0], root, root / (rest or name), 1, is_video)


def command(form, *names, videos=()):
    reader = SettingsReader(ENVIRON, any_folder=True)
    settings = reader.read(form)
    uploads = [*map(upload, names), *(upload(name, True) for name in videos)]
    template = name_template(reader.options(settings.of_images()), uploads)
    return command_lines(settings, uploads, [f"large_{name}" for name in videos], template)


@pytest.mark.parametrize(
    ("form", "names", "expected"),
    [
        ({}, ["photo.jpg"], "upscale photo.jpg"),
        ({"model": "auto", "fidelity": "0"}, ["a.jpg"], "upscale a.jpg -n auto --fidelity 0"),
        ({"scale": "2", "quality": ""}, ["a.jpg", "b.png"], "upscale a.jpg b.png --scale 2"),
        ({"face": True, "tta": False}, ["-x y.jpg"], "upscale './-x y.jpg' --face"),
        ({}, ["video"], "upscale ./video"),
        ({}, ["$(rm).png"], "upscale '$(rm).png'"),
        (
            {"seamless": "x", "existing": "skip"},
            ["sky/a.jpg", "sky/b.jpg"],
            "upscale ./sky -o upscaled/ --recursive --seamless x --skip-existing",
        ),
        (
            {"folder": "/results", "max_side": "640"},
            ["a.jpg"],
            "upscale a.jpg -o /results/ --name '{stem}_{width}x{height}.{ext}' --max-side 640",
        ),
    ],
)
def test_the_command_line_does_the_same(form, names, expected):
    assert command(form, *names) == [expected]


def test_videos_have_command_lines_of_their_own_without_options_of_images():
    form = {"scale": "2", "format": "png", "quality": "", "seamless": "x", "existing": "overwrite"}
    images, video = command(form, "a.jpg", videos=["clip.mkv"])
    assert "--format png" in images
    assert video == "upscale video clip.mkv large_clip.mkv --scale 2 --overwrite"


def test_the_command_line_writes_the_file_that_it_promises(
    photo, environ, tmp_path, monkeypatch, capsysbinary
):
    photo(tmp_path / "my photo.png")
    monkeypatch.chdir(tmp_path)
    (line,) = command({"scale": "1.5", "format": "jpg", "quality": "80"}, "my photo.png")
    session = Session.of_process()
    session.environ = environ
    assert run(shlex.split(line)[1:], session) == 0
    assert (tmp_path / "my photo_x1.5.jpg").is_file()


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ([], "is not an object"),
        ({"device": "cuda"}, "unknown name 'device'"),
        ({"output": "/etc/x.png"}, "unknown name 'output'"),
        ({"model": "/home/me/evil.pth"}, "is not one of auto"),
        ({"models": ["../evil.pth", "auto"]}, "is not one of auto"),
        ({"models": ["auto"] * 99}, "at most 12"),
        ({"face_model": "/evil"}, "face_model"),
        ({"scale": "-1"}, "--scale: -1 is not greater than 0"),
        ({"scale": ["2"]}, "scale: is not a single value"),
        ({"scale": "2", "width": "10"}, "exclude each other"),
        ({"quality": "101"}, "is greater than 100"),
        ({"existing": "delete"}, "existing"),
        ({"container": ".exe"}, "container"),
        ({"folder": "relative"}, "is not a full path"),
        ({"folder": "/etc/passwd"}, "is not a folder"),
        ({"fidelity": "0.5", "model": "realsr-df2k"}, "needs -n auto"),
        ({"face": True, "normal_map": True}, "exclude each other"),
    ],
)
def test_invalid_settings_are_refused_in_one_line(form, message):
    with pytest.raises(UsageError, match=message) as raised:
        SettingsReader(ENVIRON, any_folder=True).read(form)
    assert "\n" not in str(raised.value)


def test_a_server_for_other_machines_saves_to_its_own_folder_only(tmp_path):
    reader = SettingsReader(ENVIRON, save_folder=tmp_path)
    assert reader.read({"folder": str(tmp_path)}).folder == tmp_path
    for folder in ("/etc", f"{tmp_path}/../elsewhere", str(tmp_path / "below")):
        with pytest.raises(UsageError, match="saves only"):
            reader.read({"folder": folder})


def test_options_of_the_environment_that_are_not_for_a_page_have_no_effect(tmp_path):
    environ = {
        **ENVIRON,
        "UPSCALE_OUTPUT": "elsewhere/",
        "UPSCALE_DRY_RUN": "1",
        "UPSCALE_CLUSTER": "auto",
        "UPSCALE_SHARD": "1/2",
        "UPSCALE_ZERO_SHOT": "1",
        "UPSCALE_TILE": "64",
    }
    options = SettingsReader(environ).options({"model": "realsr-df2k"})
    assert not options.run.dry_run
    assert options.run.cluster is None
    assert options.run.shard is None
    assert not options.training.zero_shot
    assert options.engine.tile == 64
