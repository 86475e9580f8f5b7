from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tests.video.clips import make_kind
from upscale import selection
from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler
from upscale.errors import UsageError
from upscale.images import Frame, Image, ImageSequence, Metadata, Origin, read_image
from upscale.jobs import Status, image_steps, make_plan, run_batch
from upscale.jobs.auto import (
    MOST_SIDE,
    AutoUpscaler,
    auto_networks,
    choice_record,
    chosen_names,
    image_sample,
    recorded_choice,
    samples_of,
    spread,
)
from upscale.jobs.image import ImageJob
from upscale.jobs.model_info import find_model_info, model_digest
from upscale.jobs.video import VideoSettings, plan_video, run_video, video_record
from upscale.jobs.video_preview import plan_preview, preview_record, run_preview
from upscale.jobs.video_samples import video_samples
from upscale.models import SRVGGSpec
from upscale.options import EngineOptions, Options, OutputOptions, TextureOptions
from upscale.selection import Choice
from upscale.selection.choice import CLEAN, DAMAGED, DRAWING
from upscale.video.encoders import VideoEncoding
from upscale.video.probe import probe
from upscale.video.reader import read_frames

OPTIONS = EngineOptions(device="cpu", tile=32)


@pytest.fixture
def loaded(monkeypatch, random_network):
    """Replace the networks by small ones; return the names of those that were loaded."""
    names = []

    def load(name):
        names.append(name)
        network = random_network(SRVGGSpec(4, features=8, convolutions=2), len(name))
        return Model.from_network(name, network)

    monkeypatch.setattr("upscale.engine.loading.load_model", load)
    return names


@dataclass
class Chooser:
    """A choice that is the same for all images, and the samples that it was made for."""

    choice: Choice
    samples: list

    def __call__(self, samples, probe):
        self.samples.append(samples)
        return self.choice


@pytest.fixture
def chooser(monkeypatch):
    """Replace the decision."""

    def make(weights, reason="because"):
        chooser = Chooser(Choice(weights, reason, True), [])
        monkeypatch.setattr(selection, "choose", chooser)
        return chooser

    return make


def noise(height=20, width=24, channels=3, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 255, (height, width, channels)).astype(dtype)


def upscale(content, planned, auto):
    """Choose networks, upscale, and return the report with the choice."""
    chosen, choice = image_steps.choose(content, planned, auto)
    large, report = image_steps.upscale(content, planned, chosen)
    return large, replace(report, choice=choice)


def job(size_in=(24, 20), size_out=(96, 80)):
    return ImageJob("a.png", b"", None, "png", size_in, size_out, "auto")


@pytest.mark.parametrize("name", [CLEAN, DAMAGED, DRAWING])
def test_only_the_chosen_network_is_loaded_and_computes_the_image(name, loaded, chooser):
    chooser({name: 1.0}, "it is so")
    auto = AutoUpscaler(OPTIONS)
    assert loaded == []
    large, report = upscale(Image(noise()), job(), auto)
    assert loaded == [name]
    expected = auto.upscaler_for(Choice({name: 1.0}, "", False)).run(noise()).pixels
    np.testing.assert_array_equal(large.pixels, expected)
    assert (report.model, report.choice) == (name, Choice({name: 1.0}, "it is so", True))
    upscale(Image(noise()), job(), auto)
    assert loaded == [name]


def test_two_networks_are_averaged(loaded, chooser):
    weights = {CLEAN: 0.25, DAMAGED: 0.75}
    chooser(weights)
    auto = AutoUpscaler(OPTIONS)
    large, report = upscale(Image(noise()), job(), auto)
    assert report.model == f"{CLEAN} + {DAMAGED}" == chosen_names(report.choice)
    single = [auto.upscaler_for(Choice({name: 1.0}, "", False)) for name in weights]
    expected = sum(
        weight * upscaler.run(noise()).pixels.astype(float)
        for weight, upscaler in zip(weights.values(), single, strict=True)
    )
    assert np.abs(large.pixels - expected).max() <= 1


def test_alpha_and_colour_get_the_same_networks(loaded, chooser):
    decision = chooser({CLEAN: 1.0})
    large, _ = upscale(Image(noise(), noise()[..., 0]), job(), AutoUpscaler(OPTIONS))
    assert large.alpha.shape == (80, 96)
    assert (len(decision.samples), loaded) == (1, [CLEAN])


