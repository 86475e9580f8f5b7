from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.jobs import ImageJob, ModelInfo, Status, make_plan, run_batch
from upscale.jobs.shares import share_of
from upscale.options import Options, OutputOptions, RunOptions
from upscale.shards import Shard

MODEL = ModelInfo("net", 2)


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path)
    return path


def plan_of(inputs, *, recursive=True, dry_run=False, **output):
    options = Options(
        output=OutputOptions(**output), run=RunOptions(recursive=recursive, dry_run=dry_run)
    )
    return make_plan([str(each) for each in inputs], options, MODEL, bytes), options


def names(plan):
    return [each.label if isinstance(each, ImageJob) else each.input for each in plan.items]


def test_sixteen_shards_of_a_thousand_files_cover_everything_once(tmp_path):
    first = image(tmp_path / "in" / "0" / "000.png")
    for number in range(1, 999):
        path = tmp_path / "in" / str(number % 7) / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(first, path)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    plan, _ = plan_of([tmp_path / "in"], output=f"{tmp_path / 'out'}/", dry_run=True)
    shares = [share_of(plan, Shard(number, 16)) for number in range(1, 17)]
    assert sorted(name for share in shares for name in names(share)) == sorted(names(plan))
    assert {len(share.items) for share in shares} == {62, 63}
    assert all(len(share.items) + share.elsewhere == 1000 for share in shares)


def test_a_share_does_not_depend_on_the_order_of_the_arguments(tmp_path):
    paths = [image(tmp_path / f"{number}.png") for number in range(7)]
    plan, _ = plan_of(paths, output=f"{tmp_path / 'out'}/")
    other, _ = plan_of(reversed(paths), output=f"{tmp_path / 'out'}/")
    for number in (1, 2, 3):
        mine, same = share_of(plan, Shard(number, 3)), share_of(other, Shard(number, 3))
        assert sorted(names(mine)) == sorted(names(same))


@pytest.mark.parametrize("skip_existing", [False, True])
@pytest.mark.parametrize("folder", ["out/", "in/out/"])
def test_a_share_does_not_depend_on_what_other_shards_wrote(
    folder, skip_existing, tmp_path, nearest
):
    for number in range(9):
        image(tmp_path / "in" / f"{number}.png")
    settings = {"output": str(tmp_path / folder) + "/", "skip_existing": skip_existing}
    expected = [names(share_of(plan_of([tmp_path / "in"], **settings)[0], Shard(n, 4))) for n in
                (1, 2, 3, 4)]  # fmt: skip
    done = []
    for number in (3, 1, 4, 2):
        plan, options = plan_of([tmp_path / "in"], **settings)
        share = share_of(plan, Shard(number, 4))
        assert names(share) == expected[number - 1]
        results = run_batch(share, options, {"cpu": nearest}, lambda event: None)
        assert {each.status for each in results} == {Status.DONE}
        done += [Path(each.input).name for each in results]
    assert sorted(done) == [f"{number}.png" for number in range(9)]


@pytest.mark.parametrize("skip_existing", [False, True])
def test_outputs_beside_the_inputs_are_skipped_and_do_not_count(skip_existing, tmp_path, nearest):
    for number in range(5):
        image(tmp_path / f"{number}.png")
    done = []
    for number in (2, 1):
        plan, options = plan_of(sorted(tmp_path.glob("*.png")), skip_existing=skip_existing)
        share = share_of(plan, Shard(number, 2))
        results = run_batch(share, options, {"cpu": nearest}, lambda event: None)
        done += [Path(each.input).name for each in results if each.status is Status.DONE]
        skipped = [each for each in results if each.status is Status.SKIPPED]
        assert len(results) == len(skipped) + (3, 2)[number - 1]
        assert all("is the output of" in each.notes[0] for each in skipped)
    assert sorted(done) == [f"{number}.png" for number in range(5)]
    assert len(list(tmp_path.iterdir())) == 10
