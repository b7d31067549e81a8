"""The file with the public keys of secret scanners: its format, and errors in it."""

import json
from pathlib import Path

import pytest

from authapi.errors import ConfigurationError
from authapi.services.tokens import read_scanner_keys
from tests.web.scanners import Scanner, publish


def test_keys_are_found_by_identifier(tmp_path: Path) -> None:
    old, new = Scanner("old"), Scanner("new")
    found = read_scanner_keys(publish(tmp_path / "keys.json", old, new))
    assert found.keys() == {"old", "new"}
    found["new"].verify(b"[]", new.sign(b"[]"))


ENTRY = Scanner().published
WRONG = {
    "not JSON": b"{",
    "not UTF-8": b"\xff",
    "a list": b"[]",
    "nothing": b"{}",
    "no keys": b'{"public_keys": []}',
    "an object": b'{"public_keys": {}}',
    "twice": b'{"public_keys": [], "public_keys": []}',
    **{
        name: json.dumps({"public_keys": entries}).encode()
        for name, entries in {
            "a number": [1],
            "no identifier": [{"key": ENTRY["key"]}],
            "an empty identifier": [{**ENTRY, "key_identifier": ""}],
            "no key": [{"key_identifier": "a"}],
            "no PEM": [{**ENTRY, "key": "x"}],
            "the same twice": [ENTRY, ENTRY],
            "one of two": [ENTRY, {**ENTRY, "key_identifier": "b", "key": ""}],
        }.items()
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_an_invalid_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(WRONG[name])
    with pytest.raises(ConfigurationError) as caught:
        read_scanner_keys(path)
    text = str(caught.value)
    assert text.startswith("AUTHAPI_LEAK_REPORT_KEYS names a file ")
    assert "\n" not in text


@pytest.mark.parametrize("name", ["none.json", "."])
def test_an_unreadable_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_scanner_keys(tmp_path / name)
