"""XMP packets as XML trees whose values are replaced or removed in place; other bytes stay.

A parser that writes the tree anew would change prefixes, padding and the form of properties.
Document types are rejected, so that no entity is ever expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"

# Those of Photoshop with a long history have some thousand elements.
_MAX_BYTES = 4 * 1024 * 1024
_MAX_ELEMENTS, _MAX_DEPTH = 20_000, 200
_START, _END = b"<packet>", b"</packet>"
_DECLARATION = re.compile(rb"<\?xml\s.*?\?>", re.DOTALL)
_TAG_NAME = re.compile(rb"<([^\s/>]+)")
_ATTRIBUTE = re.compile(rb"\s+([^\s=/>]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_TAG_END = re.compile(rb"\s*(/?)>")
# Fragments without declarations use the customary prefixes.
_CUSTOMARY = {"rdf": RDF, "tiff": TIFF, "exif": EXIF}
_SYNTAX = ("xmlns", "xml:")


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of an element.

    Attributes:
        name: Namespace and local name, joined.
        text: Value without entities.
        value: Positions of the value between its quotes.
        whole: Positions of the attribute with the space before it.
    """

    name: str
    text: str
    value: tuple[int, int]
    whole: tuple[int, int]


@dataclass(slots=True)
class Element:
    """An element of a packet.

    Attributes:
        name: Namespace and local name, joined.
        start: Position of its start tag.
        attributes: Attributes without declarations of namespaces.
        declarations: Declarations of namespaces; their text is the namespace.
        parent: The element around it; None for the packet.
        children: Elements in it.
        text: Characters directly in it.
        value: Positions of its content; empty for an empty tag.
        end: Position after its end tag.
    """

    name: str
    start: int
    attributes: list[Attribute]
    parent: Element | None
    children: list[Element] = field(default_factory=list["Element"])
    declarations: list[Attribute] = field(default_factory=list[Attribute])
    text: str = ""
    value: tuple[int, int] = (0, 0)
    end: int = 0

    @property
    def whole(self) -> tuple[int, int]:
        """Positions of the element with its tags."""
        return self.start, self.end


Property = Attribute | Element
"""A property of a structure, which RDF writes as an attribute or as an element."""


