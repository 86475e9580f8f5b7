from __future__ import annotations

import pytest

from upscale.errors import UsageError
from upscale.options import Options, SizeOptions, load_options, option_names
from upscale.shards import Shard

NO_CONFIG = {"UPSCALE_CONFIG": ""}

VALUES = {
    "output": ("out/", ("output", "output"), "out/"),
    "scale": ("2.5", ("size", "scale"), 2.5),
    "width": ("800", ("size", "width"), 800),
    "height": ("600", ("size", "height"), 600),
    "max_side": ("2048", ("size", "max_side"), 2048),
    "model": ("mine.pth", ("engine", "model"), "mine.pth"),
    "tile": ("64", ("engine", "tile"), 64),
    "format": ("png", ("output", "format"), "png"),
    "quality": ("90", ("output", "quality"), 90),
    "lossless": ("1", ("output", "lossless"), True),
    "strip_metadata": ("yes", ("output", "strip_metadata"), True),
    "device": ("cuda:1", ("engine", "device"), "cuda:1"),
    "precision": ("bf16", ("engine", "precision"), "bf16"),
    "tta": ("1", ("engine", "tta"), True),
    "files_from": ("-", ("run", "files_from"), "-"),
    "jobs": ("4", ("run", "jobs"), 4),
    "recursive": ("true", ("run", "recursive"), True),
    "overwrite": ("yes", ("output", "overwrite"), True),
    "skip_existing": ("on", ("output", "skip_existing"), True),
    "name": ("{stem}", ("output", "name"), "{stem}"),
    "dry_run": ("1", ("run", "dry_run"), True),
    "json": ("1", ("report", "json"), True),
    "quiet": ("1", ("report", "quiet"), True),
    "verbose": ("1", ("report", "verbose"), True),
    "models": ("a, b", ("compare", "models"), ("a", "b")),
    "crop": ("auto", ("compare", "crop"), "auto"),
    "zero_shot": ("1", ("training", "zero_shot"), True),
    "kernel": ("estimate", ("training", "kernel"), "estimate"),
    "seed": ("7", ("training", "seed"), 7),
    "denoise": ("0.25", ("engine", "denoise"), 0.25),
    "fidelity": ("0.25", ("engine", "fidelity"), 0.25),
    "kernels": ("false", ("engine", "kernels"), False),
    "max_output_pixels": ("2000", ("run", "max_output_pixels"), 2000),
    "yes": ("1", ("run", "yes"), True),
    "keep_damaged": ("1", ("run", "keep_damaged"), True),
    "max_pixels": ("1000", ("run", "max_pixels"), 1000),
    "max_input": ("3k", ("run", "max_input"), 3072),
    "keep_colour": ("off", ("engine", "keep_colour"), "off"),
    "steady": ("0.5", ("video", "steady"), 0.5),
    "seamless": ("xy", ("texture", "seamless"), "xy"),
    "normal_map": ("yes", ("texture", "normal_map"), True),
    "dds_format": ("BC7", ("output", "dds_format"), "bc7"),
    "face": ("1", ("faces", "face"), True),
    "face_model": ("codeformer", ("faces", "face_model"), "codeformer"),
    "face_detector": ("retinaface", ("faces", "face_detector"), "retinaface"),
    "face_parser": ("parsenet", ("faces", "face_parser"), "parsenet"),
    "face_strength": ("0.8", ("faces", "face_strength"), 0.8),
    "faces_only": ("1", ("faces", "faces_only"), True),
    "face_min_size": ("40", ("faces", "face_min_size"), 40),
    "face_debug": ("1", ("faces", "face_debug"), True),
    "mipmaps": ("0", ("output", "mipmaps"), False),
    "shard": ("3/16", ("run", "shard"), Shard(3, 16)),
    "cluster": ("auto", ("run", "cluster"), "auto"),
    "workers": ("3", ("run", "workers"), 3),
}


