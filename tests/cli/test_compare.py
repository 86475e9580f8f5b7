from __future__ import annotations

import re
import subprocess
import sys

import pytest

from upscale.cli import image_batch as work
from upscale.errors import CheckpointError

QUICK = "realesr-animevideov3"
ANIME = "realesrgan-x4plus-anime"


def labels(page) -> list[str]:
    return re.findall(r'<img alt="([^"]*)"', page.read_text(encoding="utf-8"))


# --- upscale compare -------------------------------------------------------------------------


def test_two_images_become_a_page_whose_path_is_printed(call, photo, tmp_path):
    photo("a.png")
    photo("b.jpg", 96, 64)
    ended = call("compare", "a.png", "b.jpg")
    assert (ended.code, ended.out, ended.err) == (0, "compare.html\n", "")
    page = tmp_path / "compare.html"
    assert labels(page) == ["a.png", "b.jpg"]
    assert "<title>a.png and b.jpg</title>" in page.read_text()
    assert str(tmp_path) not in page.read_text()


def test_output_and_title_can_be_set(call, photo, tmp_path):
    photo("a.png")
    photo("b.png")
    ended = call("compare", "a.png", "b.png", "-o", "new/page.html", "--title", "<Mine>")
    assert (ended.code, ended.out) == (0, "new/page.html\n")
    assert "<title>&lt;Mine&gt;</title>" in (tmp_path / "new" / "page.html").read_text()


def test_several_files_are_versions_of_one_image(call, photo, tmp_path):
    names = ["a.png", "b.jpg", "c.webp", "d.tif"]
    for name in names:
        photo(name)
    assert call("compare", *names).code == 0
    assert labels(tmp_path / "compare.html") == names
    text = (tmp_path / "compare.html").read_text()
    assert text.count("<section ") == 1
    assert "<title>a.png and 3 others</title>" in text


def test_folders_become_a_gallery_and_unmatched_images_are_listed(call, photo, tmp_path):
    for name in ("in/a.png", "in/sub/b.jpg", "in/c.png", "out/a_x4.png", "out/sub/b.png"):
        photo(name)
    ended = call("compare", "in", "out")
    assert (ended.code, ended.out) == (0, "compare.html\n")
    assert ended.err == "note: 1 image without a counterpart: in/c.png\n"
    assert labels(tmp_path / "compare.html") == [
        "in/a.png",
        "out/a_x4.png",
        "in/sub/b.jpg",
        "out/sub/b.png",
    ]


def test_many_unmatched_images_are_counted(call, photo):
    for name in "abcdefgh":
        photo(f"in/{name}.png")
    photo("out/a.png")
    message = call("compare", "in", "out").err
    assert message.startswith("note: 7 images without a counterpart: in/b.png, ")
    assert message.endswith(", in/f.png and 2 more\n")


def test_folders_without_pairs_are_a_failure(call, photo, tmp_path):
    photo("in/a.png")
    photo("out/b.png")
    ended = call("compare", "in", "out")
    assert (ended.code, ended.out) == (1, "")
    assert "no images match" in ended.err
    assert not (tmp_path / "compare.html").exists()


def test_an_existing_page_and_the_inputs_are_never_replaced(call, photo, tmp_path):
    photo("a.png")
    photo("b.png").rename(tmp_path / "b.html")
    page = tmp_path / "compare.html"
    page.write_text("mine")
    ended = call("compare", "a.png", "b.html")
    assert (ended.code, ended.out) == (1, "")
    assert "--overwrite" in ended.err
    assert page.read_text() == "mine"
    kept = (tmp_path / "b.html").read_bytes()
    assert call("compare", "a.png", "b.html", "-o", "b.html", "--overwrite").code == 1
    assert (tmp_path / "b.html").read_bytes() == kept
    assert call("compare", "a.png", "b.html", "--overwrite").code == 0
    assert labels(page) == ["a.png", "b.html"]


