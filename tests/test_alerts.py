"""deploy/prometheus and deploy/grafana: promtool reads every expression, and its metrics exist."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import ProcessCollector

from authapi.domain.events import EventType
from authapi.services.metrics import Metrics
from tests.test_readme import ROOT

RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "authapi.json").read_text("utf-8"))


def series() -> dict[str, set[str]]:
    """The names of all series, with their labels."""
    found: dict[str, set[str]] = {"up": set()}
    for collector in Metrics({}).registry._collector_to_names:
        labels = set(getattr(collector, "_labelnames", ()))
        if isinstance(collector, ProcessCollector):
            continue
        for metric in collector.describe():  # type: ignore[attr-defined]  # of every metric
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
            for ending in endings.get(metric.type, [""]):
                found[f"{metric.name}{ending}"] = labels
    return found


def in_rules() -> Iterator[tuple[str, str]]:
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def in_dashboard() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"{panel['title']} {target['refId']}", target["expr"].replace("$job", "authapi")
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"].replace("$job", "authapi")


EXPRESSIONS = [*in_rules(), *in_dashboard()]
EVERYWHERE = {"job", "instance", "le"}
"""Labels that Prometheus adds, and that of the buckets of a histogram."""


@pytest.mark.parametrize(("name", "expr"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_every_metric_and_label_exists(name: str, expr: str) -> None:
    known = series()
    found = re.findall(r"\b(authapi_\w+|up)\b(?:\{(.*?)\})?", re.sub(r'"authapi"', '""', expr))
    assert found, name
    made = set(re.findall(r'label_replace\(.*"(\w+)", "\$\{1\}xx"', expr))
    labels: set[str] = set()
    for metric, selector in found:
        assert metric in known, metric
        labels |= known[metric]
        assert set(re.findall(r"(\w+)(?:=~|!=|!~|=)", selector)) <= known[metric] | EVERYWHERE
        for types in re.findall(r'\btype=~?"([\w|]+)"', selector):
            assert set(types.split("|")) <= set(EventType)
    grouped = {it for by in re.findall(r"\bby \((.*?)\)", expr) for it in by.split(", ")}
    assert grouped <= labels | made | EVERYWHERE


def test_the_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def promtool(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_promtool_accepts_the_alerts_and_runs_their_tests() -> None:
    promtool("check", "rules", RULES.name, folder=RULES.parent)
    promtool("test", "rules", "rules_test.yaml", folder=RULES.parent)
    tests = yaml.safe_load((RULES.parent / "rules_test.yaml").read_text("utf-8"))["tests"]
    for test in tests:  # each alert is tested both ways
        assert {it["alertname"] for it in test["alert_rule_test"]} == {
            name for name, _ in in_rules()
        }
    assert {bool(it["exp_alerts"]) for it in tests[0]["alert_rule_test"]} == {False}
    assert {bool(it["exp_alerts"]) for it in tests[1]["alert_rule_test"]} == {True}


@pytest.mark.slow
def test_promtool_parses_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules: list[dict[str, Any]] = [
        {"record": f"panel:{number}", "expr": expr}
        for number, (_, expr) in enumerate(in_dashboard())
    ]
    text = yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]})
    (tmp_path / "panels.yaml").write_text(text)
    promtool("check", "rules", "panels.yaml", folder=tmp_path)
