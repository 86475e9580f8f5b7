from __future__ import annotations

import json
import sys

import pytest
import torch

from upscale.cli import image_batch as work
from upscale.errors import CheckpointError, UsageError
from upscale.options import EngineOptions

QUICK = "realesr-animevideov3"

RECORD = {
    "colour_kept",
    "faces",
    "input",
    "output",
    "status",
    "model",
    "scale",
    "size_in",
    "size_out",
    "frames",
    "tile",
    "device",
    "precision",
    "seconds",
    "notes",
    "error",
    "damaged",
    "choice",
}


def test_the_output_path_is_all_that_standard_output_gets(call, photo, size_of):
    photo("a.png")
    ended = call("a.png")
    assert (ended.code, ended.out) == (0, "a_x4.png\n")
    assert size_of(photo("a.png").parent / "a_x4.png") == (96, 64)
    assert ended.err.startswith("a.png: 24x16 -> 96x64 in ")


def test_an_input_named_like_a_command_is_reached_with_its_folder(call, photo):
    photo("a.png").rename("models")
    ended = call("./models")
    assert (ended.code, ended.out) == (0, "models_x4.png\n")


@pytest.mark.parametrize(
    ("flags", "name", "size"),
    [
        (["-s", "2.5"], "a_x2.5.png", (60, 40)),
        (["--scale", "0.5"], "a_x0.5.png", (12, 8)),
        (["--width", "48"], "a_48x32.png", (48, 32)),
        (["--height", "48"], "a_72x48.png", (72, 48)),
        (["--width", "10", "--height", "11"], "a_10x11.png", (10, 11)),
        (["--max-side", "100"], "a_100x67.png", (100, 67)),
        (["-f", "jpg"], "a_x4.jpg", (96, 64)),
        (["--format", "webp", "-q", "50"], "a_x4.webp", (96, 64)),
        (["--name", "{stem}-{scale}-{model}"], "a-4-auto.png", (96, 64)),
        (["-o", "b.bmp"], "b.bmp", (96, 64)),
        (["--output", "new/"], "new/a.png", (96, 64)),
    ],
)
def test_flags_of_size_and_output(flags, name, size, call, photo, tmp_path, size_of):
    photo("a.png")
    ended = call("a.png", *flags)
    assert (ended.code, ended.out) == (0, name + "\n"), ended.err
    assert size_of(tmp_path / name) == size


def test_quality_changes_the_file(call, photo, tmp_path):
    photo("a.png", 100, 100)
    for quality in ("10", "95"):
        assert call("a.png", "-o", f"{quality}.jpg", "--quality", quality).code == 0
    low, high = (tmp_path / f"{quality}.jpg" for quality in ("10", "95"))
    assert low.stat().st_size < high.stat().st_size


@pytest.mark.parametrize(
    ("flags", "engine"),
    [
        ([], EngineOptions()),
        (["-n", QUICK], EngineOptions(model=QUICK)),
        (["-t", "64"], EngineOptions(tile=64)),
        (["--tile", "0"], EngineOptions(tile=0)),
        (["--tile", "auto"], EngineOptions()),
        (["--device", "cpu"], EngineOptions(device="cpu")),
        (["--precision", "bf16"], EngineOptions(precision="bf16")),
        (["-x"], EngineOptions(tta=True)),
        (["--tta"], EngineOptions(tta=True)),
        (["--denoise", "0.3"], EngineOptions(denoise=0.3)),
        (["--fidelity", "0.3"], EngineOptions(fidelity=0.3)),
    ],
)
def test_flags_of_the_network_are_passed_to_it(flags, engine, call, photo, upscalers):
    photo("a.png")
    assert call("a.png", *flags).code == 0
    assert [upscaler.engine for upscaler in upscalers] == [engine]


def test_each_device_gets_an_upscaler_and_a_bar_of_its_own(call, photo, upscalers, monkeypatch):
    for name in ("a.png", "b.png"):
        photo(name)
    ended = call("a.png", "b.png", "--device", "cuda:0,cpu", terminal=True)
    assert ended.code == 0, ended.err
    assert [upscaler.engine.device for upscaler in upscalers] == ["cuda:0", "cpu"]
    assert "cuda:0 preparing" in ended.err
    assert "cpu preparing" in ended.err