class XmpPacket:
    """A parsed packet and the changes to it.

    Args:
        data: The packet in UTF-8.

    Raises:
        ValueError: It is no XML, has a document type, or is extremely large.

    Example:
        >>> packet = XmpPacket(b'<rdf:Description tiff:Orientation="6"/>')
        >>> packet.set(packet.named(TIFF + "Orientation")[0], "1")
        >>> packet.changed()
        b'<rdf:Description tiff:Orientation="1"/>'
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > _MAX_BYTES:
            raise ValueError("the packet is too large")
        self._data = data
        self._changes: dict[tuple[int, int], bytes] = {}
        self.root = _Parser(data).root

    def elements(self, within: Element | None = None) -> Iterator[Element]:
        """Yield an element, by default the whole packet, and all in it, each before those in it."""
        waiting = [within or self.root]
        while waiting:
            element = waiting.pop()
            yield element
            waiting += reversed(element.children)

    def named(self, *names: str) -> list[Property]:
        """Return all properties with one of some names, wherever they are."""
        found: list[Property] = []
        for element in self.elements():
            if element.name in names:
                found.append(element)
            found += (attribute for attribute in element.attributes if attribute.name in names)
        return found

    def in_namespaces(self, *namespaces: str) -> list[Property]:
        """Return all properties whose names start with one of some namespaces."""
        found: list[Property] = []
        for element in self.elements():
            items = (element, *element.attributes)
            found += (item for item in items if item.name.startswith(namespaces))
        return found

    def structures(self) -> Iterator[dict[str, Property]]:
        """Yield the properties of each structure, by name."""
        for element in self.elements():
            yield {item.name: item for item in (*element.attributes, *element.children)}

    def properties_of(self, element: Element) -> dict[str, Property]:
        """Return the properties of the structure that an element contains, by name."""
        only = element.children[0] if len(element.children) == 1 else element
        inner = only if only.name == RDF + "Description" else element
        return {item.name: item for item in (*inner.attributes, *inner.children)}

    def set(self, item: Property, text: str) -> None:
        """Replace the value of a property; one that is unchanged keeps its bytes."""
        if item.text.strip() != text:
            self._changes[item.value] = escape(text, {'"': "&quot;", "'": "&apos;"}).encode()

    def remove(self, item: Property) -> None:
        """Remove a property."""
        self._changes[item.whole] = b""

    def remove_unused(self, *namespaces: str) -> None:
        """Remove the declarations of namespaces of which all properties were removed."""
        removed = {span for span, text in self._changes.items() if not text}
        used: set[str] = set()
        # Elements of which an ancestor was removed are not visited.
        waiting = [self.root]
        while waiting:
            element = waiting.pop()
            if element.whole in removed:
                continue
            attributes = (item for item in element.attributes if item.whole not in removed)
            for item in (element, *attributes):
                used |= {name for name in namespaces if item.name.startswith(name)}
            waiting += element.children
        for element in self.elements():
            for declaration in element.declarations:
                if declaration.text in namespaces and declaration.text not in used:
                    self.remove(declaration)

    def changed(self) -> bytes:
        """Return the packet with the changes."""
        parts: list[bytes] = []
        position = 0
        for (start, end), text in sorted(self._changes.items(), key=lambda item: item[0]):
            if start >= position:
                parts += (self._data[position:start], text)
                position = end
        return b"".join((*parts, self._data[position:]))


class _Parser:
    """Builds the tree; positions are those in the data."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._scopes = [_CUSTOMARY]
        self._count = 0
        self.root = self._current = Element("", 0, [], None)
        parser = self._parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        # The wrapper accepts fragments and padding; a document type inside it is an error.
        body = _DECLARATION.sub(lambda found: b" " * len(found[0]), data.rstrip(b"\0"), count=1)
        try:
            parser.Parse(_START + body + _END, True)
        except expat.ExpatError as error:
            raise ValueError("the packet is not XML") from error

    def _start(self, name: str, values: dict[str, str]) -> None:
        self._count += 1
        if self._count > _MAX_ELEMENTS or len(self._scopes) > _MAX_DEPTH:
            raise ValueError("the packet is too large")
        if self._count == 1:
            return
        start = self._parser.CurrentByteIndex - len(_START)
        scope = self._scopes[-1]
        declared = {key[6:]: text for key, text in values.items() if key.startswith("xmlns:")}
        self._scopes.append({**scope, **declared} if declared else scope)
        attributes, content, is_empty = self._tag(start, values)
        plain = [item for item in attributes if not item.name.startswith(_SYNTAX)]
        element = Element(self._full(name), start, plain, self._current)
        element.declarations = [item for item in attributes if item.name.startswith("xmlns:")]
        element.value = content, content
        element.end = content if is_empty else 0
        self._current.children.append(element)
        self._current = element

    def _tag(self, start: int, values: dict[str, str]) -> tuple[list[Attribute], int, bool]:
        """Return the attributes of a start tag, the position after it, and whether it is empty."""
        tag = _TAG_NAME.match(self._data, start)
        position = start if tag is None else tag.end()
        attributes: list[Attribute] = []
        while found := _ATTRIBUTE.match(self._data, position):
            position, key = found.end(), found[1].decode()
            value = found.span(2) if found[2] is not None else found.span(3)
            name = key if key.startswith(_SYNTAX) else self._full(key)
            attributes.append(Attribute(name, values[key], value, found.span()))
        end = _TAG_END.match(self._data, position)
        if end is None:
            raise ValueError("the packet is not XML")
        return attributes, end.end(), bool(end[1])

    def _end(self, name: str) -> None:
        del name
        element = self._current
        if element.parent is None:
            return
        self._scopes.pop()
        self._current = element.parent
        if not element.end:
            stop = self._parser.CurrentByteIndex - len(_START)
            element.value = element.value[0], stop
            element.end = self._data.index(b">", stop) + 1

    def _characters(self, text: str) -> None:
        self._current.text += text

    def _full(self, name: str) -> str:
        prefix, colon, local = name.partition(":")
        return self._scopes[-1].get(prefix, prefix + ":") + local if colon else name
