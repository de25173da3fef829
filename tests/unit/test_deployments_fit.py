"""What `deploy/`, the Dockerfile and the compose file say is what their tools and our settings understand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from litestar.handlers import HTTPRouteHandler

from api.routes import ROUTES
from shared.settings import Settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OTHERS = {"Kustomization", "ScaledObject", "TriggerAuthentication"}
"""Not of Kubernetes itself."""


def manifests() -> Iterator[Any]:
    for path in sorted(KUBERNETES.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield pytest.param(document, id=f"{path.stem}-{document['kind']}")


def pods() -> list[dict[str, Any]]:
    kinds = {"Deployment", "StatefulSet"}
    found = [each.values[0] for each in manifests()]
    return [each["spec"]["template"]["spec"] for each in found if each["kind"] in kinds]


@pytest.mark.parametrize("manifest", list(manifests()))
def test_kubernetes_knows_every_field(manifest: dict[str, Any]) -> None:
    if manifest["kind"] not in OTHERS:
        kubernetes_validate.validate(manifest, "1.32", strict=True)


def test_every_manifest_is_applied() -> None:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}


def test_pods_are_not_root_and_write_only_where_they_may() -> None:
    for pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}


def test_a_pod_is_given_the_time_to_drain() -> None:
    literals = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["configMapGenerator"][0][
        "literals"
    ]
    drain_s = float(dict(each.split("=") for each in literals)["BACKLINE_DRAIN_TIMEOUT_S"])
    for pod in pods():
        for container in pod["containers"]:
            if container["image"] == "backline":
                hook = (
                    container.get("lifecycle", {})
                    .get("preStop", {})
                    .get("exec", {})
                    .get("command", ["", "0"])
                )
                assert pod["terminationGracePeriodSeconds"] > drain_s + float(hook[1])


def test_compose_hardens_every_service_and_lets_it_drain() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(services) == {"redis", "api", "worker"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] == "unless-stopped"
    for name in ("api", "worker"):
        assert int(services[name]["stop_grace_period"].rstrip("s")) > Settings().drain_timeout_s
    assert "container_name" not in services["worker"]
    assert "ports" not in services["worker"]  # or no second one could start
    assert "--maxmemory-policy noeviction" in services["redis"]["command"]
    assert "--appendonly yes" in services["redis"]["command"]


def test_only_settings_that_exist_are_set() -> None:
    known = {f"BACKLINE_{name.upper()}" for name in Settings.__struct_fields__}
    places = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *(ROOT / "deploy").rglob("*.*")]
    named = {
        name
        for path in places
        if path.is_file()
        for name in re.findall(r"\bBACKLINE_[A-Z_]+", path.read_text())
    }
    assert named - known == {"BACKLINE_PORT"} - known  # the compose file's own


def test_the_dockerfile_is_as_its_linter_wants_it() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [linter, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_holds_every_package_of_the_wheel() -> None:
    copied = set(re.findall(r"^COPY (\w+) \w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    packages = re.search(r"^packages = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert packages is not None
    assert copied == set(re.findall(r'"(\w+)"', packages[1]))


_SYSTEMD = shutil.which("systemd-analyze")


@pytest.mark.skipif(_SYSTEMD is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    "unit", sorted((ROOT / "deploy" / "systemd").glob("*.service")), ids=lambda path: path.stem
)
def test_systemd_understands_the_units(unit: Path, tmp_path: Path) -> None:
    text = re.sub(
        r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit.read_text(), flags=re.MULTILINE
    )
    copy = tmp_path / unit.name.replace("@", "")
    copy.write_text(text)
    done = subprocess.run(
        [str(_SYSTEMD), "verify", copy], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


_PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(_PROMTOOL is None, reason="promtool is not installed; tests/integration reads the rules")
@pytest.mark.parametrize(
    "argv", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")], ids=lambda a: a[0]
)
def test_the_alerts_fire_when_they_should(argv: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(_PROMTOOL), *argv],
        cwd=ROOT / "deploy" / "prometheus",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_can_be_imported() -> None:
    board = json.loads((ROOT / "deploy" / "grafana" / "backline.json").read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"]))) - variables == {"__rate_interval"}
    for panel in board["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        assert panel["type"] == "row" or panel["targets"]


def test_pods_are_watched_where_they_show_their_metrics() -> None:
    named = {
        port["name"]
        for pod in pods()
        for container in pod["containers"]
        for port in container.get("ports", ())
    }
    for monitor in yaml.safe_load_all((ROOT / "deploy/prometheus/pod-monitors.yaml").read_text()):
        assert monitor["kind"] == "PodMonitor"
        assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} <= named


def test_prometheus_asks_where_the_metrics_are() -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    assert [(ROOT / "deploy/prometheus" / name).is_file() for name in config["rule_files"]] == [True]
    (discovered,) = [each for job in config["scrape_configs"] for each in job.get("http_sd_configs", ())]
    paths = {path for route in ROUTES if isinstance(route, HTTPRouteHandler) for path in route.paths}
    assert {urlsplit(discovered["url"]).path, "/metrics"} <= paths


def test_every_alert_is_described() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    groups = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"]
    assert {rule["alert"] for group in groups for rule in group["rules"]} == set(
        re.findall(r"`(Backline[A-Z]\w+)`", page)
    )
