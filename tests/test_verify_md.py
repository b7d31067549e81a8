"""docs/verify.md matches the code: table of providers, algorithms and commands."""

import re
from pathlib import Path

from authapi.cli.commands import _COMMANDS
from authapi.crypto.jwk import VERIFIED_ALGORITHMS
from tests.verify.test_token_shapes import PROVIDERS

PAGE = (Path(__file__).parents[1] / "docs" / "verify.md").read_text(encoding="utf-8")


def rows() -> dict[str, str]:
    """Returns the rows of the table of issuers by their first cell."""
    part = PAGE.split("## Trusted issuers")[1].split("\n### ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return {line.split("|")[1].strip(): line for line in lines}


def test_each_provider_in_the_table_is_tested() -> None:
    shapes = {name.partition(",")[0] for name in PROVIDERS if not name.startswith("an issuer")}
    assert {name.partition(",")[0] for name in rows()} == {*shapes, "authapi"}


def test_table_shows_the_tested_options() -> None:
    for name, provider in PROVIDERS.items():
        line = rows().get(name.replace("Entra, version 2.0", "Entra, tokens of version 2.0"))
        if line is None:
            assert name.startswith("an issuer")
            continue
        types = provider.options["types"]
        written = f'types=("{types[0]}",)' if types[0] and len(types) == 1 else f"types={types!r}"
        same = written.replace("'", '"') in line or name == "Microsoft Entra, version 1.0"
        assert same, (name, written)
        for option in ("required_claims", "client_claims"):
            assert (option in provider.options) is (option in line), (name, option)
        assert ("client_ids" in line) is (provider.options.get("audience") is None), name


def test_every_algorithm_is_listed() -> None:
    [line] = [part for part in PAGE.split("\n* ") if part.startswith("`algorithms` are")]
    assert set(re.findall(r"\b(?:[EPR]S\d{3}|EdDSA|Ed25519)\b", line)) == set(VERIFIED_ALGORITHMS)


def test_verify_command_is_documented() -> None:
    assert "authapi verify --issuer" in PAGE
    assert "verify" in _COMMANDS
