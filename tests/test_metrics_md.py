"""docs/metrics.md: its table lists exactly the metrics of the registry."""

import re
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector

from authapi.services.metrics import Metrics
from tests.test_readme import ROOT

_PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8")
_ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*) \| (.*) \|$", re.MULTILINE)


def rows_of(registry: CollectorRegistry) -> Iterator[tuple[str, str, str, str]]:
    """Yields name, type, labels and meaning of each metric, except those of the process."""
    for collector in registry._collector_to_names:
        if isinstance(collector, ProcessCollector):
            continue
        [described] = collector.describe()  # type: ignore[attr-defined]  # of every metric
        suffix = "_total" if described.type == "counter" else ""
        labels = ", ".join(f"`{name}`" for name in collector._labelnames)  # type: ignore[attr-defined]
        yield f"{described.name}{suffix}", described.type, labels, described.documentation


def test_the_table_is_that_of_the_registry() -> None:
    made = [*rows_of(Metrics({}).registry)]
    assert len(made) == 25
    table = "".join("| `{}` | {} | {} | {} |\n".format(*row) for row in sorted(made))
    assert sorted(_ROW.findall(_PAGE)) == sorted(made), f"the table of docs/metrics.md:\n{table}"


def test_the_page_names_the_files_with_alerts_and_panels() -> None:
    for path in re.findall(r"\]\(\.\./(deploy/[^)]+)\)", _PAGE):
        assert (ROOT / path).is_file()
    assert "deploy/grafana/authapi.json" in _PAGE
    assert "deploy/prometheus/rules.yaml" in _PAGE
