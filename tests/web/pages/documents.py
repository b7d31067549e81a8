"""Parses a page as strictly as a browser is lenient: what a browser would repair is an error.

`html.parser` of the standard library splits the text into tags. This module accepts only elements
and attributes that pages may have, each closed, quoted and escaped, so text of a person that is not
escaped fails here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.entities import html5
from html.parser import HTMLParser

VOID = frozenset({"br", "input", "img", "link", "meta"})
PHRASING = frozenset(
    {
        *("a", "br", "button", "code", "img", "input", "label", "option", "select", "small"),
        *("span", "strong", "svg", "textarea", "time"),
    }
)
"""Elements that may be inside a paragraph."""
SVG = frozenset({"svg", "g", "path", "circle", "line", "rect"})
FLOW = frozenset(
    {
        *("body", "dd", "details", "div", "dl", "dt", "fieldset", "footer", "form", "h1", "h2"),
        *("header", "legend", "li", "main", "nav", "p", "pre", "section", "summary", "ul"),
        *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    }
)
ELEMENTS = PHRASING | FLOW | SVG | {"html", "head", "title", "meta", "link", "script", "optgroup"}
CHILDREN = {
    "ul": {"li"},
    "dl": {"dt", "dd", "div"},
    "select": {"option", "optgroup"},
    "optgroup": {"option"},
    "table": {"caption", "thead", "tbody"},
    "thead": {"tr"},
    "tbody": {"tr"},
    "tr": {"td", "th"},
    "head": {"title", "meta", "link", "script"},
    "html": {"head", "body"},
}
"""The only children of these elements."""
PARENTS = {
    "li": {"ul"},
    "dt": {"dl", "div"},
    "dd": {"dl", "div"},
    "option": {"select", "optgroup"},
    "optgroup": {"select"},
    "caption": {"table"},
    "thead": {"table"},
    "tbody": {"table"},
    "tr": {"thead", "tbody"},
    "th": {"tr"},
    "td": {"tr"},
    "line": {"svg"},
    "rect": {"svg"},
    "summary": {"details"},
    "legend": {"fieldset"},
    "body": {"html"},
    "head": {"html"},
    "title": {"head"},
    "meta": {"head"},
    "link": {"head"},
    "script": {"head"},
    "main": {"body"},
    "g": {"svg"},
    "path": {"svg", "g"},
    "circle": {"svg"},
}
NOT_WITHIN = {
    "a": {"a", "button", "summary"},
    "button": {"a", "button", "summary", "label"},
    "input": {"a", "button", "summary", "label"},
    "select": {"a", "button", "summary", "label"},
    "form": {"form"},
    "label": {"label", "a", "button"},
    "header": {"header", "footer", "main"},
    "footer": {"header", "footer", "main"},
}
"""Elements that must not be inside these."""
ATTRIBUTES = {
    "": "aria-current aria-describedby aria-hidden aria-invalid aria-label autofocus class hidden "
    "id lang role tabindex",
    "a": "download href",
    "button": "name type value",
    "circle": "cx cy r",
    "details": "open",
    "form": "action method",
    "img": "alt height src",
    "input": "autocapitalize autocomplete checked disabled inputmode max maxlength min name "
    "readonly required spellcheck type value",
    "label": "for",
    "link": "href rel",
    "line": "x1 x2 y1 y2",
    "meta": "charset content name",
    "optgroup": "label",
    "option": "selected value",
    "g": "transform",
    "path": "d fill stroke",
    "rect": "height width x y",
    "script": "src type",
    "select": "name",
    "svg": "fill height preserveaspectratio stroke stroke-linecap stroke-linejoin stroke-width "
    "viewbox width xmlns",
    "textarea": "autocomplete maxlength name required rows spellcheck",
    "th": "scope",
    "time": "datetime",
}
"""The attributes of all elements, and those of each. Further ones begin with `data-`."""
TYPES = frozenset({"checkbox", "date", "email", "hidden", "password", "radio", "text"})
_TAG = re.compile(r'<([a-z][a-z0-9]*)((?:\s+[a-zA-Z][a-zA-Z-]*(?:="[^"<>]*")?)*)\s*/?>', re.ASCII)
_NAME = re.compile(r'([a-zA-Z-]+)(?:="[^"]*")?\s*')
_REFERENCE = re.compile(r"&(#[0-9]{1,7};|#x[0-9a-fA-F]{1,6};|[a-zA-Z]+;)?")


@dataclass(eq=False)
class Element:
    """An element of a page."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    parent: "Element | None" = None
    children: "list[Element]" = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __getitem__(self, attribute: str) -> str:
        return self.attributes.get(attribute, "")

    def __contains__(self, attribute: str) -> bool:
        return attribute in self.attributes

    def __iter__(self) -> "Iterator[Element]":
        """This element and those below it, in the order of the page."""
        yield self
        for child in self.children:
            yield from child

    def all(self, *names: str) -> "Sequence[Element]":
        """The elements below with one of these names."""
        return [item for item in self if item.name in names]

    def above(self) -> "Iterator[Element]":
        """The elements that contain this one, the nearest first."""
        parent = self.parent
        while parent is not None:
            yield parent
            parent = parent.parent

    @property
    def text(self) -> str:
        """The text of the element and those below it, in which white space is one space."""
        parts = ("".join(item.texts) for item in self)
        return " ".join(" ".join(parts).split())

    @property
    def is_hidden(self) -> bool:
        return "hidden" in self or self["type"] == "hidden"


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.root = Element("")
        self.declarations: list[str] = []
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        text = self.get_starttag_text() or ""
        found = _TAG.fullmatch(text)
        assert found, f"malformed tag {text!r}"
        names = _NAME.findall(found[2])
        assert len(names) == len({name.lower() for name in names}), f"attribute twice: {text!r}"
        _check_references(text)
        element = Element(tag, {name: value or "" for name, value in attrs}, self._open[-1])
        _check_place(element)
        self._open[-1].children.append(element)
        self._open[-1].texts.append(" ")
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG, f"<{tag}/> stays open"
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].name == tag, f"</{tag}> closes <{self._open[-1].name}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        assert not re.search("[<&>]", data), f"not escaped: {data!r}"
        self._open[-1].texts.append(data)
        if data.strip():
            name = self._open[-1].name
            assert name not in {"", "html", "head", "ul", "dl", "select", "table", "tr"}, (
                f"text in <{name}>"
            )

    def handle_entityref(self, name: str) -> None:
        assert f"{name};" in html5, f"&{name};"
        self._open[-1].texts.append(html5[f"{name};"])

    def handle_charref(self, name: str) -> None:
        number = int(name[1:], 16) if name[:1] in "xX" else int(name)
        self._open[-1].texts.append(chr(number))

    def handle_decl(self, decl: str) -> None:
        assert not self.root.children
        self.declarations.append(decl)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"comment: {data!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"processing instruction: {data!r}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"declaration: {data!r}")

    def finish(self) -> Element:
        self.close()
        assert self._open == [self.root], f"<{self._open[-1].name}> stays open"
        assert self.declarations == ["DOCTYPE html"]
        [html] = self.root.children
        assert html.name == "html"
        return html