@pytest.mark.parametrize(
    ("fidelity", "weights"),
    [(0, {DAMAGED: 1}), (1, {CLEAN: 1}), (0.25, {CLEAN: 0.25, DAMAGED: 0.75})],
)
@pytest.mark.parametrize("normal_map", [False, True])
def test_a_fidelity_decides_instead_of_the_image(fidelity, weights, normal_map, loaded):
    auto = AutoUpscaler(replace(OPTIONS, fidelity=fidelity))
    choice = auto.choose_for(Image(noise()), TextureOptions(normal_map=normal_map))
    assert (choice.weights, choice.reason) == (weights, f"fidelity {fidelity:g}")
    assert loaded == []


def test_a_normal_map_is_not_looked_at(loaded, chooser):
    decision = chooser({CLEAN: 1.0})
    choice = AutoUpscaler(OPTIONS).choose_for(Image(noise()), TextureOptions(normal_map=True))
    assert (choice.weights, decision.samples) == ({DAMAGED: 1.0}, [])


@pytest.mark.parametrize("tta", [False, True])
def test_probes_run_the_named_network_without_averaging_turns(tta, loaded, monkeypatch):
    def choose(samples, probe):
        crop = samples[0].pixels[:8, :8]
        large = probe(CLEAN, crop)
        expected = Upscaler(models[CLEAN], device="cpu").run(crop).pixels
        np.testing.assert_array_equal(large, expected)
        probe(DAMAGED, crop)
        return Choice({DAMAGED: 1.0}, "probed", False)

    monkeypatch.setattr(selection, "choose", choose)
    auto = AutoUpscaler(replace(OPTIONS, tta=tta))
    models = auto._models
    auto._make(CLEAN, tta=False)
    auto.choose_for(Image(noise()))
    assert loaded == [CLEAN, DAMAGED]


def test_denoise_is_an_error_that_names_networks():
    with pytest.raises(UsageError, match=r"--denoise is not supported by auto; .*general-x4v3"):
        AutoUpscaler(replace(OPTIONS, denoise=0.5))


# --- samples ----------------------------------------------------------------------------------


def test_the_sample_of_an_image_has_its_pixels_and_quality():
    sample = image_sample(Image(noise(), origin=Origin("jpeg", quality=71)))
    np.testing.assert_array_equal(sample.pixels, noise())
    assert sample.quality == 71


def test_the_sample_of_an_image_without_colour_has_one_channel():
    grey = np.repeat(noise(channels=1), 3, 2)
    assert image_sample(Image(grey)).pixels.shape == (20, 24, 1)


def test_the_sample_of_linear_light_has_the_tone_curve_of_the_network():
    linear = Image(np.full((4, 4, 3), 0.2140, np.float32), metadata=Metadata(cicp=(1, 8)))
    np.testing.assert_allclose(image_sample(linear).pixels, 0.5, atol=1e-3)


def test_transparent_borders_are_left_out_and_colour_under_them_does_not_count():
    pixels, alpha = noise(), np.zeros((20, 24), np.uint8)
    alpha[5:9, 6:16] = 255
    alpha[6, 7] = 0
    pixels[6, 7] = 255
    sample = image_sample(Image(pixels, alpha)).pixels
    assert sample.shape == (4, 10, 3)
    np.testing.assert_array_equal(sample[0], pixels[5, 6:16])
    assert (sample[1, 1] < 255).all()
    assert image_sample(Image(pixels, alpha * 0)).pixels.shape == (20, 24, 3)


@pytest.mark.parametrize(
    ("count", "numbers"), [(1, [0]), (3, [0, 1, 2]), (80, [5, 15, 25, 35, 45, 55, 65, 75])]
)
def test_frames_are_spread_over_an_animation(count, numbers):
    frames = [Frame(Image(np.full((2, 2, 3), n, np.uint8)), Fraction(1)) for n in range(count)]
    sequence = ImageSequence(lambda: iter(frames), count, 0, True, "gif")
    assert [int(sample.pixels[0, 0, 0]) for sample in samples_of(sequence)] == numbers
    assert spread(range(count)) == numbers