def test_a_gpu_that_is_ignored_is_reported_once(photo, real_call, monkeypatch):
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_arch_list": lambda: ["sm_75"],
        "get_device_name": lambda index: "Tesla P100",
        "get_device_capability": lambda index: (6, 0),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    for name in ("a.png", "b.png"):
        photo(name)
    flags = ("-n", "upscale-x4-fast")
    ended = real_call("a.png", "b.png", *flags)
    assert ended.code == 0, ended.err
    [note] = [line for line in ended.err.splitlines() if line.startswith("note: ")]
    assert note.startswith("note: cuda:0 (Tesla P100, compute capability 6.0) needs another build")
    assert "note" not in real_call("a.png", "-q", "--overwrite", *flags).err


def test_flags_take_precedence_over_environment_and_file(call, photo, tmp_path):
    photo("a.png")
    config = tmp_path / "config.toml"
    config.write_text('scale = 3\nformat = "bmp"\n')
    env = {"UPSCALE_CONFIG": str(config)}
    assert call("a.png", env=env).out == "a_x3.bmp\n"
    assert call("a.png", env=env | {"UPSCALE_SCALE": "2"}).out == "a_x2.bmp\n"
    env |= {"UPSCALE_SCALE": "2", "UPSCALE_FORMAT": "webp"}
    assert call("a.png", "--max-side", "30", env=env).out == "a_30x20.webp\n"


def test_an_unknown_key_in_the_file_is_wrong_usage(call, photo, tmp_path):
    photo("a.png")
    (tmp_path / "config.toml").write_text("scael = 3\n")
    ended = call("a.png", env={"UPSCALE_CONFIG": "config.toml"})
    assert ended.code == 2
    assert "scael" in ended.err


def test_json_is_complete_for_every_status(call, photo):
    photo("in/done.png")
    photo("in/exists.png")
    photo("out/exists.png")
    photo("in/bad.png").write_bytes(b"no image")
    ended = call("in", "-o", "out", "--json", "--skip-existing")
    records = {record["status"]: record for record in map(json.loads, ended.out.splitlines())}
    assert set(records) == {"done", "skipped", "failed"}
    assert all(set(record) == RECORD for record in records.values())
    done = records["done"]
    assert done | {"seconds": None} == {
        "input": "in/done.png",
        "output": "out/done.png",
        "status": "done",
        "model": "auto",
        "scale": 4.0,
        "size_in": [24, 16],
        "size_out": [96, 64],
        "frames": 1,
        "tile": 512,
        "device": "cpu",
        "precision": "fp32",
        "seconds": None,
        "notes": [],
        "error": None,
        "damaged": [],
        "choice": None,
        "colour_kept": False,
        "faces": None,
    }
    assert done["seconds"] >= 0
    assert records["skipped"]["output"] == "out/exists.png"
    assert records["failed"]["input"] == "in/bad.png"
    assert "bad.png" in records["failed"]["error"]
    (planned,) = map(json.loads, call("in/done.png", "--json", "--dry-run").out.splitlines())
    assert set(planned) == RECORD
    assert (planned["status"], planned["size_out"]) == ("planned", [96, 64])


