"""examples/monitoring: the alert rules and the dashboard are valid PromQL over figures that drtool writes."""

import json
import re
from pathlib import Path

import promql_parser
import pytest
from ruamel.yaml import YAML

from drtool.reports.metrics import known_metrics

MONITORING = Path(__file__).parents[2] / "examples/monitoring"
RULES = YAML(typ="safe").load(MONITORING / "drtool-alerts.yml")["groups"][0]["rules"]
DASHBOARD = json.loads((MONITORING / "drtool-dashboard.json").read_text())
LABELS = {"repository", "config", "command", "source", "host", "site", "target"}


def selectors(expression):
    """Return the names and the label matchers of the selectors in an expression, which must parse."""
    promql_parser.parse(expression)
    return re.findall(r"(drtool_\w+)(?:\{(\w+)=)?", expression)


def expressions():
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$repository", "main")


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_an_expression_parses_and_names_figures_that_exist(where, expression):
    found = selectors(expression)
    assert found, where
    for name, label in found:
        assert name.removeprefix("drtool_") in known_metrics()
        assert label in LABELS | {""}


def test_every_alert_has_a_severity_a_summary_and_labels_that_exist():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= LABELS
        assert re.fullmatch(r"\d+[mhd]", rule.get("for", "1m"))


def test_the_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_a_broken_expression_is_noticed():
    with pytest.raises(ValueError, match="invalid promql"):
        selectors("time() - > drtool_healthy")