def _get(options: Options, place: tuple[str, str]):
    return getattr(getattr(options, place[0]), place[1])


def test_every_option_is_tested():
    assert set(VALUES) == set(option_names())


@pytest.mark.parametrize("name", VALUES)
def test_every_option_is_read_from_flag_environment_and_file(name, tmp_path):
    text, place, value = VALUES[name]
    assert _get(load_options({}, NO_CONFIG), place) != value
    assert _get(load_options({name: text}, NO_CONFIG), place) == value
    environ = NO_CONFIG | {"UPSCALE_" + name.upper(): text}
    assert _get(load_options({}, environ), place) == value
    config = tmp_path / "config.toml"
    written = f'"{text}"' if isinstance(value, str | tuple | Shard) else str(value).lower()
    config.write_text(f"{name.replace('_', '-')} = {written}\n")
    assert _get(load_options({}, {"UPSCALE_CONFIG": str(config)}), place) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("scale", "0"),
        ("scale", "-2"),
        ("scale", "nan"),
        ("scale", "inf"),
        ("scale", "four"),
        ("width", "0"),
        ("width", "1.5"),
        ("max_side", "-1"),
        ("tile", "8"),
        ("tile", "-16"),
        ("tile", "big"),
        ("quality", "0"),
        ("quality", "101"),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("device", "cuda:0,"),
        ("device", "auto,cpu"),
        ("device", "cpu,cpu"),
        ("device", "cuda,cuda:0"),
        ("precision", "fp8"),
        ("jobs", "0"),
        ("jobs", "65"),
        ("denoise", "1.1"),
        ("fidelity", "-0.1"),
        ("fidelity", "1.1"),
        ("max_pixels", "0"),
        ("max_output_pixels", "0"),
        ("max_input", "0"),
        ("max_input", "5T"),
        ("max_input", "-1"),
        ("seamless", "yx"),
        ("keep_colour", "never"),
        ("dds_format", "bc6h"),
    ],
)
def test_invalid_values_are_errors_that_name_their_source(name, text):
    flag = "--" + name.replace("_", "-")
    with pytest.raises(UsageError, match=flag):
        load_options({name: text}, NO_CONFIG)
    variable = "UPSCALE_" + name.upper()
    with pytest.raises(UsageError, match=variable):
        load_options({}, NO_CONFIG | {variable: text})


@pytest.mark.parametrize(("text", "scale"), [("x4", 4), ("4x", 4), ("X2.5", 2.5), ("3", 3)])
def test_a_scale_is_also_spelled_with_an_x(text, scale):
    assert load_options({"scale": text}, NO_CONFIG).size.scale == scale


@pytest.mark.parametrize("text", ["x", "4x4", "x-4", "4xx", "x4x"])
def test_other_spellings_of_a_scale_are_errors(text):
    with pytest.raises(UsageError, match="is not a number"):
        load_options({"scale": text}, NO_CONFIG)


def test_several_devices_are_given_as_one_list():
    engine = load_options({"device": "cuda:0,cuda:1,cpu"}, NO_CONFIG).engine
    assert engine.devices == ("cuda:0", "cuda:1", "cpu")
    assert Options().engine.devices == ("auto",)


def test_an_invalid_switch_is_an_error():
    with pytest.raises(UsageError, match="UPSCALE_TTA"):
        load_options({}, NO_CONFIG | {"UPSCALE_TTA": "perhaps"})


