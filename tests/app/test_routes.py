"""The server in this process, with a tiny network."""

from __future__ import annotations

import io
import shutil
import threading
import zipfile
from pathlib import Path

import av
import cv2
import pytest
from starlette.testclient import TestClient

from tests.app.conftest import wait_for
from tests.app.live import TOKEN
from tests.video.clips import Clip, even, make
from upscale.app import watch
from upscale.app.routes import make_server
from upscale.app.security import Access
from upscale.app.uploads import UploadLimits


class Client:
    """A page without a browser."""

    def __init__(self, application) -> None:
        self.application = application
        server = make_server(application, Access(TOKEN, "127.0.0.1", 8000))
        self.http = TestClient(server, "http://127.0.0.1:8000")
        self.http.headers["Authorization"] = f"Bearer {TOKEN}"

    def upload(self, name: str, content: bytes | Path):
        if isinstance(content, Path):
            content = content.read_bytes()
        return self.http.post("/api/uploads", params={"name": name}, content=content)

    def post(self, path: str, **body):
        return self.http.post(path, json=body)

    def start(self, ids, path="/api/tasks", **settings) -> list[dict]:
        answer = self.post(path, settings=settings, uploads=ids)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def task(self, id: str) -> dict:
        return next(task for task in self.http.get("/api/tasks").json() if task["id"] == id)

    def ended(self, id: str) -> dict:
        wait_for(lambda: self.task(id)["state"] not in ("queued", "running"))
        return self.task(id)

    def result(self, file: dict) -> bytes:
        answer = self.http.get(f"/files/{file['id']}")
        assert answer.status_code == 200, answer.text
        return answer.content


@pytest.fixture
def client(make_application):
    return Client(make_application())


@pytest.fixture
def png(photo, tmp_path) -> bytes:
    return photo(tmp_path / "source.png").read_bytes()


def test_a_photo_is_upscaled_downloaded_compared_and_deleted(client, png, tmp_path):
    id = client.upload("my photo.png", png).json()["id"]
    (task,) = client.start([id], scale="2", format="jpg")
    assert task["command"] == "upscale 'my photo.png' --scale 2 --format jpg"
    task = client.ended(task["id"])
    assert (task["state"], task["progress"]["fraction"]) == ("done", 1.0)
    (file,) = task["files"]
    assert file["output"] == "my photo_x2.jpg"
    assert "24x16 to 48x32" in file["message"]
    answer = client.http.get(f"/files/{file['id']}")
    assert answer.headers["content-type"] == "image/jpeg"
    assert "attachment" in answer.headers["content-disposition"]
    (tmp_path / "result.jpg").write_bytes(answer.content)
    assert cv2.imread(str(tmp_path / "result.jpg")).shape == (32, 48, 3)

    page = client.http.get(f"/files/{file['id']}/comparison.html")
    assert "my photo.png" in page.text
    assert "sandbox allow-scripts;" in page.headers["content-security-policy"]

    assert client.http.get("/api/uploads").json() == [], "it is no longer waiting"
    assert client.http.delete(f"/api/uploads/{id}").status_code == 400, "its task needs it"
    assert client.http.delete(f"/api/tasks/{task['id']}").status_code == 204
    assert client.http.get(f"/files/{file['id']}").status_code == 404
    gone = client.http.get(f"/files/{file['id']}/comparison.html")
    assert (gone.status_code, gone.text) == (404, "there is no such file any more")
    assert not [p for p in (tmp_path / "private").rglob("*.*") if p.suffix in (".png", ".jpg")]


