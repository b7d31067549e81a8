"""docs/passkeys-javascript.md: its routes, headers and links. tests/browser runs its code."""

import re

from authapi import create_app
from authapi.domain.factors.passkeys import CHALLENGE_LIFETIME
from tests.conftest import SettingsFactory
from tests.test_readme import ROOT, blocks
from tests.web.responses import DOCUMENTED

DOCUMENT = (ROOT / "docs" / "passkeys-javascript.md").read_text(encoding="utf-8")
_FILE = re.compile(
    r"^```\w+\n((?://|<!--|#) ([\w/-]+\.(?:js|html|py))(?: -->)?\n.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def documented_files() -> dict[str, str]:
    """Returns the files of the page by their paths, which are their first lines."""
    return {path: text for text, path in _FILE.findall(DOCUMENT)}


def test_every_titled_block_is_a_file() -> None:
    files = documented_files()
    assert files.keys() == {"static/passkeys.js", "static/sign-in.js", "sign-in.html", "main.py"}
    [snippet] = [it for it in blocks("js", DOCUMENT) if it not in files.values()]
    assert not snippet.startswith("//")


def test_the_routes_exist(make_settings: SettingsFactory) -> None:
    paths = create_app(make_settings()).openapi()["paths"]
    code = "".join(documented_files().values())
    found = re.findall(r"(?:post|get)\('(/[^']+)'", code)
    assert len(found) == 9
    for path in found:
        assert "post" in paths[path]
    assert "delete" in paths["/me/factors/passkeys/{passkey_id}"]


def test_the_table_has_each_function() -> None:
    module = documented_files()["static/passkeys.js"]
    exported = set(re.findall(r"^export (?:async function|const) (\w+)", module, re.MULTILINE))
    documented = set(re.findall(r"^\| `(\w+)\(", DOCUMENT, re.MULTILINE))
    assert exported - documented == {"post"}
    assert documented <= exported


def test_the_codes_exist() -> None:
    codes = re.findall(r"\b([45]\d\d)\s+`(\w+)`", DOCUMENT)
    assert {"passkeys_unavailable", "insufficient_authentication"} <= {code for _, code in codes}
    for status, code in codes:
        assert DOCUMENTED[code] == int(status)


def test_autofill_renews_its_options_in_time() -> None:
    module = documented_files()["static/passkeys.js"]
    [milliseconds] = re.findall(r"setTimeout\(.*, ([\d_]+)\)", module)
    assert int(milliseconds) < CHALLENGE_LIFETIME.total_seconds() * 1000
    assert "every four minutes" in DOCUMENT


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", DOCUMENT):
        assert (ROOT / "docs" / target).exists(), target