def test_flags_take_precedence_over_environment_and_file(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('model = "from-file"\nquality = 10\ndevice = "cpu"\n')
    environ = {
        "UPSCALE_CONFIG": str(config),
        "UPSCALE_MODEL": "from-environment",
        "UPSCALE_QUALITY": "20",
    }
    options = load_options({"model": "from-flag", "quality": None}, environ)
    assert options.engine.model == "from-flag"
    assert options.output.quality == 20
    assert options.engine.device == "cpu"
    assert options.engine.precision == "auto"


def test_an_environment_switch_turns_off_what_the_file_turns_on(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("tta = true\n")
    environ = {"UPSCALE_CONFIG": str(config)}
    assert load_options({}, environ).engine.tta
    assert not load_options({}, environ | {"UPSCALE_TTA": "0"}).engine.tta


@pytest.mark.parametrize(
    ("environment", "flags", "size"),
    [
        ({"UPSCALE_SCALE": "2"}, {"width": "800"}, SizeOptions(width=800)),
        ({"UPSCALE_HEIGHT": "600"}, {"width": "800"}, SizeOptions(width=800)),
        ({"UPSCALE_MAX_SIDE": "600"}, {"scale": "2"}, SizeOptions(scale=2)),
        ({"UPSCALE_SCALE": "2"}, {}, SizeOptions(scale=2)),
    ],
)
def test_a_size_replaces_all_sizes_of_later_sources(environment, flags, size):
    assert load_options(flags, NO_CONFIG | environment).size == size


def test_overwrite_as_a_flag_replaces_skip_existing_of_the_environment():
    options = load_options({"overwrite": True}, NO_CONFIG | {"UPSCALE_SKIP_EXISTING": "1"})
    assert options.output.overwrite
    assert not options.output.skip_existing


def test_the_extension_of_an_output_flag_takes_precedence_over_the_format_of_the_file(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('format = "png"\n')
    environ = {"UPSCALE_CONFIG": str(config)}
    assert load_options({"output": "a.jpg"}, environ).output.format is None
    assert load_options({"output": "folder/"}, environ).output.format == "png"
    assert load_options({"output": "a.jpg", "format": "png"}, environ).output.format == "png"


@pytest.mark.parametrize(
    "flags",
    [
        {"scale": "2", "width": "800"},
        {"scale": "2", "height": "800"},
        {"scale": "2", "max_side": "800"},
        {"max_side": "2", "width": "800"},
        {"max_side": "2", "height": "800"},
        {"overwrite": True, "skip_existing": True},
    ],
)
def test_alternatives_from_one_source_exclude_each_other(flags):
    with pytest.raises(UsageError, match="exclude each other"):
        load_options(flags, NO_CONFIG)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'x'\n", "modle"),
        ("model = \n", "TOML"),
        ("model = " + "[" * 100_000, "TOML"),
        ("tile = " + "9" * 5000, "TOML"),
        ("[size]\nscale = 2\n", "size"),
        ("scale = true\n", "scale"),
        ("jobs = 1.5\n", "jobs"),
        ("model = 4\n", "model"),
        ("model = ['a']\n", "model"),
    ],
)
def test_an_invalid_file_is_one_line_with_its_path(text, message, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_options({}, {"UPSCALE_CONFIG": str(config)})
    assert str(config) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load_options({}, {"UPSCALE_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (SizeOptions(), (400, 200)),
        (SizeOptions(scale=2.5), (250, 125)),
        (SizeOptions(scale=0.001), (1, 1)),
        (SizeOptions(width=333), (333, 166)),
        (SizeOptions(height=333), (666, 333)),
        (SizeOptions(width=7, height=9), (7, 9)),
        (SizeOptions(max_side=150), (150, 75)),
    ],
)
def test_sizes_resolve_for_an_image_of_100_by_50(size, expected):
    assert size.resolve((100, 50), model_scale=4) == expected


def test_a_fidelity_needs_automatic_networks(tmp_path):
    with pytest.raises(UsageError, match=r"--fidelity 0.3 needs -n auto"):
        load_options({"fidelity": "0.3", "model": "realesrgan-x4plus"}, NO_CONFIG)
    config = tmp_path / "config.toml"
    config.write_text("fidelity = 0.3\n")
    environ = {"UPSCALE_CONFIG": str(config)}
    assert load_options({"model": "auto"}, environ).engine.fidelity == 0.3
    assert load_options({"model": "mine.pth"}, environ).engine.fidelity is None