def test_of_a_folder_with_a_broken_image_the_others_are_done(client, photo, png, tmp_path):
    ids = [client.upload(f"holiday/{name}", png).json()["id"] for name in ("1.png", "sea/2.png")]
    ids.append(client.upload("holiday/broken.png", png[:60]).json()["id"])
    ids.append(client.upload("holiday/notes.txt", b"not an image").json()["id"])
    ids.append(client.upload("holiday/sea/1.png", png).json()["id"])
    (task,) = client.start(ids)
    assert task["command"] == "upscale ./holiday -o upscaled/ --recursive"
    task = client.ended(task["id"])
    states = {file["name"]: file["state"] for file in task["files"]}
    assert task["state"] == "some failed"
    assert states == {
        "holiday/1.png": "done",
        "holiday/sea/2.png": "done",
        "holiday/broken.png": "failed",
        "holiday/notes.txt": "ignored",
        "holiday/sea/1.png": "done",
    }
    broken = next(file for file in task["files"] if file["state"] == "failed")
    assert broken["message"].startswith("holiday/broken.png: "), "without the private path"
    archive = client.http.get(f"/tasks/{task['id']}/archive.zip").content
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        assert sorted(files.namelist()) == ["1.png", "sea/1.png", "sea/2.png"]
        assert files.testzip() is None


def test_results_are_saved_to_a_folder_and_never_over_a_file(client, png, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "a_x4.png").write_bytes(b"precious")
    ids = [client.upload(name, png).json()["id"] for name in ("a.png", "b.png")]
    (task,) = client.start(ids, folder=str(folder))
    task = client.ended(task["id"])
    assert [file["state"] for file in task["files"]] == ["failed", "done"]
    assert "already exists" in task["files"][0]["message"]
    assert (folder / "a_x4.png").read_bytes() == b"precious"
    client.http.delete(f"/api/tasks/{task['id']}")
    assert (folder / "b_x4.png").is_file(), "a saved result stays"
    (task,) = client.start(
        [client.upload("a.png", png).json()["id"]], folder=str(folder), existing="skip"
    )
    assert client.ended(task["id"])["files"][0]["state"] == "skipped"


def test_faces_are_looked_for(client, data, tmp_path):
    pixels = cv2.resize(cv2.imread(str(data / "photos/faces/girl.webp")), (64, 64))
    assert cv2.imwrite(str(tmp_path / "girl.png"), pixels)
    id = client.upload("girl.png", tmp_path / "girl.png").json()["id"]
    (task,) = client.start([id], scale="1", face=True, face_model="none")
    assert task["command"].endswith("--face --face-model none")
    (file,) = client.ended(task["id"])["files"]
    assert file["message"].endswith(", 1 face")


def test_a_texture_stays_seamless(client, png, tmp_path):
    ids = [client.upload(f"{name}.png", png).json()["id"] for name in ("plain", "tiles")]
    (plain,) = client.start(ids[:1], scale="2")
    (tiles,) = client.start(ids[1:], scale="2", seamless="xy")
    results = [client.result(client.ended(task["id"])["files"][0]) for task in (plain, tiles)]
    assert results[0] != results[1]


def test_a_cancelled_task_keeps_what_is_done_and_resumes_with_the_rest(client, png, gate):
    started = []

    def is_second(event) -> bool:
        started.extend([event] if isinstance(event, watch.Started) else [])
        return len(started) == 2

    gate("listen", is_second)
    ids = [client.upload(f"{number}.png", png).json()["id"] for number in range(3)]
    (task,) = client.start(ids, scale="2")
    (queued,) = client.start([client.upload("later.png", png).json()["id"]])
    assert gate.reached.wait(60)
    assert client.http.delete(f"/api/tasks/{task['id']}").status_code == 400, "it is running"
    assert client.post(f"/api/tasks/{queued['id']}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/api/tasks/{task['id']}/cancel").json()["is_cancelling"]
    gate.released.set()
    cancelled = client.ended(task["id"])
    assert cancelled["state"] == "cancelled"
    states = [file["state"] for file in cancelled["files"]]
    assert states[0] == "done"
    assert "waiting" in states
    first = client.result(cancelled["files"][0])
    computed = len(started)

    client.post(f"/api/tasks/{task['id']}/resume")
    done = client.ended(task["id"])
    assert done["state"] == "done"
    assert {file["state"] for file in done["files"]} == {"done"}
    assert client.result(done["files"][0]) == first
    assert len(started) - computed == states.count("waiting"), "finished images are not repeated"