def test_the_middle_of_large_pages_keeps_the_grid_of_blocks():
    wide = np.zeros((8, MOST_SIDE + 100, 1), np.uint8)
    wide[:, 48] = 1
    pages = ImageSequence(lambda: iter([Frame(Image(wide))]), 1, 0, False, "tiff")
    (sample,) = samples_of(pages)
    assert sample.pixels.shape == (8, MOST_SIDE, 1)
    assert sample.pixels[0, 0, 0] == 1


def test_an_animation_is_decided_once(loaded, chooser):
    decision = chooser({CLEAN: 1.0})
    frames = [Frame(Image(noise() // (n + 1)), Fraction(1, 10)) for n in range(3)]
    sequence = ImageSequence(lambda: iter(frames), 3, 0, True, "gif")
    large, report = upscale(sequence, job(), AutoUpscaler(OPTIONS))
    assert len(list(large.frames())) == 3
    assert [len(samples) for samples in decision.samples] == [3]
    assert (report.choice, loaded) == (decision.choice, [CLEAN])


# --- batches ----------------------------------------------------------------------------------


def test_images_of_a_folder_get_different_networks(data, tmp_path, loaded):
    scene = cv2.imread(str(data / "photos/scenes/city.webp"))
    scene = cv2.resize(scene, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "clean.png"), scene)
    cv2.imwrite(str(folder / "damaged.jpg"), scene, [cv2.IMWRITE_JPEG_QUALITY, 50])
    options = Options(output=OutputOptions(output=f"{tmp_path}/out/"), engine=OPTIONS)
    plan = make_plan([str(folder)], options, find_model_info("auto", True), bytes)
    results = run_batch(plan, options, {"cpu": lambda: AutoUpscaler(OPTIONS)}, lambda event: None)
    assert [result.status for result in results] == [Status.DONE, Status.DONE], results
    clean, damaged = results
    assert CLEAN in clean.choice.weights and clean.choice.is_clean
    assert clean.model == chosen_names(clean.choice)
    assert damaged.choice.weights == {DAMAGED: 1.0}
    assert "quality 50" in damaged.choice.reason and not damaged.choice.is_clean
    assert damaged.record()["choice"] == choice_record(damaged.choice)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 9, 1), (7, 2, 3), (16, 16, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiny_images_are_upscaled(shape, dtype, loaded):
    pixels = np.full(shape, 1, dtype)
    size = shape[1] * 4, shape[0] * 4
    large, report = upscale(Image(pixels), job(shape[1::-1], size), AutoUpscaler(OPTIONS))
    assert large.pixels.shape == (shape[0] * 4, shape[1] * 4, shape[2])
    assert sum(report.choice.weights.values()) == pytest.approx(1)


def test_a_choice_is_what_its_record_says():
    choice = Choice({CLEAN: 1 - 0.7, DAMAGED: 0.7}, "half of it", False)
    record = choice_record(choice)
    assert record == {
        "weights": {CLEAN: 0.3, DAMAGED: 0.7},
        "reason": "half of it",
        "clean": False,
    }
    assert choice_record(recorded_choice(record)) == record


@pytest.mark.parametrize(
    "change",
    [
        {"weights": None},
        {"weights": {}},
        {"weights": {CLEAN: "1"}},
        {"weights": {CLEAN: 0.5}},
        {"weights": {CLEAN: float("nan")}},
        {"weights": {CLEAN: 2.0, DAMAGED: -1.0}},
        {"weights": {"../../x.pth": 1.0}},
        {"reason": 5},
        {"clean": "yes"},
    ],
    ids=repr,
)
def test_a_record_that_no_run_wrote_is_no_choice(change):
    record = choice_record(Choice({CLEAN: 1.0}, "clean", True))
    assert recorded_choice(record) == Choice({CLEAN: 1.0}, "clean", True)
    assert recorded_choice({**record, **change}) is None


def test_the_digest_of_auto_depends_on_all_its_networks(monkeypatch, tmp_path):
    files = {name: tmp_path / name for name in auto_networks()}
    for path in files.values():
        path.write_bytes(b"weights")
    monkeypatch.setattr(
        "upscale.checkpoints.resolve",
        lambda name, denoise: SimpleNamespace(digest=files[name].read_text),
    )
    digests = {model_digest("auto")}
    for path in files.values():
        path.write_bytes(b"others")
        digests.add(model_digest("auto"))
    assert len(digests) == 4


# --- videos -----------------------------------------------------------------------------------


def test_samples_of_a_video_are_spread_over_it_in_rgb(tmp_path):
    video = probe(make_kind("vfr", tmp_path))
    samples = video_samples(video)
    assert len(samples) == 8
    assert all(sample.pixels.shape[:2] == (video.height, video.width) for sample in samples)
    assert all(sample.pixels.dtype == np.uint8 for sample in samples)
    assert len({sample.pixels.tobytes() for sample in samples}) == 8


def start(source, output, auto, warnings=None, progress=lambda *_: None):
    video = plan_video(
        source,
        output,
        lambda size: (size[0] * 2, size[1] * 2),
        VideoSettings(VideoEncoding("ffv1")),
    )
    warn = [].append if warnings is None else warnings.append
    return video, run_video(video, [auto], {"model": "auto"}, progress, warn)


def decoded(path):
    return [tuple(plane.tobytes() for plane in frame.planes) for frame in read_frames(probe(path))]


def test_a_resumed_video_keeps_its_networks(tmp_path, loaded, chooser, monkeypatch):
    monkeypatch.setattr("upscale.video.segments.SEGMENT_FRAMES", 8)
    source, whole, output = make_kind("vfr", tmp_path), tmp_path / "1.mkv", tmp_path / "2.mkv"
    decision, warnings = chooser({CLEAN: 0.3, DAMAGED: 0.7}, "so so"), []
    planned, report = start(source, whole, AutoUpscaler(OPTIONS), warnings)
    assert [len(samples) for samples in decision.samples] == [8]
    assert f"upscaling with {CLEAN} + {DAMAGED}: so so" in warnings
    record = video_record(source, whole, "auto", planned, report)
    assert record["model"] == f"{CLEAN} + {DAMAGED}"
    assert record["choice"] == choice_record(decision.choice)

    def interrupt(done, total):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(source, output, AutoUpscaler(OPTIONS), progress=interrupt)
    other = chooser({DRAWING: 1.0})
    _, report = start(source, output, AutoUpscaler(OPTIONS))
    assert report.resumed == 16 and other.samples == []
    assert report.choice.weights == {CLEAN: 0.3, DAMAGED: 0.7}
    assert decoded(output) == decoded(whole)
    assert DRAWING not in loaded


def test_all_devices_use_the_networks_of_the_first(tmp_path, loaded, chooser):
    decision = chooser({CLEAN: 1.0})
    video = plan_video(
        make_kind("vfr", tmp_path), tmp_path / "o.mkv", lambda size: size,
        VideoSettings(VideoEncoding("ffv1")),
    )  # fmt: skip
    upscalers = [AutoUpscaler(OPTIONS), AutoUpscaler(OPTIONS)]
    run_video(video, upscalers, {}, lambda *_: None, [].append)
    assert len(decision.samples) == 1 and loaded == [CLEAN, CLEAN]


def test_a_preview_shows_the_networks_of_the_whole_video(tmp_path, loaded, chooser):
    decision = chooser({CLEAN: 1.0})
    source, target = make_kind("vfr", tmp_path), tmp_path / "p.png"
    planned = plan_preview(source, target, lambda size: size, VideoSettings(), (Fraction(0),))
    report = run_preview(planned, AutoUpscaler(OPTIONS), lambda *_: None)
    assert [len(samples) for samples in decision.samples] == [8]
    assert preview_record(source, target, "auto", planned, report)["model"] == CLEAN
    assert read_image(target).width == planned.target.width


def test_one_tile_is_pinned_for_all_networks(loaded):
    auto = AutoUpscaler(replace(OPTIONS, tile="auto"))
    assert auto.resolve_tile(640, 480, 48) == 48
    mixed = auto.upscaler_for(Choice({CLEAN: 0.5, DAMAGED: 0.5}, "", False))
    assert mixed.resolve_tile(64, 64) == 48
    assert (auto.model_name, auto.model_scale, auto.device_name) == ("auto", 4, "cpu")
    assert (auto.precision_name, auto.kernels_name) == (
        "fp32",
        auto._upscaler(DAMAGED).kernels_name,
    )
    assert auto.available_kernels == auto._upscaler(DAMAGED).available_kernels
    assert mixed.resolve_kernels({"a card": []}) == {"a card": []}
