"""Writes the results as JSON, and as Markdown with a chart."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import control, plot, targets
from benchmarks.options import SCENARIOS

Found = Mapping[str, Any]


def write(found: Mapping[str, Found], path: Path) -> None:
    """Writes all results to `path`, and the Markdown file and the chart beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = {name: found[name] for name in SCENARIOS if name in found}
    text = json.dumps(known, indent=2) + "\n"
    path.write_text(text, encoding="utf-8")
    parts = ["# Results", _INTRODUCTION, control.markdown(known), targets.markdown(known)]
    if "routes" in known:
        drawing = plot.bars(_bars(known["routes"]), title="Requests per second, known caller")
        path.with_suffix(".svg").write_text(drawing, encoding="utf-8")
        parts.append(f"![Requests per second of every stack]({path.stem}.svg)")
    parts += [section(name, data) for name, data in known.items()]
    path.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def section(name: str, data: Found) -> str:
    """Returns the section of one scenario: its tables, machine and options."""
    shown: str = import_module(f"benchmarks.scenarios.{name}").markdown(data)
    about, used = data["about"], data["options"]
    if about["commit"].endswith("-dirty"):
        about = {**about, "commit": about["commit"].removesuffix("-dirty") + " with changes"}
    machine = (
        f"{about['date']}, authapi at {about['commit']}; {about['cores']} cores of {about['cpu']}, "
        f"Linux {about['kernel']}, Python {about['python']}, wrk {about['wrk']}; load of the "
        f"machine before: {about['load_before']}. Rounds: {used['rounds']}, seconds each: "
        f"{used['seconds']}, connections: {used['connections']}, store: {used['store']}."
    )
    parts = [shown, machine]
    for family, versions in data.get("versions", {}).items():
        named = ", ".join(f"{package} {number}" for package, number in versions.items())
        parts.append(f"* {family}: {named}")
    return "\n\n".join(parts[:2]) + "".join(f"\n{line}" for line in ["", *parts[2:]]).rstrip()


def _bars(routes: Found) -> list[plot.Bar]:
    return [
        plot.Bar(
            group=row["stack"],
            label=row["route"],
            value=row["requests_per_second"],
            note=_ratio_note(row["to_own_bare"]),
            colour=row["family"],
        )
        for row in routes["rows"]
        if "error" not in row
    ]


def _ratio_note(ratio: float | None) -> str:
    return "" if ratio in (None, 1.0) else f"{ratio:.2f} of its own bare route"


_INTRODUCTION = (
    "Written by `make bench`; each part says when and on what. Absolute figures are this "
    "machine's; the ratios are the point. [../README.md](../README.md) says what is compared, and "
    "what is not measured."
)