def test_quiet_prints_errors_only(call, photo):
    photo("a.png")
    ended = call("a.png", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    ended = call("a.png", "none.png", "--quiet", "-o", "out/", terminal=True)
    assert (ended.code, ended.out) == (3, "")
    assert "none.png: does not exist" in ended.err
    assert ended.err.count("\n") == 1


def test_a_dry_run_writes_nothing(call, photo, tmp_path, upscalers):
    photo("in/a.png")
    photo("in/sub/b.jpg")
    before = sorted(tmp_path.rglob("*"))
    ended = call("in", "-r", "-o", "out", "--dry-run", "-s", "3")
    assert ended.code == 0
    assert ended.out == "out/a.png  24x16 -> 72x48\nout/sub/b.jpg  24x16 -> 72x48\n"
    assert sorted(tmp_path.rglob("*")) == before
    assert upscalers == []


def test_recursion_mirrors_the_tree_and_counts_ignored_files(call, photo, tmp_path, size_of):
    for name in ("in/b.png", "in/a.jpg", "in/deep/er/c.webp"):
        photo(name)
    (tmp_path / "in" / "notes.txt").write_text("x")
    ended = call("in", "-o", "out", "-r", "-j", "1")
    assert ended.code == 0
    assert ended.out.splitlines() == ["out/a.jpg", "out/b.png", "out/deep/er/c.webp"]
    assert size_of(tmp_path / "out/deep/er/c.webp") == (96, 64)
    assert ended.err.startswith("3 done, 1 other file ignored in ")
    assert call("in", "-o", "flat", "--recursive").out.count("\n") == 3
    assert call("in", "-o", "flat2").out.count("\n") == 2


def test_a_folder_without_images_is_a_failure_with_advice(call, photo, tmp_path):
    photo("in/sub/a.png")
    ended = call("in", "-o", "out")
    assert ended.code == 1
    assert "-r" in ended.err


def test_a_folder_needs_an_output_folder(call, photo):
    photo("in/a.png")
    ended = call("in")
    assert ended.code == 2
    assert "-o FOLDER" in ended.err


def test_existing_outputs_are_kept_skipped_or_replaced(call, photo, tmp_path, size_of):
    photo("a.png")
    kept = tmp_path / "a_x4.png"
    kept.write_bytes(b"mine")
    assert call("a.png").code == 1
    assert kept.read_bytes() == b"mine"
    ended = call("a.png", "--skip-existing")
    assert (ended.code, ended.out) == (0, "")
    assert kept.read_bytes() == b"mine"
    assert call("a.png", "--overwrite").code == 0
    assert size_of(kept) == (96, 64)


def test_an_input_is_never_overwritten(call, photo, tmp_path):
    content = photo("a.png").read_bytes()
    for output in ("a.png", "."):
        ended = call("a.png", "-o", output, "--overwrite")
        assert ended.code == 1
        assert "input" in ended.err
    assert (tmp_path / "a.png").read_bytes() == content


def test_two_inputs_with_one_output_fail_the_second(call, photo):
    photo("a.jpg")
    photo("a.png")
    ended = call("a.jpg", "a.png", "-f", "png", "-o", "out/")
    assert (ended.code, ended.out) == (3, "out/a.png\n")
    assert "error: a.png: has the same output as a.jpg" in ended.err


def test_failures_are_listed_last_and_the_exit_code_distinguishes_some_from_all(
    call, photo, tmp_path
):
    photo("a.png")
    (tmp_path / "bad.png").write_bytes(b"no")
    ended = call("bad.png", "a.png", "gone.png", "-o", "out/")
    assert (ended.code, ended.out) == (3, "out/a.png\n")
    lines = ended.err.splitlines()
    assert lines[0].startswith("1 done, 2 failed in ")
    assert [line.split(":")[0] for line in lines[1:]] == ["error", "error"]
    assert call("bad.png", "gone.png", "-o", "out/").code == 1
    assert call("bad.png").code == 1


def test_an_error_shows_its_traceback_with_verbose_only(call, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no")
    plain = call("bad.png")
    assert plain.err.count("\n") == 1
    for flags, env in ((["-v"], {}), (["--verbose"], {}), ([], {"UPSCALE_VERBOSE": "1"})):
        assert "Traceback" in call("bad.png", *flags, env=env).err


def test_verbose_prints_a_line_per_image(call, photo):
    photo("a.png")
    photo("b.png")
    assert "a.png: 24x16" not in call("a.png", "b.png").err
    assert "b.png: 24x16" in call("a.png", "b.png", "-v", "--overwrite").err


def test_verbose_names_the_convolutions_and_the_reason_for_those_of_torch(call, photo):
    photo("a.png")
    assert "convolutions" not in call("a.png").err
    assert "a.png: convolutions: torch (too old)" in call("a.png", "-v", "--overwrite").err


def test_an_internal_error_is_one_line_that_suggests_verbose(call, photo, monkeypatch):
    photo("a.png")
    monkeypatch.setattr(work, "run_batch", lambda *_, **__: 1 / 0)
    ended = call("a.png")
    assert ended.code == 1
    assert (
        ended.err == "error: internal error: ZeroDivisionError: division by zero; "
        "run again with -v for details\n"
    )
    assert "Traceback" in call("a.png", "-v").err


@pytest.mark.parametrize(("error", "code"), [(CheckpointError, 1), (UsageError, 2)])
def test_an_unusable_network_is_one_line(error, code, call, photo, monkeypatch):
    def fail(engine, view):
        raise error("net: cannot be used")

    monkeypatch.setattr(work, "make_upscaler", fail)
    photo("a.png")
    photo("b.png")
    ended = call("a.png", "b.png")
    assert ended.code == code
    assert ended.err.count("error: net: cannot be used") == 1


def test_an_unknown_network_is_an_error_before_anything_is_read(call):
    ended = call("none.png", "-n", "realesrgan-x4pluss")
    assert ended.code == 1
    assert "realesrgan-x4pluss" in ended.err


def test_a_name_that_the_system_rejects_is_one_line(call, photo):
    photo("a.png")
    for arguments in (["x" * 5000], ["a.png", "--name", "x" * 5000], ["a.png", "-o", "x" * 5000]):
        ended = call(*arguments)
        assert ended.code in (1, 2)
        assert ended.err.startswith("error: ")
        assert ended.err.count("\n") == 1
        assert "internal" not in ended.err


def test_too_many_pixels_are_an_error(call, photo):
    photo("a.png")
    assert call("a.png", "--max-pixels", "383").code == 1
    assert call("a.png", "--max-pixels", "384").code == 0


def test_standard_input_and_output(call, photo, tmp_path, size_of):
    data = photo("a.webp").read_bytes()
    ended = call("-", stdin=data)
    assert ended.code == 0
    assert ended.out_bytes[8:12] == b"WEBP"
    ended = call("a.webp", "-o", "-", "-f", "png")
    assert ended.out_bytes.startswith(b"\x89PNG")
    (tmp_path / "out.png").write_bytes(ended.out_bytes)
    assert size_of(tmp_path / "out.png") == (96, 64)
    assert call("-", "-o", "b.png", stdin=data).out == "b.png\n"


def test_a_list_of_inputs_comes_from_a_file_or_standard_input(call, photo, tmp_path):
    photo("a.png")
    photo("two\nlines.png")
    photo("c.png")
    listing = b"a.png\0two\nlines.png\0"
    ended = call("c.png", "--files-from", "-", "-o", "out/", "--json", stdin=listing)
    records = list(map(json.loads, ended.out.splitlines()))
    assert [record["input"] for record in records] == ["c.png", "a.png", "two\nlines.png"]
    assert (tmp_path / "out" / "two\nlines.png").exists()
    (tmp_path / "list.txt").write_text("a.png\nc.png\n")
    assert call("--files-from", "list.txt", "-o", "more/").out == "more/a.png\nmore/c.png\n"


def test_a_list_without_names_is_a_failure_and_standard_input_is_read_once(call, photo):
    empty = call("--files-from", "-", "-o", "out/")
    assert (empty.code, empty.out) == (1, "")
    assert empty.err == "error: --files-from -: the list is empty\n"
    assert call("--files-from", "gone.txt").code == 1
    assert call("-", "--files-from", "-", "-o", "out/").code == 2


def test_an_image_is_not_written_to_a_terminal_or_mixed_with_json(call, photo):
    photo("a.png")
    for ended in (call("a.png", "-o", "-", out_terminal=True), call("a.png", "-o", "-", "--json")):
        assert (ended.code, ended.out) == (2, "")


def test_bars_are_shown_on_a_terminal_only_and_vanish(call, photo, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name in ("a.png", "b.png"):
        photo(name)
    shown = call("a.png", "b.png", terminal=True).err
    assert "images" in shown
    assert "\x1b[2K" in shown, "the bars are erased"
    assert shown.endswith(" s\n")
    assert "\x1b[3" in shown, "colours"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in call("a.png", "b.png", "--overwrite", terminal=True).err
    plain = call("a.png", "b.png", "--overwrite").err
    assert "\x1b" not in plain
    assert "images" not in plain


def test_a_note_reports_a_changed_format(call, photo):
    photo("wide.webp", 300, 2)
    ended = call("wide.webp", "-s", "60")
    assert ended.out == "wide_x60.png\n"
    assert "note: wide.webp: " in ended.err
    assert "16383" in ended.err


def test_an_interrupt_is_one_line_and_exit_code_130(call, photo, monkeypatch):
    photo("a.png")

    def interrupted(engine, view):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "make_upscaler", interrupted)
    ended = call("a.png")
    assert ended.code == 130
    assert "interrupted" in ended.err
    assert "Traceback" not in ended.err


def damaged(photo, name="cut.jpg") -> None:
    """An image of 24x48 pixels without its last rows."""
    path = photo(name, 24, 48)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])


