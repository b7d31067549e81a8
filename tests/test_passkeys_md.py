"""docs/passkeys.md: its routes, codes and settings are those of the code."""

import json
import re
from pathlib import Path

import pytest

from authapi import create_app
from authapi.domain.factors.passkeys import CHALLENGE_LIFETIME, Algorithm
from authapi.settings import Settings
from authapi.testing import Client
from tests.conftest import SettingsFactory
from tests.soft_authenticator import SoftAuthenticator
from tests.web.passkeys import add_passkey
from tests.web.responses import DOCUMENTED

PAGE = (Path(__file__).parents[1] / "docs" / "passkeys.md").read_text(encoding="utf-8")


def test_the_routes_exist(make_settings: SettingsFactory) -> None:
    paths = create_app(make_settings()).openapi()["paths"]
    rows = re.findall(r"^\| [\w ]+ \| `POST ([\w/-]+)` \| `POST ([\w/-]+)` \|", PAGE, re.MULTILINE)
    assert len(rows) == 5
    for path in [path for row in rows for path in row]:
        assert "post" in paths[path]
    for path in re.findall(r"post\('([^']+)'", PAGE):
        assert "post" in paths[path]


def test_the_codes_have_the_documented_statuses() -> None:
    codes = re.findall(r"\b([2-5]\d\d) `(\w+)`", PAGE)
    assert {"wrong_passkey", "passkey_refused", "last_way_in"} <= {code for _, code in codes}
    for status, code in codes:
        assert DOCUMENTED[code] == int(status)


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if "passkey" in name])
def test_each_setting_has_its_row(name: str) -> None:
    [default] = re.findall(rf"^\| `AUTHAPI_{name.upper()}` \| ([^|]+) \|", PAGE, re.MULTILINE)
    value = Settings.model_fields[name].default
    words = {"passkey_rp_id": "the host of `AUTHAPI_PUBLIC_URL`", "passkey_origins": "none"}
    assert default == words.get(name, f"`{value}`")


def test_numbers_and_algorithms() -> None:
    assert CHALLENGE_LIFETIME.total_seconds() == 300
    assert "once, within five minutes" in PAGE
    names = {"EdDSA": Algorithm.EDDSA, "ES256": Algorithm.ES256, "RS256": Algorithm.RS256}
    assert set(names.values()) == set(Algorithm)
    assert f"the algorithms {', '.join(list(names)[:2])} and {list(names)[2]}" in PAGE


async def test_the_answer_has_the_documented_members(api: Client) -> None:
    [block] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    documented = json.loads(block)
    answer, _ = await add_passkey(api, await api.create_user(), SoftAuthenticator())
    assert answer.keys() == documented.keys()
    assert answer["passkey"].keys() == documented["passkey"].keys()
    assert len(answer["recovery_codes"]) == 10
    assert "has ten codes" in PAGE
