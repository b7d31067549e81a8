"""`authapi doctor`: checks the effective configuration and reports errors and warnings."""

from collections.abc import Iterator
from functools import partial

import typer

from authapi.cli.application import build_services, settings_of
from authapi.cli.terminal.options import JSONOption
from authapi.cli.terminal.tables import print_rows
from authapi.cli.terminal.texts import as_json as as_json_text
from authapi.diagnostics.examination import CHECKS, find_unknown_settings
from authapi.diagnostics.subject import Subject
from authapi.domain.monitoring.findings import Finding
from authapi.errors import AuthAPIError


def doctor(as_json: JSONOption = False) -> None:
    """Check the configuration. Exit with 1 if a check fails; warnings do not count."""
    findings = list(examine())
    rows: list[dict[str, object]] = [
        {"check": item.check, "verdict": item.verdict, "message": item.message} for item in findings
    ]
    if as_json:
        print(as_json_text(rows))
    else:
        print_rows(rows)
    if any(item.verdict == "error" for item in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Yields the findings in order. If the settings are invalid, no other check runs."""
    try:
        settings = settings_of()
    except AuthAPIError as error:
        yield Finding("settings", "error", str(error))
        yield from find_unknown_settings()
        return
    subject = Subject(settings, partial(build_services, settings))
    for check in CHECKS.values():
        yield from check(subject)
