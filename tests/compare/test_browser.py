"""The page in a real browser, driven by a script that is added to a copy of it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import browser
from upscale.compare import ImageSet, Version, page_parts

TIMEOUT = 300
"""Seconds to wait for the browser."""

pytestmark = pytest.mark.skipif(not browser.BROWSER, reason="no Chromium is installed")

DRIVER = """
(async () => {
  const get = (id) => document.getElementById(id);
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const settle = async () => {
    while (get("viewer").getAttribute("aria-busy") !== "false") await frame();
    await frame();
  };
  const key = (key, more = {}, target = document.body) => target.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
  const at = (x, y) => {
    const box = get("viewer").getBoundingClientRect();
    return { clientX: box.left + x * box.width, clientY: box.top + y * box.height };
  };
  const pointer = (type, x, y, more = {}) => {
    const where = at(x, y);
    const target = document.elementFromPoint(where.clientX, where.clientY) ?? document.body;
    target.dispatchEvent(new PointerEvent(`pointer${type}`, {
      bubbles: true, cancelable: true, pointerId: 1, pointerType: "mouse", button: 0,
      ...where, ...more }));
  };
  const drag = (from, to, more = {}) => {
    pointer("down", ...from, more);
    pointer("move", (from[0] + to[0]) / 2, (from[1] + to[1]) / 2, more);
    pointer("move", ...to, more);
    pointer("up", ...to, more);
  };
  const image = (side) => {
    const image = get(side).querySelector("img");
    const box = image.getBoundingClientRect(), viewer = get("viewer").getBoundingClientRect();
    return { label: image.alt, left: box.left - viewer.left, top: box.top - viewer.top,
             width: box.width, height: box.height, rendering: image.style.imageRendering,
             fit: image.style.objectFit, natural: image.naturalWidth };
  };
  const room = () => get("viewer").getBoundingClientRect();
  const split = () => Number(get("slider").getAttribute("aria-valuenow"));
  const seen = {};
  try { await settle(); STEPS } catch (error) { window.problems.push(String(error.stack)); }
  await fetch("SERVER/done", { method: "POST", mode: "no-cors",
                               body: JSON.stringify({ seen, problems: window.problems }) });
})();
"""
WATCH = """
window.problems = [];
for (const kind of ["error", "unhandledrejection", "securitypolicyviolation"])
  addEventListener(kind, (event) => problems.push(
    `${kind}: ${event.message ?? event.reason ?? event.violatedDirective}`));