def parse(text: str) -> Element:
    """Returns the element `html` of a page. Raises AssertionError for what is not valid."""
    controls = re.findall(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]", text
    )
    assert not controls, controls
    builder = _Builder()
    builder.feed(text)
    root = builder.finish()
    for element in root:
        _check_content(element)
    _check_ids(root)
    return root


def _check_references(text: str) -> None:
    for found in _REFERENCE.finditer(text):
        name = found[1]
        assert name, f"& is not escaped: {text!r}"
        assert name.startswith("#") or name in html5, f"&{name}"


def _check_place(element: Element) -> None:
    name, parent = element.name, element.parent
    assert name in ELEMENTS, f"<{name}>"
    allowed = {*ATTRIBUTES[""].split(), *ATTRIBUTES.get(name, "").split()}
    for attribute in element.attributes:
        assert attribute in allowed or attribute.startswith("data-"), f"{name} {attribute}"
    assert parent is not None
    assert name in CHILDREN.get(parent.name, {name}), f"<{name}> in <{parent.name}>"
    assert parent.name in PARENTS.get(name, {parent.name}), f"<{name}> in <{parent.name}>"
    outside = {item.name for item in element.above()}
    assert not outside & NOT_WITHIN.get(name, set()), f"<{name}> inside {outside}"
    if name not in PHRASING | SVG:
        inside = outside & {"p", "h1", "h2", "span", "a", "button", "label", "pre", "small", "code"}
        assert not inside, f"<{name}> inside {inside}"


def _check_content(element: Element) -> None:
    names = [child.name for child in element.children]
    if element.name == "details":
        assert names[:1] == ["summary"]
        assert names.count("summary") == 1
    if element.name == "fieldset":
        assert names[:1] == ["legend"]
    if element.name == "table":
        _check_table(element)
    if element.name in {"ul", "select"}:
        assert names, f"<{element.name}> is empty"
    if element.name == "dl" or (element.parent is not None and element.parent.name == "dl"):
        below = [name for name in names if name in {"dt", "dd"}]
        if element.name == "dl":
            assert names, "<dl> is empty"
        if element.name == "div":
            assert below == ["dt", "dd"]
    if element.name == "script":
        assert element["type"] == "module"
        assert element["src"]
        assert not element.text
    if element.name == "input":
        assert element["type"] in TYPES, element["type"]
    if element.name == "img":
        assert "alt" in element


def _check_table(table: Element) -> None:
    """A caption, a head of columns, and rows whose cells name their columns."""
    assert [child.name for child in table.children] == ["caption", "thead", "tbody"]
    caption, head, body = table.children
    assert caption.text
    [row] = head.children
    names = [cell.text for cell in row.children]
    assert all(names)
    assert all(cell.name == "th" and cell["scope"] == "col" for cell in row.children)
    assert body.children, f"no row: {caption.text}"
    for row in body.children:
        assert len(row.children) == len(names)
        for name, cell in zip(names, row.children, strict=True):
            assert cell["data-label"] in {name, ""}


def _check_ids(root: Element) -> None:
    ids = [element["id"] for element in root if "id" in element]
    assert all(re.fullmatch(r"\S+", item) for item in ids), ids
    assert len(ids) == len(set(ids)), f"ids twice: {ids}"
    for element in root:
        for attribute in ("for", "aria-describedby"):
            for item in element[attribute].split():
                assert item in ids, f"{attribute}={item}"
        if element.name == "a" and element["href"].startswith("#"):
            assert element["href"][1:] in ids, element["href"]
    assert sum("autofocus" in element for element in root) <= 1
