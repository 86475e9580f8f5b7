"""Videos on a cluster: on a stand-in for Ray in this process, and on a real one (slow)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event, Timer

import pytest

from tests.jobs import fake_ray
from tests.jobs.conftest import ROOT
from tests.jobs.test_video import LOSSLESS, Doubling, decoded, doubled
from tests.video.clips import make_kind
from upscale.checkpoints import write_safetensors
from upscale.errors import CheckpointError, DeviceError, MemoryExhaustedError
from upscale.jobs import cluster_pool, cluster_video
from upscale.jobs.cluster_video import ClusterVideo
from upscale.jobs.cluster_video_worker import VideoWorker
from upscale.jobs.video import VideoSettings, plan_video, run_video, run_video_on
from upscale.jobs.video_devices import network_identity
from upscale.models import SRVGGSpec
from upscale.options import EngineOptions, Options
from upscale.video import segments
from upscale.video.segments import folder_for

NODES = ("one", "two", "three")


class Fake(Doubling):
    """What workers load in place of a network."""

    precision_name, device_name, convolutions = "fp32", "cpu", "torch"

    def __init__(self, kernels="torch", **options):
        super().__init__(**options)
        self.available_kernels = kernels


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_FRAMES", 4)


@pytest.fixture
def source(tmp_path):
    return make_kind("vfr", tmp_path)  # 30 frames, so 8 segments


@pytest.fixture
def network(tmp_path, random_network):
    path = tmp_path / "net.safetensors"
    weights = random_network(SRVGGSpec(2, features=8, convolutions=1)).state_dict()
    write_safetensors(weights, path, {})
    return str(path)


@pytest.fixture
def options(network):
    return Options(engine=EngineOptions(model=network, device="cpu"))


@pytest.fixture
def whole(source, options, tmp_path):
    path = tmp_path / "whole.mkv"
    identity = network_identity([Fake()], options)
    run_video(job_of(source, path), [Fake()], identity, ignore, ignore)
    return path


@pytest.fixture
def fakes(monkeypatch):
    """Let workers load what a test puts into the list, the last one again and again."""
    made = [Fake]

    def make(engine):
        return (made.pop(0) if len(made) > 1 else made[0])()

    monkeypatch.setattr("upscale.jobs.cluster_video_worker.make_networks", make)
    return made


def ignore(*_):
    pass


def job_of(source, output, **settings):
    return plan_video(source, output, doubled, VideoSettings(LOSSLESS, **settings))


def run(source, output, options, *, note=ignore, progress=ignore, **cluster):
    settings = cluster.pop("settings", {})
    address, workers = cluster.pop("address", "auto"), cluster.pop("workers", None)
    devices = ClusterVideo(address, workers, options, note, **cluster)
    try:
        job = job_of(source, output, **settings)
        return run_video_on(devices, job, devices.identity, progress, note)
    finally:
        devices.close()


@pytest.mark.parametrize("steady", [0.0, 0.5])
def test_a_cluster_gives_the_frames_of_one_machine(
    source, options, tmp_path, monkeypatch, fakes, steady
):
    ray = fake_ray.install(monkeypatch, *NODES)
    steps, output, alone = [], tmp_path / "out.mkv", tmp_path / "alone.mkv"
    report = run(
        source,
        output,
        options,
        progress=lambda *step: steps.append(step),
        settings={"steady": steady},
    )
    expected = run_video(job_of(source, alone, steady=steady), [Fake()], {}, ignore, ignore)
    # A blended frame at the start of a segment needs the frame before it once more.
    assert report.frames == 30 and report.computed == expected.computed + (7 if steady else 0)
    assert steps[0] == (0, 30) and steps[-1] == (30, 30)
    assert [actor.most for actor in ray.actors] == [2, 2, 2]
    assert decoded(output) == decoded(alone)
    assert not folder_for(output).exists()


def test_a_local_run_is_resumed_on_a_cluster(source, whole, options, tmp_path, monkeypatch, fakes):
    fake_ray.install(monkeypatch, "one")
    output = tmp_path / "out.mkv"
    identity = network_identity([Fake()], options)
    stopping = Fake(fail_at=17, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_video(job_of(source, output), [stopping], identity, ignore, ignore)
    report = run(source, output, options)
    assert 0 < report.resumed < 30 and decoded(output) == decoded(whole)


def test_a_source_that_workers_do_not_see_is_sent_once(
    source, whole, options, tmp_path, monkeypatch, fakes
):
    ray = fake_ray.install(monkeypatch, *NODES)
    monkeypatch.setattr(cluster_video, "_CHUNK_BYTES", 1000)
    find = VideoWorker.find_source
    monkeypatch.setattr(VideoWorker, "find_source", lambda *each: find(*each) and False)
    output = tmp_path / "out.mkv"
    run(source, output, options)
    assert b"".join(ray.stored) == source.read_bytes() and len(ray.stored) > 2
    assert decoded(output) == decoded(whole)


def test_a_machine_with_other_kernels_is_named_before_the_first_frame(
    source, options, tmp_path, monkeypatch, fakes
):
    fake_ray.install(monkeypatch, *NODES)
    fakes[:] = [Fake, lambda: Fake("amx"), Fake]
    with pytest.raises(DeviceError, match=r"^\w+ has kernels amx, and the other workers torch: "):
        run(source, tmp_path / "out.mkv", options)
    assert not folder_for(tmp_path / "out.mkv").exists()


def test_a_machine_with_another_version_is_named(source, options, tmp_path, monkeypatch, fakes):
    fake_ray.install(monkeypatch, *NODES)
    prepare = VideoWorker.prepare
    monkeypatch.setattr(VideoWorker, "prepare", lambda each: prepare(each) | {"torch": "0.1"})
    with pytest.raises(DeviceError, match=r"^one has torch 0\.1, and this machine .*install the"):
        run(source, tmp_path / "out.mkv", options)


def test_a_machine_that_uses_another_tile_is_named(source, options, tmp_path, monkeypatch, fakes):
    class Stubborn(Fake):
        def resolve_tile(self, width, height, tile=None):
            return super().resolve_tile(width, height, 64 if tile else None)

    fake_ray.install(monkeypatch, *NODES)
    fakes[:] = [Stubborn]
    with pytest.raises(DeviceError, match=r"^\w+ cannot use the tile of the other workers"):
        run(source, tmp_path / "out.mkv", options)


def test_workers_that_do_not_start_end_the_run(source, options, tmp_path, monkeypatch, fakes):
    fake_ray.install(monkeypatch, *NODES)
    monkeypatch.setattr(cluster_pool, "_START_SECONDS", 0.1)
    free = Event()
    prepare = VideoWorker.prepare
    monkeypatch.setattr(VideoWorker, "prepare", lambda each: free.wait(60) and prepare(each))
    Timer(1, free.set).start()
    with pytest.raises(DeviceError, match="no worker has started within 0 s: see `ray status`"):
        run(source, tmp_path / "out.mkv", options)


def test_a_worker_that_cannot_start_is_not_waited_for_for_ever(
    source, whole, options, tmp_path, monkeypatch, fakes
):
    ray = fake_ray.install(monkeypatch, "one", "two")
    monkeypatch.setattr(cluster_video, "_GRACE_SECONDS", 0.1)
    free, output = Event(), tmp_path / "out.mkv"

    class Late(Fake):
        def __init__(self):
            super().__init__()
            free.wait(60)

    fakes[:] = [Fake, Late]
    steps = []

    def progress(done, total):
        steps.append(done)
        if done > 8:
            free.set()

    run(source, output, options, progress=progress)
    assert steps[0] == 0 and decoded(output) == decoded(whole)
    assert ray.actors[0].most == 2


def test_a_worker_that_dies_is_replaced_and_its_segments_are_repeated(
    source, whole, options, tmp_path, monkeypatch, fakes
):
    ray = fake_ray.install(monkeypatch, "one", "two")
    fakes[:] = [Fake, lambda: Fake(fail_at=6, error=fake_ray.DiedError()), Fake]
    steps, output = [], tmp_path / "out.mkv"
    run(source, output, options, progress=lambda *step: steps.append(step))
    assert len(ray.actors) == 3
    assert decoded(output) == decoded(whole) and steps[-1] == (30, 30)


def test_a_replacement_of_another_kind_is_left_out(
    source, whole, options, tmp_path, monkeypatch, fakes
):
    fake_ray.install(monkeypatch, "one", "two")
    fakes[:] = [Fake, lambda: Fake(fail_at=6, error=fake_ray.DiedError()), lambda: Fake("amx")]
    notes, output = [], tmp_path / "out.mkv"
    run(source, output, options, note=notes.append)
    assert any("is left out: it differs from the others in kernels" in note for note in notes)
    assert decoded(output) == decoded(whole)


def test_a_segment_that_kills_three_workers_ends_the_run_and_the_others_stay(
    source, whole, options, tmp_path, monkeypatch, fakes
):
    fake_ray.install(monkeypatch, "one", "two")
    compute = VideoWorker.compute

    def poisoned(worker, segment):
        if segment.number == 5:
            raise fake_ray.DiedError
        return compute(worker, segment)

    output = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(VideoWorker, "compute", poisoned)
        with pytest.raises(DeviceError, match=r"segment 5 of .*: 3 workers died while they had it"):
            run(source, output, options)
    assert not output.exists()
    report = run(source, output, options)
    assert report.resumed >= 12 and decoded(output) == decoded(whole)


def test_a_segment_that_arrives_damaged_is_computed_again(
    source, whole, options, tmp_path, monkeypatch, fakes
):
    fake_ray.install(monkeypatch, "one", "two")
    compute, damaged = VideoWorker.compute, []

    def damage(worker, segment):
        computed = compute(worker, segment)
        if segment.number == 3 and not damaged:
            damaged.append(segment)
            object.__setattr__(computed, "content", computed.content[:-9] + bytes(9))
        return computed

    monkeypatch.setattr(VideoWorker, "compute", damage)
    run(source, tmp_path / "out.mkv", options)
    assert damaged and decoded(tmp_path / "out.mkv") == decoded(whole)


@pytest.mark.parametrize("error", [MemoryExhaustedError("tile"), CheckpointError("damaged")])
def test_an_error_of_the_network_is_that_of_a_local_run(
    source, options, tmp_path, monkeypatch, fakes, error
):
    fake_ray.install(monkeypatch, "one")
    if isinstance(error, CheckpointError):

        def broken():
            raise error

        fakes[:] = [broken]
    else:
        fakes[:] = [lambda: Fake(fail_at=9, error=error)]
    with pytest.raises(type(error), match=str(error)):
        run(source, tmp_path / "out.mkv", options)


def test_workers_leave_no_temporary_files(source, options, tmp_path, monkeypatch, fakes):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    fake_ray.install(monkeypatch, *NODES)
    run(source, tmp_path / "out.mkv", options)
    assert {path.name for path in (tmp_path / "scratch").rglob("*") if path.is_file()} == {
        "guard.lock"
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.jobs.cluster_fakes import fatal_once
from tests.jobs.test_cluster_video import run
from upscale.options import EngineOptions, Options
from upscale.video import segments

def kill(done, total):
    if done > 20:
        os.kill(os.getpid(), signal.SIGKILL)

segments.SEGMENT_FRAMES = 4
source, output, network, address = sys.argv[1:]
options = Options(engine=EngineOptions(model=network, device="cpu"))
run(Path(source), Path(output), options, progress=kill, address=address, make=fatal_once)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="folders by their descriptors")
def test_a_killed_video_is_resumed_on_another_number_of_workers(
    cluster, second_node, source, options, tmp_path
):
    """Two workers, of which one dies; then one worker, which does not see the source."""
    from upscale.jobs.networks import make_networks

    whole, output = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    network = make_networks(options.engine)
    identity = network_identity([network], options)
    run_video(job_of(source, whole), [network], identity, ignore, ignore)
    command = [sys.executable, "-c", KILLED, source, output, options.engine.model, cluster.address]
    killed = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not output.exists()
    assert (Path(os.environ["CLUSTER_TEST_FOLDER"]) / "video").exists()
    descriptor = os.open(source.parent, os.O_RDONLY)
    hidden = Path(f"/proc/self/fd/{descriptor}") / source.name
    report = run(hidden, output, options, workers=1, address=cluster.address)
    os.close(descriptor)
    assert 0 < report.resumed < 30 and report.frames == 30
    assert decoded(output) == decoded(whole)
