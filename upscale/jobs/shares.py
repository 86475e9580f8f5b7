"""The share of a shard in a plan: the same files, whatever other shards have already written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from upscale.files.identity import file_key
from upscale.files.printable import printable
from upscale.jobs.events import JobResult, Status, path_text
from upscale.jobs.image import ImageJob
from upscale.jobs.plan import Plan, uncomputed_result
from upscale.shards import Shard

Item = ImageJob | JobResult


def share_of(plan: Plan, shard: Shard) -> Plan:
    """Return the part of a plan that belongs to a shard.

    The inputs, sorted by name, are dealt to the shards one by one. An input that is the output of
    another one, because another shard has written it already, does not count: it is skipped by the
    shard of that other input.

    Args:
        plan: The whole plan, which each shard makes for itself.
        shard: The shard.
    """
    owners = _owners(plan)
    proper = [item for item in plan.items if _name(item) not in owners]
    places = {name: place for place, name in enumerate(sorted(map(_name, proper)))}
    items: list[Item] = []
    for item in plan.items:
        owner = owners.get(_name(item))
        if shard.has(places.get(_name(item) if owner is None else owner, 0)):
            items.append(item if owner is None else _skipped(item, owner))
    return replace(plan, items=tuple(items), elsewhere=len(plan.items) - len(items))


def _owners(plan: Plan) -> dict[str, str]:
    """Return the inputs that are outputs of other inputs, and those others."""
    outputs = {
        file_key(Path(output)): _name(item)
        for item in reversed(plan.items)
        if (output := _output(item)) not in (None, "-")
    }
    found = {_name(item): outputs.get(file_key(Path(_name(item)))) for item in plan.items}
    return {name: owner for name, owner in found.items() if owner is not None and owner != name}


def _name(item: Item) -> str:
    return item.label if isinstance(item, ImageJob) else item.input


def _output(item: Item) -> str | None:
    return path_text(item.target) if isinstance(item, ImageJob) else item.output


def _skipped(item: Item, owner: str) -> JobResult:
    result = uncomputed_result(item, Status.SKIPPED) if isinstance(item, ImageJob) else item
    note = f"is the output of {printable(owner)}"
    return replace(result, status=Status.SKIPPED, notes=(note,), error=None, trace=None)
