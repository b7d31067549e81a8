"""`authapi doctor`: checks the effective configuration and reports errors and warnings."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Final

import typer

from authapi.cli.application import build_services, settings_of
from authapi.cli.terminal.options import JSONOption, PlainOption
from authapi.cli.terminal.tables import print_rows, print_styled
from authapi.cli.terminal.texts import as_json as to_json
from authapi.cli.terminal.texts import printable
from authapi.diagnostics.examination import CHECKS, find_unknown_settings, grouped
from authapi.diagnostics.subject import Subject
from authapi.domain.monitoring.findings import Finding, Verdict
from authapi.domain.monitoring.wording import pluralize
from authapi.errors import AuthAPIError

_STYLES: Final[dict[Verdict, tuple[str, str, str]]] = {
    "ok": ("✓", "+", "green"),
    "warning": ("!", "!", "yellow"),
    "error": ("✕", "x", "bold red"),
}
"""The symbol of each verdict, the same in ASCII, and its colour."""


def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Also ask the service at its public URL.")
    ] = False,
    plain: PlainOption = False,
    as_json: JSONOption = False,
) -> None:
    """Check the configuration. Exit with 1 if a check fails; warnings do not count."""
    findings = list(examine(online=online))
    rows: list[dict[str, object]] = [
        {"check": item.check, "verdict": item.verdict, "message": item.message} for item in findings
    ]
    if as_json:
        print(to_json(rows))
    elif plain:
        print_rows(rows, plain=True)
    else:
        print_report(findings)
    if any(item.verdict == "error" for item in findings):
        raise typer.Exit(1)


def examine(*, online: bool = False) -> Iterator[Finding]:
    """Yields the findings in order. If the settings are invalid, no other check runs.

    With `online`, the service is asked at its public URL.
    """
    try:
        settings = settings_of()
    except AuthAPIError as error:
        yield Finding("settings", "error", str(error))
        yield from find_unknown_settings()
        return
    subject = Subject(settings, partial(build_services, settings))
    for check in CHECKS.values():
        yield from check(subject)
    if online:
        from authapi.diagnostics.online import check_public_url

        yield from check_public_url(settings)


def print_report(findings: Sequence[Finding]) -> None:
    """Prints findings by group, with a remedy below each that has one, and their numbers."""
    width = max(len(item.check) for item in findings)
    for group, items in grouped(findings).items():
        print_styled((group, "bold"))
        for item in items:
            _print_finding(item, width)
    counts = [sum(item.verdict == verdict for item in findings) for verdict in ("warning", "error")]
    print(f"{pluralize(counts[0], 'warning')}, {pluralize(counts[1], 'error')}")


def _print_finding(item: Finding, width: int) -> None:
    symbol, ascii_symbol, style = _STYLES[item.verdict]
    shown = symbol if _has(symbol) else ascii_symbol
    fact = printable(item.fact)
    print_styled((f"  {shown} {item.verdict:<7}", style), (f"  {item.check:<{width}}  {fact}", ""))
    if item.remedy is not None:
        arrow = "→" if _has("→") else "->"
        print_styled((f"    {arrow} {printable(item.remedy)}", "cyan"), wraps=False)


def _has(character: str) -> bool:
    try:
        character.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
