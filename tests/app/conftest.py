"""Applications with a tiny network, and clients of them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from upscale.app import watch
from upscale.app.application import Application
from upscale.app.uploads import UploadLimits
from upscale.app.workspace import Workspace


@pytest.fixture(scope="session")
def tiny(random_network, tmp_path_factory) -> Path:
    """A checkpoint of a network that is quick to run."""
    from upscale.checkpoints import write_safetensors
    from upscale.models import SRVGGSpec

    path = tmp_path_factory.mktemp("networks") / "tiny.safetensors"
    network = random_network(SRVGGSpec(4, features=8, convolutions=1))
    write_safetensors(network.state_dict(), path, {})
    return path


@pytest.fixture(scope="session")
def environ(tiny) -> dict[str, str]:
    """Environment in which the tiny network is the default."""
    return {"UPSCALE_CONFIG": "", "UPSCALE_MODEL": str(tiny), "UPSCALE_DEVICE": "cpu"}


@pytest.fixture
def make_application(environ, tmp_path):
    """Makes an application, which is closed after the test."""
    made: list[tuple[Application, Workspace]] = []

    def make(limits: UploadLimits | None = None, **more) -> Application:
        workspace = Workspace(tmp_path / "private")
        application = Application(
            workspace, environ, limits or UploadLimits(), **{"any_folder": True, **more}
        )
        made.append((application, workspace))
        return application

    yield make
    for application, workspace in made:
        application.close()
        workspace.close()


@pytest.fixture
def photo(data):
    """Writes a part of a real photo."""
    pixels = cv2.imread(str(data / "photos" / "kitten.webp"))

    def photo(path: Path, width: int = 24, height: int = 16) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels[300 : 300 + height, 480 : 480 + width])
        return path

    return photo


@pytest.fixture
def gate(monkeypatch):
    """Holds tasks at an event until the test lets them continue."""
    reached, released = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert released.wait(60)

    def install(name: str, is_reached) -> None:
        original = getattr(watch.Watch, name)

        def wrapped(self, *arguments):
            if is_reached(*arguments) and not released.is_set():
                hold()
            return original(self, *arguments)

        monkeypatch.setattr(watch.Watch, name, wrapped)

    install.reached, install.released = reached, released
    return install


def wait_for(condition, seconds: float = 120):
    """Wait until a function returns something true, and return it."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "never true"
        time.sleep(0.01)
    return value
