"""Random changes to the folder of an unfinished video; slow, and the counts are printed."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.budget import rounds
from tests.jobs.test_video import LOSSLESS, Doubling, decoded, upscale
from tests.video.clips import make_kind
from upscale.errors import OutputError, VideoError
from upscale.jobs.video import VideoSettings
from upscale.video.segments import folder_for

pytestmark = pytest.mark.slow

ROUNDS = rounds(150)
VALUES = (None, True, -1, 10**30, 1.5, "", "x" * 999, [], [[]], {}, {"a": 1}, ["a"])

Change = Callable[[Path, random.Random], None]


def flip_a_byte(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) + 1)])


def repeat(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() * chance.randrange(2, 5))


def append_noise(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(chance.randrange(1, 500)))


def remove(path: Path, _: random.Random) -> None:
    path.unlink()


def swap(path: Path, chance: random.Random) -> None:
    other = chance.choice(sorted(path.parent.iterdir()))
    path.rename(path.with_name("between"))
    if other != path:
        other.rename(path)
    (path.parent / "between").rename(other)


def replace_by_a_link(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero" if os.path.exists("/dev/zero") else "nowhere")  # noqa: PTH110


def replace_by_a_pipe(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_a_folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def change_a_field(path: Path, chance: random.Random) -> None:
    """Give a field of a line of JSON another value; other files stay."""
    if not path.name.startswith(("manifest", "journal")):
        return
    texts = path.read_text().splitlines() if path.name.startswith("journal") else [path.read_text()]
    place = chance.randrange(len(texts))
    values = json.loads(texts[place])
    inner = values if chance.random() < 0.5 else values.get("pinned", values)
    inner[chance.choice(sorted(inner))] = chance.choice(VALUES)
    texts[place] = json.dumps(values)
    path.write_text("\n".join(texts) + "\n")


CHANGES: tuple[Change, ...] = (
    *(flip_a_byte, cut, repeat, append_noise, remove, swap, change_a_field),
    *((replace_by_a_link, replace_by_a_pipe, replace_by_a_folder) if os.name == "posix" else ()),
)


def test_a_video_whose_folder_was_tampered_with_is_right_or_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 8)
    source, output = make_kind("vfr", tmp_path), tmp_path / "out.mkv"
    upscale(source, tmp_path / "whole.mkv")
    whole = decoded(tmp_path / "whole.mkv")
    with pytest.raises(KeyboardInterrupt):
        upscale(source, output, Doubling(20, KeyboardInterrupt()))
    kept = folder_for(output).rename(tmp_path / "kept")
    chance, outcomes = random.Random(3), Counter[str]()
    for _ in range(ROUNDS):
        folder = shutil.copytree(kept, folder_for(output))
        for _ in range(chance.randrange(1, 3)):
            files = sorted(path for path in folder.iterdir() if path.is_file())
            if files:
                chance.choice(CHANGES)(chance.choice(files), chance)
        outcomes[_outcome(source, output, whole)] += 1
        shutil.rmtree(folder, ignore_errors=True)
    assert sum(outcomes.values()) == ROUNDS and outcomes["resumed"] and outcomes["refused"]
    with capsys.disabled():
        print(f"\n{ROUNDS} times tampered: {dict(outcomes)}; no wrong frame, no internal error")


def _outcome(source: Path, output: Path, whole: object) -> str:
    """Run the video again, and with --restart if it is refused."""
    try:
        report = upscale(source, output)
    except (OutputError, VideoError) as error:
        assert str(error).isprintable()
        if "--restart" not in str(error):
            return "refused"
        settings = VideoSettings(LOSSLESS, restart=True)
        upscale(source, output, settings=settings)
        assert decoded(output) == whole
        output.unlink()
        return "refused"
    assert decoded(output) == whole
    output.unlink()
    return "resumed" if report.resumed else "restarted"
