"""Checks of the Dockerfile, without building the image."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def instructions() -> list[tuple[str, str]]:
    """Returns (instruction, rest) pairs, with joined continuation lines and without comments."""
    text = "\n".join(
        line for line in (ROOT / "Dockerfile").read_text().splitlines() if line[:1] != "#"
    )
    lines = (line.split() for line in text.replace("\\\n", " ").splitlines() if line.strip())
    return [(words[0], " ".join(words[1:])) for words in lines]


def final_stage() -> dict[str, str]:
    """Returns the last value of each instruction in the final stage."""
    recipe = instructions()
    start = max(number for number, (word, _) in enumerate(recipe) if word == "FROM")
    return dict(recipe[start:])


def test_hadolint_reports_nothing() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), ROOT / "Dockerfile"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_image_has_two_stages() -> None:
    assert [rest.split()[0] for word, rest in instructions() if word == "FROM"] == [
        "python:3.13-slim",
        "python:3.13-slim",
    ]


def test_all_external_packages_have_hashes() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert len(installs) == 2
    assert all(("--require-hashes" in rest) != ("--no-deps" in rest) for rest in installs)


def test_process_is_unprivileged_and_owns_only_its_data() -> None:
    stage = final_stage()
    assert stage["USER"] == "10001:10001"
    assert "--chown" not in stage["COPY"]
    assert stage["RUN"] == "install -d -o 10001 -g 10001 -m 0700 /data"
    assert "AUTHAPI_DATA_DIR=/data" in stage["ENV"]


def test_image_serves_and_has_a_health_check() -> None:
    stage = final_stage()
    assert (stage["ENTRYPOINT"], stage["CMD"]) == ('["authapi"]', '["serve"]')
    assert stage["EXPOSE"] == "8000"
    assert "/health/live" in stage["HEALTHCHECK"]


def test_dockerfile_works_with_old_builders() -> None:
    text = (ROOT / "Dockerfile").read_text()
    newer = ("<<", "--link", "--exclude", "--start-interval")
    assert [word for word in newer if word in text] == []
