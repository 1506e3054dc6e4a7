"""The files of a deployment with several nodes say what the program understands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from lfscp.config.sources import resolve_settings

CONFIG = Path(__file__).parents[2] / "config"
HAPROXY = (CONFIG / "haproxy.cfg").read_text()
NODES = {"node1", "node2", "node3"}
# Of the Compose specification, those that this project uses.
SERVICE_KEYS = {
    *("build", "command", "depends_on", "entrypoint", "environment", "healthcheck", "image"),
    *("networks", "ports", "restart", "stop_grace_period", "volumes"),
}


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((CONFIG / "compose.yaml").read_text())


def settings_of(service: Any) -> dict[str, str]:
    """A node's environment as Compose hands it over."""
    texts = {name: str(value) for name, value in service["environment"].items()}
    return {
        name: re.sub(r"\$\{\w+:\?[^}]*\}", "secret", text).replace("$$", "$")
        for name, text in texts.items()
    }


def test_every_service_uses_known_keys_networks_and_volumes(compose):
    assert set(compose) == {"name", "x-node", "services", "networks", "volumes"}
    for name, service in compose["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert set(service["networks"]) <= set(compose["networks"]), name
        assert set(service.get("depends_on", ())) <= set(compose["services"]), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source.startswith("./") or source in compose["volumes"], volume


def test_every_node_has_settings_that_the_program_takes(compose):
    seen = set()
    for name in NODES:
        service = compose["services"][name]
        settings = resolve_settings(environment=settings_of(service)).settings
        assert settings.index.url.startswith("postgresql+psycopg://lfscp:secret@postgres/")
        assert settings.objects.is_bucket
        assert settings.server.proxy_protocol == ("172.31.112.0/24",)
        seen.add((settings.server.ae_title, settings.objects.url))
        assert service["volumes"] == [f"{name}:/var/lib/lfscp"]
    assert len(seen) == 1  # they stand for each other


def test_what_the_nodes_are_told_of_the_others_is_true(compose):
    services = compose["services"]
    environment = settings_of(services["node1"])
    (subnet,) = compose["networks"]["inside"]["ipam"]["config"]
    assert subnet["subnet"] in environment["LFSCP_SERVER__PROXY_PROTOCOL"]
    assert environment["AWS_ACCESS_KEY_ID"] == services["s3"]["environment"]["MINIO_ROOT_USER"]
    assert "mc mb --ignore-existing s3/lfscp" in services["bucket"]["command"][0]
    assert environment["LFSCP_OBJECTS__URL"].startswith("s3://lfscp/")


def test_no_secret_is_written_down(compose):
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "SECRET" in name:
                assert value.startswith("${LFSCP_PASSWORD:?"), name


def test_the_balancer_knows_the_nodes_of_compose(compose):
    servers = re.findall(r"server (\w+) (\w+):(\d+) port (\d+)", HAPROXY)
    assert {(name, host) for name, host, _, _ in servers} == {(name, name) for name in NODES}
    assert {(port, page) for _, _, port, page in servers} == {("11112", "8080")}
    spare = re.findall(r"server \w+ (\w+):11112 no-check backup", HAPROXY)
    assert set(spare) == NODES
    assert set(compose["services"]["balancer"]["depends_on"]) >= NODES
    assert "send-proxy-v2" in HAPROXY


def test_the_image_is_made_of_what_is_there():
    image = (CONFIG / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", image, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (CONFIG.parent / name).exists(), name
    project = tomllib.loads((CONFIG.parent / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"/src\[([a-z0-9,-]+)\]", image)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert "gpl" not in extras
    (python,) = set(re.findall(r"^FROM python:(\S+)-slim", image, re.MULTILINE))
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]


def test_the_image_starts_a_node_with_settings_that_the_program_takes():
    image = (CONFIG / "Dockerfile").read_text()
    variables = dict(re.findall(r"(LFSCP_\w+)=(\S+)", image))
    settings = resolve_settings(environment=variables).settings
    assert str(settings.data_dir) == "/var/lib/lfscp"
    assert settings.logging.format == "json"
    (exposed,) = re.findall(r"^EXPOSE (.*)$", image, re.MULTILINE)
    assert exposed.split() == [str(settings.server.port), str(settings.web.port)]
    assert 'ENTRYPOINT ["lfscp"]\nCMD ["serve"]\n' in image


def test_the_nodes_of_compose_are_made_of_the_same_image(compose):
    build = compose["services"]["node1"]["build"]
    assert (CONFIG / build["context"] / build["dockerfile"]).samefile(CONFIG / "Dockerfile")
