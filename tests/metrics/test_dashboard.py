"""The shipped dashboard and rules name what is exposed, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from pgqueue import Client, Handlers, NewJob, Outcome, Worker
from pgqueue.metrics import QueueMetrics, WorkerMetrics, catalog

from .helpers import samples

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARD = json.loads((DOCS / "grafana" / "pgqueue.json").read_text("utf-8"))
RULES_FILE = DOCS / "prometheus" / "pgqueue.rules.yml"
RULES = yaml.safe_load(RULES_FILE.read_text("utf-8"))["groups"][0]["rules"]
MINUTE = timedelta(minutes=1)
OF_THE_SCRAPE = {"job", "instance", "le"}
"""Labels that Prometheus adds, and that of a histogram's buckets."""
SELECTOR = re.compile(r"\b(pgqueue_\w+)(?:\{([^}]*)\})?")
GROUPS = re.compile(r"\b(?:by|on|without) \(([^)]*)\)")
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (apt: prometheus)"
)


def panels() -> Iterator[dict[str, Any]]:
    """Those that show something."""
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def queries() -> dict[str, str]:
    """Every expression of the dashboard and of the rules, by where it stands."""
    found = {f"rule {rule['alert']}": rule["expr"] for rule in RULES}
    for panel in panels():
        for target in panel["targets"]:
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            found[f"variable {variable['name']}"] = variable["definition"]
    return found


@pytest.fixture
def exposition(client: Client, handlers: Handlers) -> str:
    """What a worker and a database really expose, with a sample of everything."""

    @handlers.register("a")
    async def handler(job: Any) -> None:
        if job.payload:
            raise ValueError

    client.enqueue_many([NewJob("a", n == 0, max_attempts=1) for n in range(5)])
    metrics = WorkerMetrics()
    metrics.stopped = lambda: None  # type: ignore[method-assign] # it goes on, as it seems
    Worker(client, handlers, observers=[metrics]).run(until_idle=True)
    metrics.connection_failed("claiming")
    metrics.reconnected("claiming")
    metrics.beat_missed()
    client.enqueue("a")
    client.driver.run(client.statements.sleep(["default"], "h:1:a", MINUTE, ["a"]))
    registry = CollectorRegistry()
    registry.register(metrics)
    looked = QueueMetrics(client)
    registry.register(looked)
    text = generate_latest(registry).decode()
    looked.close()
    return text


def labels_of(exposition: str) -> dict[str, set[str]]:
    """The labels of each sample's name."""
    found: dict[str, set[str]] = {}
    for name, labels in samples(exposition):
        found.setdefault(name, set()).update(dict(labels))
    return found


def test_everything_of_the_catalog_is_exposed(exposition: str) -> None:
    """With its labels, no more and no fewer."""
    found = labels_of(exposition)
    endings = {"counter": "_total", "gauge": "", "histogram": "_count"}
    for metric in (*catalog.WORKER, *catalog.DATABASE):
        assert found[metric.name + endings[metric.kind]] == set(metric.labels), metric.name


def test_queries_name_what_is_exposed(exposition: str) -> None:
    """Each metric of each panel, variable and rule, and each label of it."""
    exposed = labels_of(exposition)
    seen = 0
    for where, query in queries().items():
        known: set[str] = set(OF_THE_SCRAPE)
        for name, matchers in SELECTOR.findall(query):
            assert name in exposed, (where, name)
            seen += 1
            known |= exposed[name]
            used = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers))
            assert used <= exposed[name] | OF_THE_SCRAPE, (where, name)
        for group in GROUPS.findall(query):
            assert {label.strip() for label in group.split(",")} <= known, (where, group)
    assert seen > 50


def test_legends_and_texts_name_labels_of_their_queries() -> None:
    """A label that the query has summed away would be empty."""
    for panel in panels():
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = {
                label.strip()
                for group in GROUPS.findall(target["expr"])
                for label in group.split(",")
            }
            assert shown <= kept, panel["title"]
    for rule in RULES:
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        kept = {
            label.strip() for group in GROUPS.findall(rule["expr"]) for label in group.split(",")
        }
        assert shown <= kept, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_every_outcome_and_state_in_a_query_exists(exposition: str) -> None:
    """A misspelt value would match nothing, for ever."""
    known: dict[str, set[Any]] = {
        "outcome": {str(outcome) for outcome in Outcome},
        "state": {dict(labels).get("state") for _, labels in samples(exposition)} - {None},
    }
    for where, query in queries().items():
        for label, values in re.findall(r'\b(outcome|state)=~?"([^"]*)"', query):
            assert set(values.split("|")) <= known[label], where


def test_dashboard_is_laid_out_as_grafana_wants_it() -> None:
    """Ids are unique, panels lie within 24 columns and not on each other."""
    assert DASHBOARD["uid"] == "pgqueue"
    assert DASHBOARD["id"] is None
    assert DASHBOARD["schemaVersion"] >= 36
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["type"] in ("timeseries", "stat")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["fieldConfig"]["defaults"]["unit"] in ("short", "s", "ops", "percentunit")
        assert [t["refId"] for t in panel["targets"]] == list("ABCD"[: len(panel["targets"])])


@promtool
def test_prometheus_takes_the_rules_and_all_queries(tmp_path: Path) -> None:
    """Its own tool parses the rules, and each panel's query, as PromQL."""
    texts = {
        where: re.sub(r"\$(job|queue)", ".*", query.replace("$__rate_interval", "5m"))
        for where, query in queries().items()
        if not where.startswith("variable")
    }
    recorded = [{"record": f"q:{n}", "expr": text} for n, text in enumerate(texts.values())]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "q", "rules": recorded}]}))
    for path, count in ((RULES_FILE, len(RULES)), (file, len(texts))):
        done = subprocess.run(
            ["promtool", "check", "rules", path],  # noqa: S607 - of the system
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{count} rules found" in done.stdout


@promtool
def test_prometheus_has_nothing_against_the_exposition(exposition: str) -> None:
    """Its linter knows the conventions of names."""
    done = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607 - of the system
        input=exposition, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
