"""docs/secret-scanning.md: its patterns, checksum and examples match the code."""

import re
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from authapi.crypto.refresh_tokens import new_nonce, new_refresh_token, parse_refresh_token
from authapi.crypto.secrets import is_opaque_token, new_opaque_token

TEXT = (Path(__file__).parents[1] / "docs" / "secret-scanning.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| [^|]+ \| `(\w+)` \| (\d+) \| `([^`]+)` \|$", TEXT, re.MULTILINE)
PATTERNS = {name: re.compile(pattern) for name, _, pattern in ROWS}
LENGTHS = {name: int(length) for name, length, _ in ROWS}
ALPHABET = string.ascii_letters + string.digits + "-_"
MANY = 5000


def a_refresh_token() -> str:
    # Every second one is derived from another, as after a rotation.
    first = new_refresh_token()
    return first.successor(new_nonce()).text if first.secret[0] % 2 else first.text


MAKERS: dict[str, Callable[[], str]] = {
    "authapi_access_token": new_opaque_token,
    "authapi_refresh_token": a_refresh_token,
}


def is_ours(text: str) -> bool:
    return is_opaque_token(text) or parse_refresh_token(text) is not None


@pytest.fixture(scope="module")
def is_a_token() -> Callable[[str], bool]:
    """The function in the page for scanners."""
    [code] = re.findall(r"^```python\n(.+?)^```", TEXT, re.MULTILINE | re.DOTALL)
    found: dict[str, Callable[[str], bool]] = {}
    exec(code, found)  # this documentation
    return found["is_a_token"]


@pytest.mark.parametrize("name", MAKERS)
def test_pattern_finds_every_token(name: str, is_a_token: Callable[[str], bool]) -> None:
    pattern, other = PATTERNS[name], next(PATTERNS[item] for item in MAKERS if item != name)
    for _ in range(MANY):
        token = MAKERS[name]()
        assert len(token) == LENGTHS[name]
        assert pattern.fullmatch(token)
        assert pattern.findall(f'TOKEN="{token}"\nother={token};') == [token, token]
        assert not other.search(token)
        assert is_a_token(token)


@pytest.mark.parametrize("name", MAKERS)
def test_checksum_rejects_near_misses(name: str, is_a_token: Callable[[str], bool]) -> None:
    """The checksum rejects what matches a pattern but is no token, and accepts every token."""
    pattern, token = PATTERNS[name], MAKERS[name]()
    near = [token[:-1], token + "A", token[1:], token.upper(), token.replace("_", "-", 1), ""]
    for index in range(len(token)):
        near += [token[:index] + char + token[index + 1 :] for char in ALPHABET + "=+/ \n"]
        near += [token[:index] + token[index + 1 :]]
    for text in near:
        looks_right = pattern.fullmatch(text) is not None and is_a_token(text)
        assert looks_right == is_ours(text) == (text == token), text


def test_examples_are_not_real_tokens(is_a_token: Callable[[str], bool]) -> None:
    [block] = re.findall(r"^```text\n(.+?)^```", TEXT, re.MULTILINE | re.DOTALL)
    for text, pattern in zip(block.split(), PATTERNS.values(), strict=True):
        assert pattern.fullmatch(text)
        assert is_a_token(text)
        assert is_ours(text)
        assert set(text[4:-6]) == {"A"}


def test_prose_and_code_do_not_match() -> None:
    root = Path(__file__).parents[1]
    for path in [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "src").rglob("*.py")]:
        if path.name != "secret-scanning.md":
            text = path.read_text(encoding="utf-8")
            for pattern in PATTERNS.values():
                assert not pattern.search(text), path
