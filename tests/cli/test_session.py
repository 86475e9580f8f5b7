from __future__ import annotations

import json

from upscale.cli.session import OLD_KEYS, json_line


def test_renamed_json_keys_are_repeated_under_their_former_names():
    record = {"kind": "mean", "images": 3, "values": {}}
    assert json.loads(json_line(record)) == record | {"pictures": 3}
    assert json.loads(json_line({"peak": {"copied": 1}}))["ceiling"] == {"copied": 1}
    assert json_line({"status": "done"}) == '{"status": "done"}'


def test_former_names_are_not_in_use_for_something_else():
    assert not set(OLD_KEYS) & set(OLD_KEYS.values())