def test_a_video_is_cancelled_and_resumed(client, tmp_path, gate):
    make(Clip(even(40), size=(32, 24)), tmp_path / "clip.mp4")
    gate("frames", lambda done, total: done == 20)
    upload = client.upload("clip.mp4", tmp_path / "clip.mp4").json()
    assert upload["is_video"]
    (task,) = client.start([upload["id"]], scale="2", container=".mkv")
    assert task["command"] == "upscale video clip.mp4 clip_x2.mkv --scale 2"
    assert gate.reached.wait(60)
    assert client.task(task["id"])["progress"]["fraction"] == pytest.approx(0.475)
    client.post(f"/api/tasks/{task['id']}/cancel")
    gate.released.set()
    cancelled = client.ended(task["id"])
    assert (cancelled["state"], cancelled["files"][0]["output"]) == ("cancelled", None)
    client.post(f"/api/tasks/{task['id']}/resume")
    done = client.ended(task["id"])
    assert done["state"] == "done", done
    (tmp_path / "result.mkv").write_bytes(client.result(done["files"][0]))
    with av.open(str(tmp_path / "result.mkv")) as video:
        frames = list(video.decode(video=0))
    assert (len(frames), frames[0].width) == (40, 64)
    page = client.http.get(f"/files/{done['files'][0]['id']}/comparison.html").text
    assert page.count("<section data-name=") == 3, "three frames before and after"


def test_a_video_in_a_folder_is_resumed_by_a_later_server(make_application, tmp_path, gate):
    make(Clip(even(130), size=(16, 16)), tmp_path / "clip.mp4")
    gate("frames", lambda done, total: done == 128)
    folder = tmp_path / "results"

    def start(client: Client) -> str:
        id = client.upload("clip.mp4", tmp_path / "clip.mp4").json()["id"]
        return client.start([id], scale="1", folder=str(folder))[0]["id"]

    first = Client(make_application())
    task = start(first)
    assert gate.reached.wait(60)
    first.post(f"/api/tasks/{task}/cancel")
    gate.released.set()
    assert first.ended(task)["state"] == "cancelled"
    assert not list(folder.glob("clip*"))
    second = Client(make_application())
    (file,) = second.ended(start(second))["files"]
    assert "130 frames in" in file["message"]
    assert "120 of them by an earlier run" in file["message"]
    assert (folder / "clip_x1.mp4").is_file()


def test_networks_are_compared_on_a_part_of_an_image(client, png, tiny):
    id = client.upload("photo.png", png).json()["id"]
    models = [str(tiny), "realesr-animevideov3"]
    (task,) = client.start([id], "/api/previews", models=models, scale="2")
    task = client.ended(task["id"])
    assert (task["state"], task["error"]) == ("done", "")
    assert task["command"] == f"upscale photo.png --models {','.join(models)} --crop auto --scale 2"
    page = client.http.get(f"/tasks/{task['id']}/comparison.html")
    assert page.text.count("<img alt=") == 3
    assert "/private/" not in page.text, "no path of this machine"
    assert client.http.get("/api/uploads").json()[0]["id"] == id, "the image is still waiting"
    (upscaled,) = client.start([id])
    client.ended(upscaled["id"])
    client.http.delete(f"/api/tasks/{upscaled['id']}")
    assert client.application.store.all() == [], "a finished comparison does not keep it"
    assert client.http.get(f"/tasks/{task['id']}/comparison.html").status_code == 200
    client.http.delete(f"/api/tasks/{task['id']}")
    id = client.upload("photo.png", png).json()["id"]
    answer = client.post("/api/previews", settings={"models": ["auto"]}, uploads=[id])
    assert answer.json() == {"error": "choose two or more networks to compare"}


def test_networks_are_compared_on_a_frame_of_a_video(client, tmp_path, tiny):
    make(Clip(even(3), size=(32, 24)), tmp_path / "clip.mp4")
    id = client.upload("clip.mp4", tmp_path / "clip.mp4").json()["id"]
    models = [str(tiny), "realesr-animevideov3"]
    (task,) = client.start([id], "/api/previews", models=models, scale="2")
    assert client.ended(task["id"])["state"] == "done"
    page = client.http.get(f"/tasks/{task['id']}/comparison.html").text
    assert page.count("<img alt=") == 3


