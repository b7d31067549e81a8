"""Names are a single line with at least one visible character, in every input."""

import json
import re
import unicodedata
from io import BytesIO

import pytest
from pydantic import TypeAdapter, ValidationError

from authapi.cli.services import parse_name
from authapi.domain.display_names import (
    DISPLAY_NAME_PATTERN,
    DOCUMENTED_NAME_PATTERN,
    is_display_name,
    is_single_line,
)
from authapi.errors import ConfigurationError, InvalidImportLine
from authapi.services.accounts.importing import AccountImporter
from authapi.services.accounts.importing.lines import LineParser
from authapi.testing import PASSWORD, Client
from authapi.web.schemas.fields import Name, TokenName
from tests.web.logins import sign_in

UNSEEN = [
    *("\u200b", "\u200d\u200c", "\u2060", "\ufeff", "\u00ad", "\u034f", "\u180e", "\u061c"),
    *("\u200e\u200f", "\u202a\u202c", "\u202e", "\u2066\u2069", "\u206a", "\u115f\u1160"),
    *("\u3164", "\uffa0", "\u2800", "\u2800\u2800", "\ufe0f", "\ufe00", "\U000e0100", "\u180b"),
    *("\U000e0041", "\U000e0001", "\U0001d173", "\U0001d159", "\U0001bca0", "\ufff9\ufffb"),
    *(" ", "\u00a0", "\u3000", "\u2003", "\u1680", "\u202f", "\u205f", " \u200b\u3164 "),
]
SEEN = [
    "Alice",
    "a",
    "안녕",
    "é",
    " a ",
    "\u200ba",
    "👩\u200d💻",
    "नी",
    "שלום\u200f",
    "1",
    "-",
    "\ue000",
]


def test_every_unicode_character_is_classified() -> None:
    for number in range(0x110000):
        character = chr(number)
        kind = unicodedata.category(character)
        if kind in {"Cc", "Cs", "Zl", "Zp"}:
            assert not is_single_line(character), hex(number)
        elif kind in {"Cf", "Zs"}:
            assert is_single_line(character), hex(number)
            assert not is_display_name(character), hex(number)
        elif kind[0] in "LNPS" and character not in "\u115f\u1160\u2800\u3164\uffa0\U0001d159":
            assert is_display_name(character), hex(number)


@pytest.mark.parametrize("name", UNSEEN)
async def test_invisible_name_is_rejected_everywhere(api: Client, name: str) -> None:
    user = await api.create_user("alice@example.com")
    headers = await sign_in(api.services, user)
    new = {"email": "new@example.com", "password": PASSWORD, "name": name}
    assert (await api.post("/register", json=new)).status_code == 422
    assert (await api.patch("/me", json={"name": name}, headers=headers)).status_code == 422
    token = await api.post("/me/tokens", json={"name": name}, headers=headers)
    assert token.status_code == 422
    with pytest.raises(ConfigurationError, match="visible character"):
        parse_name(name, max_length=200)
    with pytest.raises(InvalidImportLine) as refused:
        LineParser({}).parse(json.dumps({"email": "new@example.com", "name": name}).encode())
    assert refused.value.field_errors == (("name", "must contain a visible character"),)


@pytest.mark.parametrize("name", SEEN)
def test_visible_name_is_accepted_everywhere(name: str) -> None:
    for kind in (Name, TokenName):
        assert TypeAdapter[str](kind).validate_python(name) == name
    assert parse_name(name, max_length=200) == name
    line = json.dumps({"email": "new@example.com", "name": name}).encode()
    assert LineParser({}).parse(line).new.user.name == name


def test_openapi_and_validation_agree() -> None:
    adapter = TypeAdapter[str](Name)
    documented = adapter.json_schema()["pattern"]
    assert documented == DOCUMENTED_NAME_PATTERN
    # Programs that read it in units of 16 bits understand it.
    assert max(documented) <= "\uffff"
    for text in (*UNSEEN, *SEEN):
        try:
            found = bool(adapter.validate_python(text))
        except ValidationError:
            found = False
        assert found is is_display_name(text) is bool(re.search(DISPLAY_NAME_PATTERN, text))
        is_above = all(character > "\uffff" for character in text)
        assert bool(re.search(documented, text)) is (found or is_above)


async def test_import_rejects_an_invisible_name(api: Client) -> None:
    services = api.services
    lines = json.dumps({"email": "new@example.com", "name": "\u3164"}).encode()
    reasons: list[str] = []
    summary = await AccountImporter(services.database, services.audit, services.settings).run(
        BytesIO(lines), lambda _, __, reason: reasons.append(reason)
    )
    assert (summary.added, summary.refused) == (0, 1)
    assert reasons == ["must contain a visible character"]
