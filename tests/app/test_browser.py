"""The page in Chromium: drops, keys, a phone, light and dark, hostile names, a screen reader."""

from __future__ import annotations

import base64
import io
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from tests import browser
from tests.app.chromium import chromium
from tests.app.live import serving
from tests.video.clips import Clip, even, make
from upscale.app.application import Application
from upscale.app.uploads import UploadLimits
from upscale.app.workspace import Workspace

pytestmark = pytest.mark.skipif(not browser.BROWSER, reason="no Chromium is installed")

HOSTILE = '<img src=x onerror="document.title=`attacked`">&quot;\'"><script>document.title=1'
ALL_ENDED = """
  [...document.querySelectorAll('.task')].length > 0
  && !document.querySelector('.task progress:not([hidden])')
"""
COMPARE = """
  [...document.querySelectorAll('#tasks li button')]
    .find(each => !each.hidden && each.textContent === 'Compare').click()
"""
LUMINANCE = """
  (name) => {
    const probe = document.createElement('i');
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    const [r, g, b] = parts.map(part => part / 255)
      .map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  }
"""
COLOURS = ("--text", "--faint", "--accent", "--error", "--good")
BROKEN = b"\x89PNG\r\n\x1a\nbroken"


@pytest.fixture(scope="module")
def application(environ, tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("private") / "apps")
    application = Application(workspace, environ, UploadLimits(), any_folder=True)
    yield application
    application.close()
    workspace.close()


@pytest.fixture(scope="module")
def opened(application, tmp_path_factory):
    """The page in a browser, and the address that opens it."""
    profile = tmp_path_factory.mktemp("browser")
    with serving(application) as access, chromium(profile) as page:
        yield page, access.url


@pytest.fixture
def page(opened, application):
    """The page without files or tasks, on a large screen."""
    page, url = opened
    empty(application)
    page.screen(1240, 900)
    page.open(url)
    yield page
    assert page.problems == [], "neither errors nor violations of the policy"


def empty(application: Application) -> None:
    for task in application.queue.all():
        application.queue.remove(task)
    for upload in application.store.all():
        application.store.remove(upload.id)


def is_ready(number: int) -> str:
    text = f"Upscale {number} file{'s' * (number != 1)}"
    return f"document.querySelector('#start').textContent === '{text}'"


def pixels(shot: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(shot)).convert("L")).astype(float)


def test_a_dropped_folder_with_a_broken_image_is_upscaled_and_compared(page, photo, tmp_path):
    folder = tmp_path / "holiday"
    for name in ("1.png", "2.png", "sea/3.png", "sea/4.png"):
        photo(folder / name)
    (folder / "broken.png").write_bytes(BROKEN)
    page.drop("#drop", [folder])
    page.wait(is_ready(5))
    page.wait("document.querySelector('#command').textContent.includes('--recursive')")
    assert "token" not in page.run("location.href")
    page.run("document.querySelector('#start').click()")
    page.wait(ALL_ENDED)
    text = page.text()
    assert "some failed" in text
    assert "4 of 5 files" in text
    assert "holiday/broken.png: " in text
    page.run(COMPARE)
    page.wait("document.querySelector('#viewer iframe') && document.querySelector('#viewer').open")
    tree = page.wait_for_frame("comparison.html")
    assert ("slider", "Dividing line") in tree
    page.key("Escape")
    page.wait("!document.querySelector('#viewer').open")


def test_everything_can_be_done_with_the_keyboard(page, photo, tmp_path):
    page.choose("#file-input", [photo(tmp_path / "a.png"), photo(tmp_path / "b.png")])
    page.wait(is_ready(2))
    page.tab_to("#choose-files")
    page.tab_to("#staged li:nth-child(2) button")
    page.key("Enter")
    page.wait(is_ready(1))
    page.tab_to("#size-kind")
    page.key("End")
    page.tab_to("#size-value")
    page.type("40")
    page.tab_to("#start")
    page.wait("document.querySelector('#command').textContent.endsWith('--height 40')")
    page.key("Enter")
    page.wait("document.activeElement.id === 'queue'")
    page.wait(ALL_ENDED)
    assert "24x16 to 60x40" in page.text()
    page.tab_to("#tasks li li button")
    page.key("Enter")
    page.wait("document.querySelector('#viewer').open")
    page.key("Escape")
    page.wait("!document.querySelector('#viewer').open")
    page.tab_to("#tasks > li > .actions button[aria-label^=Remove]")
    page.key(" ")
    page.wait("!document.querySelector('.task')")