def test_damaged_image_fails_and_the_message_names_the_option(call, photo):
    damaged(photo)
    ended = call("cut.jpg")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == (
        "error: cut.jpg: is cut off; use an undamaged copy, or pass --keep-damaged to save what "
        "can be read\n"
    )


def test_what_can_be_read_of_a_damaged_image_is_kept_with_its_own_exit_code(call, photo, size_of):
    damaged(photo)
    ended = call("cut.jpg", "--keep-damaged")
    assert (ended.code, ended.out) == (3, "cut_x4.jpg\n")
    assert ended.err.startswith("note: cut.jpg: is damaged: the last ")
    assert size_of("cut_x4.jpg") == (96, 192)


def test_undamaged_images_keep_their_exit_code(call, photo):
    photo("a.png")
    ended = call("a.png", "--keep-damaged", "--json")
    assert ended.code == 0 and json.loads(ended.out)["damaged"] == []


def test_damage_is_in_the_record_and_in_the_summary(call, photo):
    damaged(photo)
    photo("a.png")
    ended = call("cut.jpg", "a.png", "--keep-damaged", "--json", "-o", "out/")
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 3 and [record["status"] for record in records] == ["done", "done"]
    assert records[0]["damaged"][0].endswith("of 48 rows are missing")
    assert records[1]["damaged"] == []
    assert "2 done, 1 of them damaged" in ended.err