def test_unreadable_images_are_errors_and_the_others_are_on_the_page(call, photo, tmp_path):
    for name in ("in/a.png", "out/a.png", "in/b.png", "out/b.png"):
        photo(name)
    (tmp_path / "out" / "a.png").write_bytes(b"no image")
    ended = call("compare", "in", "out")
    assert (ended.code, ended.out) == (3, "compare.html\n")
    assert ended.err.startswith("error: out/a.png")
    assert labels(tmp_path / "compare.html") == ["in/b.png", "out/b.png"]
    ended = call("compare", "in/b.png", "none.png", "-o", "x.html")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: none.png")
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare"],
        ["compare", "a.png"],
        ["compare", "a.png", "."],
        ["compare", "a.png", "b.png", "-o", "page.png"],
        ["a.png", "--crop", "auto"],
        ["a.png", "--models", "x,,y"],
        ["a.png", "--models", QUICK, "-n", QUICK],
        ["a.png", "--models", QUICK, "--crop", "1,2,3"],
        ["a.png", "--models", QUICK, "--crop", "1,2,0,3"],
        ["a.png", "--models", QUICK, "--crop", "-1,2,3,4"],
        ["a.png", "--models", QUICK, "--crop", "wide"],
        ["a.png", "--models", QUICK, "-o", "b.png"],
        ["a.png", "--models", QUICK, "--json"],
        ["a.png", "--models", QUICK, "--dry-run"],
        ["a.png", "--models", QUICK, "--skip-existing"],
        ["--models", QUICK],
    ],
)
def test_wrong_usage_is_one_line(arguments, call, photo, tmp_path):
    photo("a.png")
    photo("b.png")
    ended = call(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))


def test_the_help_names_the_command_and_its_options(call, capsys):
    assert call("--help").code == 0
    assert "compare" in capsys.readouterr().out
    assert call("compare", "--help").code == 0
    shown = capsys.readouterr().out
    assert "Usage: upscale compare" in shown
    assert all(flag in shown for flag in ("--output", "--title", "--overwrite"))