def test_a_comparison_that_cannot_be_made_says_why(client, png, tiny):
    id = client.upload("photo.png", png[:60]).json()["id"]
    models = [str(tiny), "realesr-animevideov3"]
    (task,) = client.start([id], "/api/previews", models=models)
    task = client.ended(task["id"])
    assert task["state"] == "failed"
    assert task["error"].startswith("photo.png: ")


def test_uploads_are_bounded(make_application, tmp_path, png):
    client = Client(make_application(UploadLimits(files=2, file_bytes=100, total_bytes=150)))
    assert client.upload("a.png", b"1" * 101).status_code == 413
    assert client.upload("a.png", b"1" * 90).status_code == 201
    answer = client.upload("b.png", b"1" * 90)
    assert (answer.status_code, "all files together" in answer.json()["error"]) == (413, True)
    chunked = client.http.post("/api/uploads?name=c", content=iter([b"1" * 60] * 2))
    assert chunked.status_code == 413
    stored = [path for path in (tmp_path / "private").rglob("*") if path.is_file()]
    assert sorted(path.name for path in stored if path.suffix != ".lock") == ["a.png"]


@pytest.mark.parametrize(
    "path",
    [
        "/files/..%2F..%2Fetc%2Fpasswd",
        "/files/../../etc/passwd",
        "/tasks/..%2f..%2f/archive.zip",
        "/tasks/%2e%2e/comparison.html",
        "/api/uploads/..%2F..%2Fx",
    ],
)
def test_paths_lead_to_no_file(client, path):
    method = "DELETE" if path.startswith("/api") else "GET"
    assert client.http.request(method, path).status_code in (404, 405)


def test_a_name_that_leads_elsewhere_is_kept_inside(client, png, tmp_path):
    upload = client.upload("../../../evil.png", png).json()
    (task,) = client.start([upload["id"]])
    assert client.ended(task["id"])["state"] == "done"
    assert not list(tmp_path.parent.glob("evil*"))
    assert not list(tmp_path.glob("evil*"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"settings": {}, "uploads": []}, "there are no files"),
        ({"settings": {}, "uploads": ["x"]}, "no longer there"),
        ({"settings": {}, "uploads": "x"}, "is not a list"),
        ({"settings": {"scale": "many"}, "uploads": []}, "--scale: 'many' is not a number"),
        ({}, "is not an object"),
    ],
)
def test_an_impossible_request_is_refused_in_one_line(client, body, message):
    answer = client.http.post("/api/tasks", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_a_network_that_cannot_be_loaded_fails_the_task_and_it_can_be_tried_again(
    client, png, tiny, tmp_path
):
    moved = tmp_path / "moved.safetensors"
    shutil.move(tiny, moved)
    try:
        (task,) = client.start([client.upload("a.png", png).json()["id"]])
        task = client.ended(task["id"])
        assert task["state"] == "failed"
        assert tiny.name in task["error"]
    finally:
        shutil.move(moved, tiny)
    client.post(f"/api/tasks/{task['id']}/resume")
    assert client.ended(task["id"])["state"] == "done"


def test_the_page_is_offered_what_this_installation_has(client):
    config = client.http.get("/api/config").json()
    names = [model["name"] for model in config["models"]]
    assert "auto" in names
    assert "realsr-df2k" in names
    assert {"name": "png", "label": "PNG", "is_lossy": False} in config["formats"]


def test_closing_ends_a_running_task_and_leaves_complete_outputs_only(
    make_application, png, tmp_path, gate
):
    client = Client(make_application())
    gate("listen", lambda event: isinstance(event, watch.Started))
    folder = tmp_path / "results"
    client.start([client.upload("a.png", png).json()["id"]], folder=str(folder))
    assert gate.reached.wait(60)
    closing = threading.Thread(target=client.application.close)
    closing.start()
    wait_for(client.application.queue.all()[0].cancelling.is_set)
    gate.released.set()
    closing.join()
    assert not folder.exists() or [path.name for path in folder.iterdir()] in ([], ["a_x4.png"])
