"""The program with a real network, mostly as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from upscale.checkpoints import availability, catalog

QUICK = "realesr-animevideov3"
pytestmark = pytest.mark.skipif(
    availability(catalog()[QUICK]) == "absent", reason=f"{QUICK} is not here"
)


def test_a_photo_is_upscaled_next_to_the_input(program, photo, tmp_path, size_of):
    source = photo("photo.jpg", 64, 48)
    ended = program("photo.jpg", "-n", QUICK)
    assert (ended.code, ended.out) == (0, "photo_x4.jpg\n"), ended.err
    assert size_of(tmp_path / "photo_x4.jpg") == (256, 192)
    small = cv2.imread(str(source)).astype(float)
    again = cv2.imread(str(tmp_path / "photo_x4.jpg")).astype(float)
    again = cv2.resize(again, (64, 48), interpolation=cv2.INTER_AREA)
    alike = np.corrcoef(small.ravel(), again.ravel())[0, 1]
    assert alike > 0.95, "the same image, only larger, its colours in order"


def test_many_flags_at_once(real_call, photo, tmp_path, size_of):
    photo("in/a.png", 40, 24)
    photo("in/sub/b.jpg", 24, 40)
    (tmp_path / "config.toml").write_text('format = "webp"\nquality = 80\n')
    ended = real_call(
        *("in", "-r", "-o", "out", "-s", "2", "-t", "16", "--device", "cpu", "--precision", "fp32"),
        *("-x", "-j", "1", "--name", "{stem}-{width}x{height}.{ext}", "--json", "--max-pixels"),
        *("1000", "--verbose"),
        env={"UPSCALE_CONFIG": "config.toml", "UPSCALE_MODEL": QUICK},
    )
    assert ended.code == 0, ended.err
    first, second = map(json.loads, ended.out.splitlines())
    assert (first["output"], second["output"]) == (
        "out/a-80x48.webp",
        "out/sub/b-48x80.webp",
    )
    assert (first["tile"], first["device"], first["precision"]) == (16, "cpu", "fp32")
    assert first["model"] == QUICK
    assert size_of(tmp_path / "out/sub/b-48x80.webp") == (48, 80)


def test_alpha_and_16_bit_grey_are_upscaled(real_call, tmp_path):
    rgba = np.full((24, 24, 4), 90, np.uint8)
    rgba[..., 3] = 0
    rgba[6:18, 6:18, 3] = 255
    cv2.imwrite(str(tmp_path / "rgba.png"), rgba)
    ramp = np.linspace(0, 65535, 32).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "grey.png"), np.tile(ramp, (16, 1)))
    ended = real_call("rgba.png", "grey.png", "-n", QUICK, "-o", "out/")
    assert ended.code == 0, ended.err
    alpha = cv2.imread(str(tmp_path / "out" / "rgba.png"), cv2.IMREAD_UNCHANGED)[..., 3]
    assert (alpha[:16] == 0).all()
    assert (alpha[32:64, 32:64] == 255).all()
    grey = cv2.imread(str(tmp_path / "out" / "grey.png"), cv2.IMREAD_UNCHANGED)
    assert (grey.shape, grey.dtype) == ((64, 128), np.uint16)


def test_standard_input_to_standard_output(program, photo, tmp_path):
    ended = program("-", "-n", QUICK, "-f", "png", "-o", "-", stdin=photo("a.jpg").read_bytes())
    assert ended.code == 0, ended.err
    decoded = cv2.imdecode(np.frombuffer(ended.out_bytes, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (64, 96, 3)


def rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process prints to its end; `communicate` loses what `readline` has read ahead."""
    assert process.stdout is not None and process.stderr is not None
    with process:
        return process.stdout.read(), process.stderr.read()


@pytest.mark.skipif(os.name == "nt", reason="signals of process groups are of another kind there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_complete_outputs_and_nothing_else(
    number, photo, tmp_path, program_environment, size_of
):
    photo("in/a.png")
    photo("in/b.png")
    large = cv2.resize(cv2.imread(str(photo("in/c.png"))), (1500, 1500))
    cv2.imwrite(str(tmp_path / "in" / "c.png"), large)
    process = subprocess.Popen(
        [*(sys.executable, "-m", "upscale", "in", "-o", "out", "-n", QUICK), *("-t", "32", "-j2")],
        cwd=tmp_path,
        env=program_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a test run in the background ignores SIGINT, and its children would, too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout is not None
    # One output may still wait for its turn to be reported while the next is computed.
    first = process.stdout.readline()
    os.killpg(process.pid, number)
    out, err = rest_of(process)
    assert process.returncode == 130, err
    assert err.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in err
    reported = [tmp_path / line for line in (first + out).splitlines()]
    assert sorted((tmp_path / "out").rglob("*")) == sorted(reported)
    assert tmp_path / "out" / "c.png" not in reported
    assert [size_of(path) for path in reported] == [(96, 64)] * len(reported)


def test_a_closed_pipe_is_not_an_error(photo, tmp_path, program_environment, size_of):
    photo("a.png")
    process = subprocess.Popen(
        [sys.executable, "-m", "upscale", "a.png", "-n", QUICK],
        cwd=tmp_path,
        env=program_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait() == 0, err
    assert "Broken" not in err
    assert size_of(tmp_path / "a_x4.png") == (96, 64)


def test_names_that_are_not_unicode_are_printed_unchanged(program, photo, tmp_path):
    odd = tmp_path / "a\udcff.png"
    try:
        photo("a.png").rename(odd)
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has Unicode names only")
    ended = program("gone\udcff.png", odd.name, "--dry-run")
    assert ended.code == 3
    assert ended.out_bytes.startswith(b"a\xff_x4.png  ")
    assert "error: gone" in ended.err


def test_exit_codes_of_the_process(program, photo, tmp_path):
    photo("a.png")
    (tmp_path / "bad.png").write_bytes(b"no")
    assert program("a.png", "--dry-run").code == 0
    assert program("bad.png").code == 1
    assert program("a.png", "--scale", "0").code == 2
    assert program("a.png", "bad.png", "--dry-run").code == 3


def test_denoise_is_an_error_for_a_network_without_a_partner(real_call, photo):
    photo("a.png")
    ended = real_call("a.png", "-n", QUICK, "--denoise", "0.5")
    assert ended.code == 2
    assert ended.err.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="streams are closed in another way there")
def test_closed_streams_are_accepted(photo, tmp_path, program_environment):
    photo("a.png")
    for closing in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        command = f'"{sys.executable}" -m upscale a.png --dry-run {closing}'
        ended = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=program_environment, check=False
        )
        assert ended.returncode == 0, closing


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_help_that_is_cut_off_says_nothing(tmp_path, program_environment):
    command = f'"{sys.executable}" -m upscale --help | true'
    ended = subprocess.run(
        ["sh", "-c", command], capture_output=True, env=program_environment, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
