"""The control of a comparison: two identical bare applications, whose ratio shows its error."""

from collections.abc import Mapping
from typing import Any

LEAST, MOST = 0.97, 1.03
"""Between these, the machine was quiet enough for the ratios of the same run."""


def is_quiet(ratio: float) -> bool:
    """Returns whether the machine was quiet enough."""
    return LEAST <= ratio <= MOST


def sentence(ratio: float | None) -> str:
    """Returns what the control says about the run, for a report; None is a run without control."""
    if ratio is None:
        return "No control was measured."
    text = f"Control, two identical bare applications: {ratio:.3f}."
    if is_quiet(ratio):
        return text
    return (
        f"{text} **The machine was too busy: the control is outside {LEAST} to {MOST}, and the "
        "ratios of this run have at least the same error.**"
    )


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the controls of all scenarios that have one, for the beginning of the report."""
    lines = [
        f"* `{name}`: {sentence(data['control'])}"
        for name, data in found.items()
        if "control" in data
    ]
    return "\n".join(["## Controls", "", *(lines or ["No scenario with a control was measured."])])