def test_a_screen_reader_meets_a_name_for_everything(page, photo, tmp_path):
    page.choose("#file-input", [photo(tmp_path / "a.png")])
    page.wait(is_ready(1))
    page.run("document.querySelector('#compare').open = true")
    names = page.names()
    controls = ("button", "combobox", "checkbox", "textbox", "spinbutton", "slider", "link")
    assert [role for role, name in names if role in controls and not name.strip()] == []
    for expected in (
        ("button", "Remove a.png"),
        ("combobox", "Network"),
        ("checkbox", "Restore faces"),
        ("heading", "Queue"),
        ("textbox", "Folder to save to"),
        ("list", "Files to upscale"),
    ):
        assert expected in names
    page.run("document.querySelector('#start').click()")
    page.wait("document.querySelector('#status').textContent.includes('done')")
    assert ("link", "Download a.png") in page.names()


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_nothing_is_cut_off_and_buttons_can_be_hit(page, photo, tmp_path, width):
    page.screen(width, 800, phone=True)
    page.choose("#file-input", [photo(tmp_path / f"{'long' * 12}.png")])
    page.wait(is_ready(1))
    page.run("document.querySelector('#start').click()")
    page.wait(ALL_ENDED)
    assert page.run("document.documentElement.scrollWidth") == width
    cut = page.run("""
      [...document.querySelectorAll('button, select, input, a.button')]
        .filter(e => e.offsetParent && !e.closest('dialog'))
        .map(e => [e.id || e.textContent, e.getBoundingClientRect()])
        .filter(([, box]) => box.right > innerWidth + 0.5 || box.left < 0
          || (box.height < 24 && box.width > 20))
        .map(([name]) => name)
    """)
    assert set(cut) <= {""}, "check boxes are in labels that can be hit"


def test_light_and_dark_follow_the_system_and_can_be_read(page):
    shots = {}
    for is_dark in (False, True):
        page.screen(900, 700, dark=is_dark)
        shots[is_dark] = pixels(page.shot())
        card, *others = (page.run(f"({LUMINANCE})('{name}')") for name in ("--card", *COLOURS))
        contrast = [(max(card, each) + 0.05) / (min(card, each) + 0.05) for each in others]
        assert min(contrast) >= 4.5, "as WCAG asks for"
    assert np.median(shots[False]) > 200
    assert np.median(shots[True]) < 60


def test_hostile_names_are_shown_as_text(page, application, photo, tmp_path):
    content = base64.b64encode(photo(tmp_path / "a.png").read_bytes()).decode()
    page.run(f"""
      (async () => {{
        const bytes = Uint8Array.from(atob({content!r}), char => char.charCodeAt(0));
        const transfer = new DataTransfer();
        for (const name of [{HOSTILE!r} + '.png', {HOSTILE!r} + '\\u202egnp.exe'])
          transfer.items.add(new File([bytes], name, {{ type: 'image/png' }}));
        const input = document.querySelector('#file-input');
        input.files = transfer.files;
        input.dispatchEvent(new Event('change'));
      }})()
    """)
    page.wait(is_ready(2))
    page.run("document.querySelector('#start').click()")
    page.wait(ALL_ENDED)
    assert "<img src=x onerror=" in page.text()
    assert page.run("document.title") == "upscale"
    assert page.run("document.querySelectorAll('img[src=x], main script').length") == 0
    page.run(COMPARE)
    tree = page.wait_for_frame("comparison.html")
    assert ("slider", "Dividing line") in tree
    assert page.run("document.title") == "upscale"


def test_a_comparison_cannot_use_the_server(page, application, photo, tmp_path):
    """It is in a sandbox: a script in it could neither read tasks nor start any."""
    page.choose("#file-input", [photo(tmp_path / "a.png")])
    page.wait(is_ready(1))
    page.run("document.querySelector('#start').click()")
    page.wait(ALL_ENDED)
    page.run(COMPARE)
    page.wait_for_frame("comparison.html")
    assert page.run("document.querySelector('#viewer iframe').contentDocument") is None


