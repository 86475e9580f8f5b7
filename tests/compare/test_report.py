from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files

from upscale.compare import ImageSet, Table, Version, report_parts

HOSTILE = "</style><img src=x onerror=alert(1)>\"'&<b>{{ sets }}{% endfor %} \u202e\ud800"


class Parsed(HTMLParser):
    """Elements with their attributes, and all text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def version(label: str, content: bytes = b"\x89PNG", note: str = "") -> Version:
    return Version(label, content, "image/png", (4, 3), note)


def page(
    *sets: ImageSet, title="title", table=None, remarks=(), best=frozenset()
) -> tuple[str, Parsed]:
    table = table or Table(("mean", "A", "B"), [("x", "1", "2"), ("y", "3", "4")], best, "a note")
    text = b"".join(report_parts(title, table, sets, remarks)).decode()
    return text, Parsed(text)


def test_page_shows_scores_then_images_then_remarks():
    content = bytes(range(256))
    one = ImageSet("first", (version("a"), version("b", content, note="PSNR 30")))
    text, parsed = page(one, ImageSet("second", (version("c"),)), remarks=["said"])
    words = [word for word in map(str.strip, parsed.texts) if word]
    start = words.index("mean")
    assert words[start:] == [
        *("mean", "A", "B", "x", "1", "2", "y", "3", "4", "a note"),
        *("first", "a", "b", "PSNR 30", "second", "c", "said"),
    ]
    assert [image["alt"] for image in parsed.all("img")] == ["a", "b", "c"]
    assert {(image["width"], image["height"]) for image in parsed.all("img")} == {("4", "3")}
    _, _, data = parsed.all("img")[1]["src"].partition("base64,")
    assert base64.b64decode(data) == content
    assert text.startswith("<!doctype html>") and text.endswith("</html>\n")


def test_best_scores_are_highlighted():
    text, _ = page(best=frozenset({(0, 2), (1, 1)}))
    assert re.findall(r'<td class="best">(\w)</td>', text) == ["2", "3"]


def test_texts_are_escaped():
    table = Table((HOSTILE,), [(HOSTILE,)], note=HOSTILE)
    one = ImageSet(HOSTILE, (version(HOSTILE, note=HOSTILE),))
    _, parsed = page(one, title=HOSTILE, table=table, remarks=[HOSTILE])
    assert len(parsed.all("img")) == 1 and not parsed.all("b") and not parsed.all("script")
    assert len(parsed.all("style")) == 1
    shown = HOSTILE.replace("\ud800", "?")
    named = ("title", "h1", "th", "td", "p", "h2", "caption", "note", "li")
    assert "".join(parsed.texts).count(shown) == len(named)
    assert parsed.all("img")[0]["alt"] == shown


def test_policy_forbids_scripts_and_requests():
    text, parsed = page(ImageSet("one", (version("a"),)))
    [policy] = [m["content"] for m in parsed.all("meta") if "http-equiv" in m]
    style = files("upscale.compare").joinpath("report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert style in text
    assert not re.search(r"https?://", text)
    assert all(image["src"].startswith("data:") for image in parsed.all("img"))


def test_sets_are_consumed_one_at_a_time():
    consumed = []

    def sets():
        for name in "abc":
            consumed.append(name)
            yield ImageSet(name, (version(name),))

    parts = report_parts("title", Table((), []), sets())
    assert next(parts) and not consumed
    received = b""
    while b"<h2><bdi>a" not in received:
        received += next(parts)
    assert consumed == ["a"]
    assert b"".join(parts).endswith(b"</html>\n")
    assert consumed == ["a", "b", "c"]
