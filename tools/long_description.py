"""Makes the description of the package from README, as an index of packages shows it.

README links to files beside it, which an index does not have. Without an address of the sources,
such a link becomes its text with the path, which is in the archive of the sources, and an image is
left out. If `[tool.hatch.metadata.hooks.custom]` of pyproject.toml has `links` and `images`, such
as `https://example.com/authapi/v{version}/{path}`, they become absolute.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_FENCE = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)
_IMAGE = r"!\[(?P<alt>[^\[\]]*)\]\((?P<image>[^()\s]+)\)"
_LINK = re.compile(
    rf"(?P<before>\(?)(?:\[(?:{_IMAGE}|(?P<text>[^\[\]]+))\]\((?P<path>[^()\s]+)\))"
    rf"|{_IMAGE.replace('alt', 'alone_alt').replace('image', 'alone')}"
)
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:|#|//")
_NOTE = "\nThe files that are named on this page are in the archive of the sources.\n"
_BLANK_LINES = re.compile(r"\n{3,}")


class LongDescription(MetadataHookInterface):
    """The hook by which hatchling reads the description."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Adds the description to the metadata of the project."""
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        text = describe(
            readme,
            links=self.config.get("links", "").replace("{version}", metadata["version"]),
            images=self.config.get("images", "").replace("{version}", metadata["version"]),
        )
        if not self.config.get("links"):
            text += _NOTE
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def describe(readme: str, *, links: str = "", images: str = "") -> str:
    """Returns the Markdown without links to files beside it.

    `links` and `images` are addresses with `{path}`; without one, paths are shown as text.
    """
    parts = _FENCE.split(readme)
    # Programs stay as they are. They are the odd parts.
    replace = _replacement(links, images)
    parts[::2] = [_BLANK_LINES.sub("\n\n", _LINK.sub(replace, part)) for part in parts[::2]]
    return "".join(parts)


def _replacement(links: str, images: str) -> Callable[[re.Match[str]], str]:
    def replace(found: re.Match[str]) -> str:
        image = found["image"] or found["alone"]
        if image is None:
            return f"{found['before']}{_link(found['before'], found['text'], found['path'], links)}"
        shown = _image(found["alt"] or found["alone_alt"] or "", image, images)
        if found["path"] is None or not shown:
            return f"{found['before'] or ''}{shown}"
        target = found["path"] if _ABSOLUTE.match(found["path"]) else _at(links, found["path"])
        return f"{found['before']}[{shown}]({target})" if target else f"{found['before']}{shown}"

    return replace


def _link(before: str, text: str, path: str, address: str) -> str:
    if _ABSOLUTE.match(path):
        return f"[{text}]({path})"
    if target := _at(address, path):
        return f"[{text}]({target})"
    file = f"`{path.partition('#')[0]}`"
    if text == path.partition("#")[0]:
        return file
    return f"{text}, {file}" if before else f"{text} ({file})"


def _image(alt: str, path: str, address: str) -> str:
    target = path if _ABSOLUTE.match(path) else _at(address, path)
    return f"![{alt}]({target})" if target else ""


def _at(address: str, path: str) -> str:
    return address.replace("{path}", path)