"""


@dataclass
class Visit:
    """The report of a script; the load event waits for it, and a screenshot for the load event."""

    report: dict = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)


@contextmanager
def listening(visit: Visit):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            visit.report = json.loads(self.rfile.read(length))
            visit.done.set()
            self.answer()

        def do_GET(self):
            visit.done.wait(TIMEOUT)
            self.answer()

        def answer(self):
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        visit.done.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def browse(tmp_path):
    """Return a function that opens a file in the browser and returns its document as text."""

    def browse(path: Path, *flags: str) -> str:
        arguments = ("--window-size=900,700", *(flags or ("--dump-dom",)), path.as_uri())
        command = browser.command(tmp_path / "profile", *arguments)
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return browse


@pytest.fixture
def drive(tmp_path, browse):
    """Return a function that runs steps in a copy of a page and returns what they recorded."""

    def drive(page: bytes, steps: str, *flags: str, shot: bool = False):
        visit = Visit()
        with listening(visit) as server:
            path = tmp_path / "driven.html"
            path.write_text(_with_driver(page.decode(), steps, server), encoding="utf-8")
            target = tmp_path / "shot.png"
            browse(path, *flags, f"--screenshot={target}" if shot else "--dump-dom")
        assert visit.report, "the script did not finish"
        assert visit.report["problems"] == []
        return (visit.report["seen"], cv2.imread(str(target))) if shot else visit.report["seen"]

    return drive


def _with_driver(page: str, steps: str, server: str) -> str:
    driver = DRIVER.replace("STEPS", steps).replace("SERVER", server)
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (WATCH, driver)
    )
    assert page.count("script-src ") == page.count("img-src data:") == 1
    page = page.replace("script-src ", f"connect-src {server}; script-src {hashes} ")
    page = page.replace("img-src data:", f"img-src data: {server}")
    page = page.replace("<style>", f"<script>{WATCH}</script><style>", 1)
    return page.replace(
        "</body>", f'<img src="{server}/wait" hidden><script>{driver}</script></body>'
    )


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def version(pixels: np.ndarray, label: str, note: str = "") -> Version:
    content = cv2.imencode(".png", pixels)[1].tobytes()
    return Version(label, content, "image/png", (pixels.shape[1], pixels.shape[0]), note)


def page(*sets: ImageSet, title: str = "title") -> bytes:
    return b"".join(page_parts(title, sets))


def pair(width: int = 400, height: int = 300, name: str = "one") -> ImageSet:
    small = version(noise(width // 4, height // 4), f"{name} before")
    return ImageSet(name, (small, version(noise(width, height, 1), f"{name} after")))


def several(name: str = "many") -> ImageSet:
    return ImageSet(
        name,
        tuple(version(noise(40, 30, i), f"v{i}", f"{i} s") for i in range(4)),
    )


def test_page_runs_under_its_own_policy(tmp_path, browse):
    path = tmp_path / "page.html"
    path.write_bytes(page(pair()))
    text = browse(path)
    assert 'aria-valuetext="50 % one before"' in text
    assert "100 × 75" in text


def test_policy_blocks_foreign_scripts(tmp_path, browse):
    path = tmp_path / "page.html"
    foreign = b'<script>document.title = "taken"</script><p onclick="">x</p></body>'
    path.write_bytes(page(pair()).replace(b"</body>", foreign))
    text = browse(path)
    assert "<title>title</title>" in text
    assert "aria-valuetext" in text


@pytest.mark.parametrize("kind", ["mouse", "touch", "pen"])
def test_line_follows_the_pointer(kind, drive):
    steps = """
      const line = get("slider").getBoundingClientRect();
      const middle = (line.left + line.width / 2) / room().width;
      drag([middle, 0.2], [0.6, 0.9], { pointerType: KIND }); seen.dragged = split();
      drag([0.4, 0.5], [0.4, 0.5], { pointerType: KIND }); seen.clicked = split();
      drag([0.4, 0.5], [2, 0.5], { pointerType: KIND }); seen.outside = split();
      pointer("move", 0.3, 0.5, { pointerType: KIND }); seen.released = split();
      drag([0.5, 0.5], [0.3, 0.5], { pointerType: KIND, button: 2 }); seen.other = split();
      seen.image = image("right"); seen.room = room().width;
    """.replace("KIND", f'"{kind}"')
    seen = drive(page(pair()), steps)
    room, left = seen["room"], seen["image"]["left"]
    width = seen["image"]["width"]
    assert seen["dragged"] == pytest.approx(100 * (0.6 * room - left) / width, abs=1)
    assert seen["clicked"] == pytest.approx(100 * (0.4 * room - left) / width, abs=1)
    assert seen["outside"] == seen["released"] == seen["other"] == 100


def test_keys_move_the_line_and_switch_sides(drive):
    steps = """
      const press = (...keys) => { for (const one of keys) key(one); return split(); };
      const away = () => ["left", "right"].filter((side) => get(`${side}-label`).matches(".away"));
      seen.right = press("ArrowRight"); seen.left = press("ArrowLeft", "ArrowLeft");
      seen.far = press("PageUp"); seen.home = press("Home"); seen.end = press("End", "ArrowRight");
      press("Escape"); seen.escape = split();
      seen.flips = [press(" "), away(), press(" "), away(), press(" "), press("Escape"), away()];
      key("ArrowUp"); seen.elsewhere = split();
      key("ArrowUp", {}, get("slider")); seen.up = split();
      key("ArrowRight", { ctrlKey: true }); seen.browsers = split();
      get("slider").focus(); seen.focus = document.activeElement.id;
    """
    seen = drive(page(pair()), steps)
    assert (seen["right"], seen["left"], seen["far"]) == (52, 48, 58)
    assert (seen["home"], seen["end"], seen["escape"]) == (0, 100, 58)
    assert seen["flips"] == [100, ["right"], 0, ["left"], 100, 58, []]
    assert (seen["elsewhere"], seen["up"], seen["browsers"]) == (58, 60, 60)
    assert seen["focus"] == "slider"


@pytest.mark.parametrize("ratio", [1, 1.5, 2])
def test_zoom_is_in_screen_pixels(ratio, drive):
    steps = """
      const pressed = () => document.querySelector("[data-zoom][aria-pressed=true]")?.dataset.zoom;
      seen.ratio = devicePixelRatio;
      for (const zoom of ["1", "2", "0", "+", "-"]) {
        key(zoom);
        seen[zoom] = [image("left"), image("right"), get("zoom").textContent, pressed()];
      }
      document.querySelector("[data-zoom='2']").click(); seen.button = image("right").width;
      seen.room = [room().width, room().height];
    """
    seen = drive(page(pair(1600, 1200)), steps, f"--force-device-scale-factor={ratio}")
    assert seen["ratio"] == ratio
    for zoom in (1, 2):
        left, right, shown, pressed = seen[str(zoom)]
        assert right["width"] * ratio == pytest.approx(1600 * zoom, abs=0.1)
        assert right["height"] * ratio == pytest.approx(1200 * zoom, abs=0.1)
        assert [left[side] for side in ("left", "top", "width", "height")] == [
            right[side] for side in ("left", "top", "width", "height")
        ]
        assert (shown, pressed) == (f"{zoom * 100} %", str(zoom))
    fitted = seen["0"][1]
    room = seen["room"]
    assert max(fitted["width"] / room[0], fitted["height"] / room[1]) == pytest.approx(1, abs=0.01)
    assert seen["0"][3] == "fit"
    assert seen["+"][1]["width"] > fitted["width"]
    assert seen["button"] * ratio == pytest.approx(3200, abs=0.1)


def test_small_image_is_fitted_by_a_whole_number(drive):
    seen = drive(page(pair(160, 120)), 'seen.width = image("right").width;')
    assert seen["width"] % 160 == 0
    assert seen["width"] > 160


def test_pixels_are_interpolated_only_with_smooth(drive):
    steps = """
      const now = () => [image("left").rendering, image("right").rendering];
      key("1"); seen.one = now(); key("2"); seen.two = now();
      key("s"); seen.smooth = [...now(), get("smooth").getAttribute("aria-pressed")];
      get("smooth").click(); seen.again = now();
    """
    seen = drive(page(pair(1600, 1200)), steps)
    assert seen["one"] == ["pixelated", "auto"]
    assert seen["two"] == ["pixelated", "pixelated"]
    assert seen["smooth"] == ["auto", "auto", "true"]
    assert seen["again"] == ["pixelated", "pixelated"]


def test_image_larger_than_the_window_is_panned(drive):
    steps = """
      key("2"); const start = image("right");
      drag([0.3, 0.3], [0.2, 0.25]); seen.dragged = image("right");
      seen.split = split();
      drag([(get("slider").getBoundingClientRect().left + 22) / room().width, 0.3], [0.9, 0.3]);
      seen.line = [split(), image("right")];
      key("ArrowLeft", { shiftKey: true }); seen.key = image("right").left;
      for (let i = 0; i < 99; i += 1) drag([0.1, 0.1], [0.7, 0.8]);
      seen.corner = image("right");
      seen.start = start; seen.room = [room().width, room().height];
    """
    seen = drive(page(pair(1600, 1200)), steps)
    start, dragged, room = seen["start"], seen["dragged"], seen["room"]
    assert dragged["left"] - start["left"] == pytest.approx(-0.1 * room[0], abs=1)
    assert dragged["top"] - start["top"] == pytest.approx(-0.05 * room[1], abs=1)
    assert seen["split"] == 50
    assert seen["line"][0] == pytest.approx(90, abs=1)
    assert seen["line"][1]["left"] == dragged["left"]
    assert seen["key"] > dragged["left"]
    assert (seen["corner"]["left"], seen["corner"]["top"]) == pytest.approx((0, 0), abs=0.6)


def test_wheel_and_pinch_zoom_at_the_pointer(drive):
    steps = """
      const under = (x, y) => {
        const box = image("right");
        const across = x * room().width - box.left, down = y * room().height - box.top;
        return [across / box.width, down / box.height, box.width];
      };
      key("1"); seen.before = under(0.3, 0.4);
      get("viewer").dispatchEvent(new WheelEvent("wheel",
        { deltaY: -300, bubbles: true, cancelable: true, ...at(0.3, 0.4) }));
      seen.wheel = under(0.3, 0.4);
      key("1"); seen.untouched = under(0.5, 0.5);
      const touch = (id) => ({ pointerId: id, pointerType: "touch" });
      pointer("down", 0.4, 0.5, touch(1)); pointer("down", 0.6, 0.5, touch(2));
      pointer("move", 0.3, 0.5, touch(1)); pointer("move", 0.7, 0.5, touch(2));
      seen.pinch = under(0.5, 0.5); seen.split = split();
      pointer("up", 0.3, 0.5, touch(1)); pointer("up", 0.7, 0.5, touch(2));
    """
    seen = drive(page(pair(1600, 1200)), steps)
    assert seen["wheel"][2] > seen["before"][2] * 1.5
    assert seen["wheel"][:2] == pytest.approx(seen["before"][:2], abs=0.003)
    assert seen["pinch"][2] == pytest.approx(seen["untouched"][2] * 2, rel=0.01)
    assert seen["pinch"][:2] == pytest.approx(seen["untouched"][:2], abs=0.003)
    assert seen["split"] == 50


def test_gallery_is_browsed_by_keys_and_thumbnails(drive):
    steps = """
      const now = () => [get("position").textContent, image("left").label];
      const buttons = [...document.querySelectorAll("#gallery button")];
      const current = () => buttons.findIndex((one) => one.getAttribute("aria-current") === "true");
      seen.walk = [];
      for (const one of ["p", "n", "j", "n", "k", "p", "k"]) {
        key(one); await settle(); seen.walk.push(now());
      }
      buttons[2].click(); await settle(); seen.thumbnail = [...now(), current()];
      seen.names = buttons.map((one) => one.textContent);
      seen.ends = [get("previous").disabled, get("next").disabled];
    """
    seen = drive(page(pair(name="a"), pair(name="b"), pair(name="c")), steps)
    order = ["a", "b", "c", "c", "b", "a", "a"]
    assert [where for where, _ in seen["walk"]] == [f"{'abc'.index(x) + 1} / 3" for x in order]
    assert [label for _, label in seen["walk"]] == [f"{x} before" for x in order]
    assert seen["thumbnail"] == ["3 / 3", "c before", 2]
    assert seen["names"] == ["a", "b", "c"]
    assert seen["ends"] == [False, True]


def test_single_pair_has_no_gallery_and_no_choosers(drive):
    steps = """
      seen.hidden = ["#gallery", "#steps", "#left-label select"].map((selector) =>
        getComputedStyle(document.querySelector(selector)).display === "none");
      seen.text = get("right-label").innerText;
    """
    seen = drive(page(pair()), steps)
    assert seen["hidden"] == [True, True, True]
    assert seen["text"].split() == ["one", "after", "400", "×", "300"]


def test_each_side_can_show_any_of_several_versions(drive):
    steps = """
      const now = () => [image("left").label, image("right").label];
      const select = document.querySelector("#left-label select");
      seen.first = now();
      seen.choices = [...select.options].map((one) => one.text);
      select.value = "2"; select.dispatchEvent(new Event("change", { bubbles: true }));
      await settle(); seen.chosen = [...now(), document.querySelector(".facts").textContent];
      key("r"); await settle(); key("r"); await settle(); seen.right = now();
      key("r"); await settle(); seen.round = now();
      key(" "); key("r"); await settle(); seen.shown = [...now(), split()];
      key("n"); await settle(); seen.kept = now();
    """
    seen = drive(page(several(), several("other")), steps)
    assert seen["first"] == ["v0", "v1"]
    assert seen["choices"] == ["v0", "v1", "v2", "v3"]
    assert seen["chosen"] == ["v2", "v1", "40 × 30 · 2 s"]
    assert seen["right"] == ["v2", "v3"]
    assert seen["round"] == ["v2", "v0"]
    assert seen["shown"] == ["v2", "v1", 0]
    assert seen["kept"] == ["v2", "v1"]


def test_keys_are_disabled_while_the_help_is_open(drive):
    steps = """
      const dialog = get("keys");
      key("?"); seen.open = dialog.open; key("ArrowRight"); seen.split = split();
      key("?"); seen.closed = !dialog.open; get("help").click(); seen.button = dialog.open;
    """
    seen = drive(page(pair()), steps)
    assert seen == {"open": True, "split": 50, "closed": True, "button": True}


def test_space_activates_a_focused_button(drive):
    seen = drive(page(pair()), 'key(" ", {}, get("help")); seen.split = split();')
    assert seen["split"] == 50


def test_controls_are_named_and_focusable(drive):
    steps = """
      const usable = document.querySelectorAll("button, select, [role=slider]");
      seen.nameless = [...usable].filter((one) => !(one.ariaLabel || one.textContent.trim()));
      seen.unreachable = [...usable].filter((one) => one.tabIndex < 0);
      seen.slider = ["role", "aria-valuemin", "aria-valuemax", "aria-valuenow", "aria-valuetext"]
        .map((name) => get("slider").getAttribute(name));
    """
    seen = drive(page(several(), pair()), steps)
    assert seen["nameless"] == seen["unreachable"] == []
    assert seen["slider"] == ["slider", "0", "100", "50", "50 % v0"]


def test_hostile_names_are_shown_as_text(drive):
    name = "</script><img src=x onerror=\"document.title='taken'\">&amp;"
    one = ImageSet(name, (version(noise(8, 6), name, name), version(noise(8, 6), "b")))
    steps = """
      seen.title = document.title; seen.name = document.querySelector(".name").textContent;
      seen.facts = document.querySelector(".facts").textContent;
      seen.images = document.querySelectorAll("#labels img, header img").length;
      seen.thumbnail = document.querySelector("#gallery button").textContent;
    """
    seen = drive(page(one, pair(), title=name), steps)
    assert (seen["title"], seen["name"], seen["thumbnail"]) == (name, name, name)
    assert seen["facts"] == f"8 × 6 · {name}"
    assert seen["images"] == 0


def test_images_of_another_aspect_ratio_are_not_distorted(drive):
    one = ImageSet("x", (version(noise(33, 25), "a"), version(noise(132, 99), "b")))
    other = ImageSet("y", (version(noise(30, 30), "a"), version(noise(132, 99), "b")))
    steps = """
      seen.rounded = image("left").fit;
      key("n"); await settle(); seen.other = image("left").fit;
    """
    assert drive(page(one, other), steps) == {"rounded": "fill", "other": "contain"}


def test_image_that_the_browser_cannot_display_is_named(drive):
    broken = Version("broken.jpg", b"\xff\xd8\xff nothing", "image/jpeg", (40, 30))
    one = ImageSet("x", (broken, version(noise(40, 30), "b")))
    seen = drive(
        page(one), 'seen.report = get("problem").textContent; seen.right = image("right");'
    )
    assert seen["report"] == "broken.jpg: this browser cannot display it"
    assert seen["right"]["label"] == "b"


def best_match(shot: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the part of a screenshot that is most similar to the expected pixels."""
    scores = cv2.matchTemplate(shot, expected, cv2.TM_SQDIFF)
    _, _, (x, y), _ = cv2.minMaxLoc(scores)
    return shot[y : y + expected.shape[0], x : x + expected.shape[1]]


