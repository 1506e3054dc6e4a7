"""Nodes of one PostgreSQL index: one finds what another stores; odd ones out are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from tests.support.node_process import StartNode, run_lfscp
from tests.support.postgresql_server import PostgreSQLServer
from tests.support.pynetdicom_client import find, get, store
from tests.support.sample_objects import CT, made

STUDY = "1.2.826.0.1.3680043.8.498.88"


def configuration(url: str, objects: Path, more: str = "") -> str:
    return f'''
        {more}
        [index]
        url = "{url}"
        timeout_s = 30.0
        [objects]
        url = "file://{objects}"
    '''


def test_what_one_node_stores_another_finds_and_gives(
    start_node: StartNode, postgresql_url: str, tmp_path: Path
) -> None:
    shared = configuration(postgresql_url, tmp_path / "objects")
    one, other = (start_node(name, configuration=shared) for name in ("one", "other"))
    file = made(tmp_path / "sent", StudyInstanceUID=STUDY, PatientID="P88")
    assert store(one.port, file) == [0x0000]
    (found,) = find(other.port, {"StudyInstanceUID": STUDY, "PatientID": ""}, "STUDY")
    assert found.PatientID == "P88"
    status, objects = get(
        other.port, {"StudyInstanceUID": STUDY}, "STUDY", [(CT, ExplicitVRLittleEndian)]
    )
    assert (status, len(objects)) == (0x0000, 1)
    assert store(other.port, file) == [0x0000]
    (found,) = find(
        one.port, {"StudyInstanceUID": STUDY, "NumberOfStudyRelatedInstances": ""}, "STUDY"
    )
    assert found.NumberOfStudyRelatedInstances == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [('duplicates = "reject"', "duplicates is reject here and keep on the node LFSCP")],
)
def test_a_node_of_the_same_title_with_other_settings_does_not_start(
    start_node: StartNode, postgresql_url: str, tmp_path: Path, change: str, said: str
) -> None:
    start_node("one", configuration=configuration(postgresql_url, tmp_path / "objects"))
    file = tmp_path / "lfscp.toml"
    file.write_text(configuration(postgresql_url, tmp_path / "objects", change))
    flags = ["--data-dir", tmp_path / "other", "--port", "0", "--no-http"]
    refused = run_lfscp("serve", "--config", file, *flags)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("user", "database", "said"),
    [("guest:s3cr3t", "postgres", "password"), ("lfscp", "none_such", "none_such")],
)
def test_a_database_that_is_not_to_be_had_is_one_line(
    postgresql_server: PostgreSQLServer, tmp_path: Path, user: str, database: str, said: str
) -> None:
    url = f"postgresql+psycopg://{user}@127.0.0.1:{postgresql_server.port}/{database}"
    refused = run_lfscp(
        *("serve", "--data-dir", tmp_path, "--port", "0", "--no-http"),
        env={"LFSCP_INDEX__URL": url},
    )
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "s3cr3t" not in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