def test_option_can_be_set_in_the_environment(call, photo):
    damaged(photo)
    assert call("cut.jpg", env={"UPSCALE_KEEP_DAMAGED": "true"}).code == 3


def test_shards_do_all_images_once_and_an_empty_share_is_no_failure(call, photo):
    for name in ("a.png", "b.png", "c.png"):
        photo(f"in/{name}")
    ended = [
        call("in", "-o", "out/", "-n", QUICK, "--json", "--shard", f"{number}/4")
        for number in (1, 2, 3, 4)
    ]
    assert [each.code for each in ended] == [0, 0, 0, 0]
    outputs = [[json.loads(line)["output"] for line in each.out.splitlines()] for each in ended]
    assert outputs == [["out/a.png"], ["out/b.png"], ["out/c.png"], []]
    assert "1 done, 2 left to other shards in " in ended[0].err
    assert ended[3].err.startswith("3 left to other shards in ")


def test_a_shard_of_a_comparison_is_a_usage_error(call, photo):
    photo("a.png")
    ended = call("a.png", "--models", f"{QUICK},bicubic", "--shard", "1/2")
    assert (ended.code, ended.out) == (2, "")
    assert "--shard and --models exclude each other" in ended.err


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        (["--workers", "2"], 2, "--workers needs --cluster"),
        (["--cluster", "auto", "--device", "cuda:0,cuda:1"], 2, "each worker of a cluster has one"),
        (
            ["--cluster", "auto"],
            1,
            "--cluster needs the package ray; run: pip install 'upscale[ray]'",
        ),
        (["--cluster", "auto", "--models", "bicubic"], 2, "--cluster and --models exclude each"),
    ],
)
def test_impossible_requests_of_a_cluster_are_one_line(flags, code, text, call, photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    photo("a.png")
    ended = call("a.png", *flags)
    assert (ended.code, ended.out) == (code, "") and text in ended.err
    assert not photo("a.png").with_name("a_x4.png").exists()
