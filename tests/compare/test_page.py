from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files

from upscale.compare import ImageSet, Version, page_parts

HOSTILE = (
    "</script></template><img src=x onerror=alert(1)>\"'&<b>{{ sets }}{% endfor %} \u202e\ud800"
)
PNG = b"\x89PNG not really"


class Parsed(HTMLParser):
    """Elements with their attributes, and the text of the scripts and styles."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open in self.texts:
            self.texts[self._open][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def tags(self) -> list[str]:
        return [name for name, _ in self.elements]


def version(label: str = "a", content: bytes = PNG, **changes) -> Version:
    values = {"media_type": "image/png", "size": (4, 3), "note": ""} | changes
    return Version(label, content, **values)


def page(*sets: ImageSet, title: str = "title") -> Parsed:
    sets = sets or (ImageSet("one", (version("a"), version("b"))),)
    return Parsed(b"".join(page_parts(title, sets)).decode())


def test_images_are_embedded_in_order():
    small = version("small", b"\xff\xd8one", media_type="image/jpeg")
    large = version("large", bytes(range(256)), size=(8, 6), note="2 s")
    one = ImageSet("first", (small, large))
    other = ImageSet("second", (version("x"), version("y"), version("z")))
    parsed = page(one, other)
    assert [section["data-name"] for section in parsed.all("section")] == ["first", "second"]
    images = parsed.all("img")
    assert [image["alt"] for image in images] == ["small", "large", "x", "y", "z"]
    kind, _, encoded = images[1]["src"].partition(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(encoded, validate=True) == bytes(range(256))
    assert images[0]["src"].startswith("data:image/jpeg;base64,")
    assert (images[1]["width"], images[1]["height"], images[1]["data-note"]) == ("8", "6", "2 s")


def test_page_loads_no_external_resource():
    parsed = page()
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, name)
    for text in (*parsed.texts["script"], *parsed.texts["style"]):
        assert not re.search(r"https?:|//\w|@import|url\(|import\(|fetch\(|XMLHttp", text)
    assert {"link", "iframe", "object", "embed", "base"} & set(parsed.tags) <= {"link"}


def test_policy_allows_only_the_own_script_and_style():
    parsed = page()
    (policy,) = [m["content"] for m in parsed.all("meta") if "http-equiv" in m]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for tag in ("script", "style"):
        (text,) = parsed.texts[tag]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert directives.pop(f"{tag}-src") == f"'sha256-{digest}'"
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert parsed.tags.index("meta") < parsed.tags.index("style") < parsed.tags.index("script")
    for tag, attributes in parsed.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag


def test_texts_are_escaped():
    plain = page(ImageSet("one", (version("a"), version("b"))))
    hostile = page(
        ImageSet(HOSTILE, (version(HOSTILE, note=HOSTILE), version("b", media_type=HOSTILE))),
        title=HOSTILE,
    )
    assert hostile.tags == plain.tags
    assert hostile.texts["script"] == plain.texts["script"]
    shown = HOSTILE.replace("\ud800", "?")
    first = hostile.all("img")[0]
    assert (first["alt"], first["data-note"]) == (shown, shown)
    assert hostile.all("section")[0]["data-name"] == shown
    assert hostile.texts["title"] == [shown]


def test_sets_are_consumed_one_at_a_time():
    taken = []

    def sets():
        for name in "ab":
            taken.append(name)
            yield ImageSet(name, (version(), version()))

    parts = page_parts("title", sets())
    so_far = b""
    while b'data-name="a"' not in so_far:
        so_far += next(parts)
    assert taken == ["a"]
    assert b"".join(parts).endswith(b"</html>\n")
    assert taken == ["a", "b"]


def test_script_uses_existing_element_ids():
    parsed = page()
    ids = {attributes["id"] for _, attributes in parsed.elements if "id" in attributes}
    (script,) = parsed.texts["script"]
    assert set(re.findall(r'get\("([\w-]+)"\)', script)) <= ids
    assert len(re.findall(r'get\("', script)) > 20


def test_page_files_are_package_data():
    folder = files("upscale.compare")
    for name in ("page.html", "page.css", "page.js", "report.html", "report.css"):
        assert folder.joinpath(name).is_file()