def test_a_video_is_cancelled_and_resumed(page, gate, tmp_path):
    make(Clip(even(40), size=(32, 24)), tmp_path / "clip.mp4")
    gate("frames", lambda done, total: done == 20)
    page.drop("#drop", [tmp_path / "clip.mp4"])
    page.wait(is_ready(1))
    page.run("document.querySelector('#start').click()")
    page.wait("document.querySelector('.task .facts')?.textContent.includes('frame 19 of 40')")
    page.run("document.querySelector('button[aria-label=\"Cancel: clip.mp4\"]').click()")
    page.wait("document.querySelector('.task .state').textContent === 'cancelling…'")
    gate.released.set()
    page.wait("document.querySelector('.task .state').textContent === 'cancelled'")
    page.run("document.querySelector('button[aria-label=\"Resume: clip.mp4\"]').click()")
    page.wait("document.querySelector('.task .state').textContent === 'done'")
    assert "40 frames in" in page.text()
    page.run(COMPARE)
    assert ("button", "Next image") in page.wait_for_frame("comparison.html")


def test_a_comparison_of_networks_opens_when_it_is_ready(page, photo, tmp_path, tiny):
    page.choose("#file-input", [photo(tmp_path / "a.png")])
    page.wait(is_ready(1))
    page.run("document.querySelector('#compare summary').click()")
    for name in (tiny, "realesr-animevideov3"):
        page.run(f"document.querySelector('#compared input[value=\"{name}\"]').click()")
    page.run("document.querySelector('#preview').click()")
    page.wait("document.querySelector('#viewer').open")
    page.wait_for_frame("comparison.html", frozenset({"input", "realesr-animevideov3"}))
    page.key("Escape")
    page.wait("!document.querySelector('#viewer').open")
    assert page.run("document.querySelector('#start').disabled") is False, "the file still waits"


EVIL = """<!doctype html><script>
  const tries = async () => {
    const target = 'TARGET', options = { method: 'POST', credentials: 'include' };
    const results = [];
    for (const mode of ['no-cors', 'cors']) {
      await fetch(`${target}/api/uploads?name=evil.png`, { ...options, mode, body: 'evil' })
        .then((answer) => results.push(answer.type), () => results.push('refused'));
    }
    await fetch(`${target}/api/tasks`, { credentials: 'include' })
      .then(() => results.push('read'), () => results.push('refused'));
    const form = document.createElement('form');
    Object.assign(form, { action: `${target}/api/previews`, method: 'post', target: 'frame' });
    document.body.append(form);
    form.submit();
    await new Promise((done) => setTimeout(done, 300));
    window.results = results;
  };
</script><body><iframe name="frame"></iframe><iframe id="app" src="TARGET/"></iframe>
<script>tries()</script>"""


def test_a_page_on_another_port_can_do_nothing(opened, application, tmp_path):
    """It is of the same site, so that the browser sends it the cookie, too."""
    page, url = opened
    empty(application)
    page.open(url)
    target = url.partition("/?")[0]
    (tmp_path / "evil.html").write_text(EVIL.replace("TARGET", target))
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/evil.html"
        page.send("Page.navigate", url=address)
        assert page.wait("window.results") == ["refused", "refused", "refused"]
        assert QuietHandler.cookies, "the browser did send the cookie"
        page.send("Page.navigate", url="about:blank")
        server.shutdown()
    assert application.store.all() == []
    assert application.queue.all() == []
    page.problems.clear()


class QuietHandler(SimpleHTTPRequestHandler):
    cookies: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.cookies.extend(self.headers.get_all("Cookie", []))
        super().do_GET()

    def log_message(self, *_) -> None:
        pass


def test_files_that_wait_and_tasks_survive_a_reload(page, opened, photo, tmp_path):
    page.choose("#file-input", [photo(tmp_path / "a.png")])
    page.wait(is_ready(1))
    page.run("document.querySelector('#start').click()")
    page.wait(ALL_ENDED)
    page.choose("#file-input", [photo(tmp_path / "b.png")])
    page.wait(is_ready(1))
    page.open(opened[1].partition("?")[0])
    page.wait(is_ready(1))
    assert "b.png" in page.run("document.querySelector('#staged').innerText")
    assert "a.png" in page.run("document.querySelector('#tasks').innerText")