def test_comparing_files_does_not_import_torch(photo, tmp_path):
    script = (
        "import sys\n"
        "from upscale.cli.app import run\n"
        "from upscale.cli.session import Session\n"
        "assert run(['compare', *sys.argv[1:]], Session.of_process()) == 0\n"
        "print('torch' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script, photo("a.png"), photo("b.tif"), "-o"]
    ended = subprocess.run(
        [*command, tmp_path / "p.html"], capture_output=True, text=True, check=False
    )
    assert ended.stdout.splitlines()[-1] == "False", ended.stderr


# --- --models --------------------------------------------------------------------------------


def test_networks_are_compared_with_the_input(call, photo, tmp_path, upscalers):
    photo("in/a.png", 60, 50)
    ended = call("in/a.png", "--models", f"{QUICK}, {ANIME}", "--crop", "10,5,20,12")
    assert (ended.code, ended.out) == (0, "in/a_models.html\n"), ended.err
    assert ended.err.startswith("2 done in ")
    page = tmp_path / "in" / "a_models.html"
    assert labels(page) == ["input", QUICK, ANIME]
    text = page.read_text()
    assert re.findall(r'width="(\d+)" height="(\d+)"', text) == [("20", "12")] + [("80", "48")] * 2
    assert "<title>a.png: 2 networks</title>" in text
    assert [upscaler.engine.model for upscaler in upscalers] == [QUICK, ANIME]
    assert sorted(p.name for p in (tmp_path / "in").iterdir()) == ["a.png", "a_models.html"]


def test_without_a_crop_the_whole_image_is_upscaled(call, photo, tmp_path):
    photo("a.png")
    assert call("a.png", "--models", QUICK, "-s", "2", "-o", "p.html").out == "p.html\n"
    sizes = re.findall(r'width="(\d+)" height="(\d+)"', (tmp_path / "p.html").read_text())
    assert sizes == [("24", "16"), ("48", "32")]


def test_several_inputs_make_a_gallery(call, photo, tmp_path):
    for name in ("in/a.png", "in/sub/b.jpg", "c.png"):
        photo(name)
    ended = call("in", "c.png", "-r", "--models", QUICK, "--crop", "auto")
    assert (ended.code, ended.out) == (0, "models.html\n")
    text = (tmp_path / "models.html").read_text()
    assert re.findall(r'data-name="([^"]*)"', text) == ["in/a.png", "in/sub/b.jpg", "c.png"]


def test_lists_of_inputs_and_standard_input_are_accepted(call, photo, tmp_path):
    data = photo("a.png").read_bytes()
    (tmp_path / "list.txt").write_text("a.png\n")
    assert call("--files-from", "list.txt", "--models", QUICK).out == "a_models.html\n"
    assert call("-", "--models", QUICK, stdin=data).out == "stdin_models.html\n"


def test_an_existing_page_of_networks_is_kept_and_nothing_is_computed(
    call, photo, tmp_path, upscalers
):
    photo("a.png")
    (tmp_path / "a_models.html").write_text("mine")
    assert call("a.png", "--models", QUICK).code == 1
    assert upscalers == []
    assert (tmp_path / "a_models.html").read_text() == "mine"
    assert call("a.png", "--models", QUICK, "--overwrite").code == 0


def test_quiet_prints_nothing(call, photo, tmp_path):
    photo("a.png")
    ended = call("a.png", "--models", QUICK, "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (tmp_path / "a_models.html").exists()


def test_the_first_of_several_devices_is_used(call, photo, upscalers):
    photo("a.png")
    assert call("a.png", "--models", QUICK, "--device", "cpu,cuda:1", "-t", "64").code == 0
    assert (upscalers[0].engine.device, upscalers[0].engine.tile) == ("cpu", 64)


def test_an_unknown_network_is_an_error_before_anything_is_computed(call, photo, upscalers):
    photo("a.png")
    ended = call("a.png", "--models", f"{QUICK},nonsense")
    assert ended.code == 1
    assert "nonsense" in ended.err
    assert upscalers == []


def test_failures_are_errors_and_the_other_results_are_on_the_page(
    call, photo, tmp_path, monkeypatch
):
    photo("a.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    usual = work.make_upscaler

    def make(engine, view):
        if engine.model == ANIME:
            raise CheckpointError("anime: cannot be used")
        return usual(engine, view)

    monkeypatch.setattr(work, "make_upscaler", make)
    ended = call("a.png", "bad.png", "--models", f"{QUICK},{ANIME}")
    assert (ended.code, ended.out) == (3, "models.html\n")
    assert "error: anime: cannot be used" in ended.err
    assert "error: bad.png" in ended.err
    assert labels(tmp_path / "models.html") == ["input", QUICK]
    ended = call("bad.png", "--models", QUICK)
    assert (ended.code, ended.out) == (1, "")
    assert not (tmp_path / "bad_models.html").exists()


def test_a_model_flag_takes_precedence_over_models_from_the_environment(call, photo, tmp_path):
    photo("a.png")
    env = {"UPSCALE_MODELS": QUICK}
    assert call("a.png", env=env).out == "a_models.html\n"
    assert call("a.png", "-n", QUICK, env=env).out == "a_x4.png\n"
    assert call("a.png", "--models", QUICK, "--overwrite", env={"UPSCALE_MODEL": ANIME}).code == 0


def test_a_real_network_makes_the_page(program, photo, tmp_path):
    photo("a.png", 80, 60)
    ended = program("a.png", "--models", QUICK, "--crop", "8,8,32,24")
    assert (ended.code, ended.out.strip()) == (0, "a_models.html"), ended.err
    assert labels(tmp_path / "a_models.html") == ["input", QUICK]
