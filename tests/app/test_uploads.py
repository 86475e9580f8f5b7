from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect

from upscale.app.uploads import UploadError, UploadLimits, UploadStore


def receive(store, name, *chunks, length=None):
    async def content():
        for chunk in chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    return asyncio.run(store.receive(name, length, content()))


@pytest.fixture
def store(tmp_path):
    return UploadStore(tmp_path, UploadLimits(files=3, file_bytes=10, total_bytes=16))


def test_a_file_keeps_its_content_its_name_and_the_place_in_its_folder(store):
    upload = receive(store, "holiday/sea/a.png", b"123", b"4567")
    assert upload.path.read_bytes() == b"1234567"
    assert (upload.folder, upload.name) == ("holiday", "holiday/sea/a.png")
    assert upload.path.relative_to(upload.root).as_posix() == "sea/a.png"
    assert store.get(upload.id) is upload


def test_a_file_that_is_too_large_leaves_nothing_whatever_length_it_announces(store, tmp_path):
    for length in (None, 3, 11):
        with pytest.raises(UploadError, match="larger than 10 bytes"):
            receive(store, "a.png", b"123456", b"789012", length=length)
    assert list(tmp_path.iterdir()) == []


def test_all_files_together_are_bounded_and_a_removed_one_makes_room(store, tmp_path):
    first = receive(store, "a.png", b"1234567890")
    with pytest.raises(UploadError, match="all files together"):
        receive(store, "b.png", b"1234567")
    store.remove(first.id)
    assert not first.root.exists()
    receive(store, "b.png", b"1234567890")
    receive(store, "c.png", b"123456")
    assert len(list(tmp_path.iterdir())) == 2


def test_the_number_of_files_is_bounded(store):
    for number in range(3):
        receive(store, f"{number}.png", b"1")
    with pytest.raises(UploadError, match="3 files"):
        receive(store, "more.png", b"1")


def test_an_upload_that_breaks_off_leaves_nothing(store, tmp_path):
    with pytest.raises(ClientDisconnect):
        receive(store, "a.png", b"1234", ClientDisconnect())
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        store.remove(receive(store, "b.png", b"1234567890").id)  # its bytes count no longer


def test_two_files_of_one_name_do_not_meet(store):
    assert receive(store, "a.png", b"1").path != receive(store, "a.png", b"2").path
