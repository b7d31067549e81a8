"""tools/sbom.py lists what a release contains and installs."""

import hashlib
import json
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tools.sbom import ROOT, sbom, write_sbom

AT = int(datetime(2026, 11, 30, 8, 0, tzinfo=UTC).timestamp())
LOCK = (ROOT / "requirements" / "run.txt").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.whl", tmp_path / "a.tar.gz"]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def test_each_locked_package_and_swagger_ui_are_listed(artifacts: list[Path]) -> None:
    found = sbom(PROJECT, LOCK, artifacts, at=AT)
    listed = {item["purl"]: item for item in found["components"]}
    locked = re.findall(r"^([a-z0-9-]+)(?:\[[^]]+\])?==([^ ;]+)", LOCK, re.MULTILINE)
    assert len(locked) > 50
    assert len(listed) == len(found["components"]) == len(locked) + 1
    for name, version in locked:
        item = listed.pop(f"pkg:pypi/{name}@{version}")
        assert (item["name"], item["version"]) == (name, version)
        assert item["type"] == "library"
    [swagger_ui] = listed.values()
    assert (swagger_ui["name"], swagger_ui["licenses"]) == (
        "swagger-ui-dist",
        [{"license": {"id": "Apache-2.0"}}],
    )
    licensed = [item for item in found["components"] if "licenses" in item]
    assert len(licensed) > 0.8 * len(locked)


def test_the_graph_begins_with_the_project(artifacts: list[Path]) -> None:
    found = sbom(PROJECT, LOCK, artifacts, at=AT)
    needs = {item["ref"]: item.get("dependsOn", []) for item in found["dependencies"]}
    references = {item["bom-ref"] for item in found["components"]}
    root = found["metadata"]["component"]["bom-ref"]
    assert root == f"pkg:pypi/fastapi-authapi@{PROJECT['version']}"
    assert needs.keys() == {root} | {item for item in references if item.startswith("pkg:pypi/")}
    names = {item.partition("@")[0].rpartition("/")[2] for item in needs[root]}
    assert {"fastapi", "sqlalchemy", "psycopg", "webauthn", "swagger-ui-dist"} <= names
    assert "httpcore" not in names, "a dependency of a dependency"
    [httpx] = [item for ref, item in needs.items() if ref.startswith("pkg:pypi/httpx@")]
    assert any(item.startswith("pkg:pypi/httpcore@") for item in httpx)
    assert {item for items in needs.values() for item in items} <= references


def test_the_bill_names_the_artifacts_and_varies_only_with_them(artifacts: list[Path]) -> None:
    target = artifacts[0].with_name("a.cdx.json")
    write_sbom(artifacts, target, at=AT)
    first = target.read_bytes()
    write_sbom(artifacts[::-1], target, at=AT)
    assert target.read_bytes() == first
    document = json.loads(first)
    files = document["metadata"]["component"]["components"]
    assert {item["name"]: item["hashes"][0]["content"] for item in files} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in artifacts
    }
    assert document["metadata"]["timestamp"] == "2026-11-30T08:00:00Z"
    artifacts[0].write_bytes(b"changed")
    write_sbom(artifacts, target, at=AT)
    assert json.loads(target.read_bytes())["serialNumber"] != document["serialNumber"]
