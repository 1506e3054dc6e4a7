"""The Grafana dashboard asks for nothing that a node does not export, under proper names."""

import json
import re
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.node_process import NodeProcess, proper_end

DASHBOARD = Path(__file__).parents[2] / "config" / "grafana-dashboard.json"
BUDGETS = {
    *("lfscp_connections_refused_total", "lfscp_connections_unassociated"),
    *("lfscp_http_refused_total", "lfscp_http_connections"),
    *("lfscp_messages_out_of_turn_total", "lfscp_oversize_messages_total"),
    *("lfscp_excessive_identifiers_total", "lfscp_jobs_over_budget_total"),
    *("lfscp_decoding_memory_bytes", "lfscp_spooled_bytes", "lfscp_decoding_refusals_total"),
    *("lfscp_refused_pictures_total", "lfscp_waiting_pictures"),
    "lfscp_rendering_process_failures_total",
}


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """What a real node exports: metric families by name."""
    node = NodeProcess(tmp_path_factory.mktemp("node"), flags=["--http-port", 0, "--workers", 2])
    with proper_end(node):
        page = node.start().wait_for("page")["url"]
        with urllib.request.urlopen(f"{page}metrics", timeout=60) as answer:  # noqa: S310 - our own node
            text = answer.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def sample_names(families):
    """Every name that a query may use."""
    names = set()
    for name, family in families.items():
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}
        names |= {name + suffix for suffix in suffixes.get(family.type, ("",))}
    return names


def test_every_metric_of_the_dashboard_is_exported(dashboard, families):
    text = json.dumps([dashboard["panels"], dashboard["templating"]])
    asked = set(re.findall(r"\blfscp_\w+", text))
    assert len(asked) > 30
    assert asked - sample_names(families) == set()


def test_what_is_refused_for_its_cost_is_on_the_dashboard(dashboard):
    """One row for all budgets: each refusal, and each gauge of what is taken."""
    titles = [panel["title"] for panel in dashboard["panels"]]
    text = json.dumps(dashboard["panels"][titles.index("Budgets") :])
    assert BUDGETS - set(re.findall(r"\blfscp_\w+", text)) == set()


def test_panels_are_whole_and_do_not_overlap(dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert all(target["expr"] for target in panel["targets"])


def test_names_follow_prometheus(families):
    """https://prometheus.io/docs/practices/naming/: a prefix, base units, help for each."""
    for name, family in families.items():
        assert re.fullmatch(r"lfscp_[a-z][a-z0-9_]*", name)
        assert family.documentation.endswith("."), name
        assert not re.search(r"_(ms|milliseconds|kb|mb|minutes)\b", name)
