"""Writes the software bill of materials of a release: CycloneDX 1.6, in JSON.

It has the packages of requirements/run.txt, with licences and dependencies from their metadata in
this environment, and the files of Swagger UI. The same lock, artifacts and time give the same
bytes.
"""

import hashlib
import json
import re
import tomllib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SWAGGER_UI = ROOT / "src" / "authapi" / "web" / "docs" / "swagger-ui" / "README.md"
_PIN = re.compile(r"^([a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==([^ ;\\]+)(?: ; ([^\\\n]+))?", re.MULTILINE)
"""The name, the version, and the platforms. A package may have several, for different platforms."""
_NAMESPACE = uuid.UUID("0f6b1f5e-5bd5-5c0a-9d2a-4f2a6f0c9d11")
_LICENSE = "License :: OSI Approved :: "

Document = dict[str, Any]


def write_sbom(artifacts: Sequence[Path], target: Path, *, at: int) -> None:
    """Writes the bill of the `artifacts` to `target`. `at` is its time, in seconds of Unix."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements" / "run.txt").read_text()
    document = sbom(project, lock, artifacts, at=at)
    target.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def sbom(project: Document, lock: str, artifacts: Sequence[Path], *, at: int) -> Document:
    """Returns the bill of `project`, whose packages `lock` pins."""
    pins: list[tuple[str, str, str]] = sorted(_PIN.findall(lock))
    here = {name: version for name, version, marker in pins if _is_here(marker)}
    names = {name: here.get(name, version) for name, version, _ in pins}
    references = {name: _reference(name, version) for name, version in names.items()}
    root = _root(project, artifacts)
    swagger_ui = _swagger_ui()
    direct = {canonicalize_name(Requirement(item).name) for item in _declared(project)}
    digest = "".join(item["hashes"][0]["content"] for item in root["components"])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z"),
            "component": root,
        },
        "components": [
            *(_component(name, version, here) for name, version, _ in pins),
            swagger_ui,
        ],
        "dependencies": [
            {
                "ref": root["bom-ref"],
                "dependsOn": [
                    *(references[name] for name in sorted(direct & references.keys())),
                    swagger_ui["bom-ref"],
                ],
            },
            *(
                {
                    "ref": _reference(name, version),
                    **(_needs(name, references) if here.get(name) == version else {}),
                }
                for name, version, _ in pins
            ),
        ],
    }


def _root(project: Document, artifacts: Sequence[Path]) -> Document:
    reference = f"pkg:pypi/{project['name']}@{project['version']}"
    return {
        "type": "library",
        "bom-ref": reference,
        "name": project["name"],
        "version": project["version"],
        "description": project["description"],
        "licenses": [{"expression": project["license"]}],
        "purl": reference,
        "components": [
            {
                "type": "file",
                "bom-ref": path.name,
                "name": path.name,
                "hashes": [
                    {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}
                ],
            }
            for path in sorted(artifacts)
        ],
    }


def _declared(project: Document) -> Iterator[str]:
    yield from project["dependencies"]
    for packages in project["optional-dependencies"].values():
        yield from packages


def _is_here(marker: str) -> bool:
    """Whether a pin with these platforms is for this one."""
    return not marker or Marker(marker).evaluate()


def _reference(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _component(name: str, version: str, here: Mapping[str, str]) -> Document:
    licenses = list(_licenses(name)) if here.get(name) == version else []
    return {
        "type": "library",
        "bom-ref": _reference(name, version),
        "name": name,
        "version": version,
        **({"licenses": licenses} if licenses else {}),
        "purl": _reference(name, version),
    }


def _licenses(name: str) -> Iterator[Document]:
    """Yields the licences that an installed package names."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return
    if "License-Expression" in found:
        yield {"expression": found["License-Expression"]}
        return
    for classifier in found.get_all("Classifier", ()):
        if classifier.startswith(_LICENSE):
            yield {"license": {"name": classifier.removeprefix(_LICENSE)}}


def _needs(name: str, references: Mapping[str, str]) -> Document:
    try:
        declared = [Requirement(item) for item in requires(name) or ()]
    except PackageNotFoundError:
        return {}
    names = {
        canonicalize_name(item.name)
        for item in declared
        if item.marker is None or item.marker.evaluate({"extra": ""})
    }
    found = [references[item] for item in sorted(names) if item in references]
    return {"dependsOn": found} if found else {}


def _swagger_ui() -> Document:
    found = re.search(r"`swagger-ui-dist` (\S+),", SWAGGER_UI.read_text())
    if found is None:
        raise ValueError(f"{SWAGGER_UI} does not name the version of swagger-ui-dist")
    reference = f"pkg:npm/swagger-ui-dist@{found[1]}"
    return {
        "type": "library",
        "bom-ref": reference,
        "name": "swagger-ui-dist",
        "version": found[1],
        "licenses": [{"license": {"id": "Apache-2.0"}}],
        "purl": reference,
    }