@pytest.mark.parametrize("ratio", [1, 1.25, 2])
@pytest.mark.parametrize("zoom", [1, 2])
@pytest.mark.parametrize("side", ["before", "after"])
def test_screenshot_contains_the_exact_pixels(ratio, zoom, side, drive):
    """Compare the values of the screenshot with those of the image, not only the style."""
    before = noise(60, 40).repeat(4, 0).repeat(4, 1)
    shown = {"before": before, "after": noise(240, 160, 1)}[side].repeat(zoom, 0).repeat(zoom, 1)
    steps = f'key("{zoom}"); key("{"End" if side == "before" else "Home"}"); await frame();'
    flag = f"--force-device-scale-factor={ratio}"
    _, shot = drive(page(pair(240, 160)), steps, flag, shot=True)
    margin = round(40 * ratio)  # the grip and its shadow
    inner = shown[:, margin:-margin]
    np.testing.assert_array_equal(best_match(shot, inner), inner)


def test_transparency_shows_a_chequerboard(drive):
    clear = np.zeros((160, 240, 4), np.uint8)
    one = ImageSet("x", (version(noise(240, 160), "noise"), version(clear, "clear")))
    _, shot = drive(page(one), 'key("1"); key("Home"); await frame();', shot=True)
    assert (shot.max(axis=2) == shot.min(axis=2)).all(), "nothing but grey"
    board = np.kron([[0, 1], [1, 0]], np.ones((8, 8))).astype(bool)
    dark, light = np.uint8(106), np.uint8(140)
    tile = np.where(np.tile(board, (4, 5)), light, dark)[..., None].repeat(3, 2)
    # the grip and its shadow are in the left half
    np.testing.assert_array_equal(best_match(shot[:, shot.shape[1] // 2 :], tile), tile)
