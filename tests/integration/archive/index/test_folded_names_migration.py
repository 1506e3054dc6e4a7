"""The migration that folds names: an index of an older version finds Müller by muller."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, select, text

from lfscp.archive.durability import Durability
from lfscp.archive.index import migrations
from lfscp.archive.index.database.connect import open_database
from lfscp.archive.index.database.database import sqlite_url
from lfscp.archive.index.index import Index
from lfscp.archive.index.tables.schema import patient, study

NAMES = ["Müller^Jörg", "Doe^Jane", "", "山田^太郎", "Straße"]
FOLDED = ["muller^jorg\\mueller^joerg", "", "", "山田^太郎", "strasse"]


@pytest.fixture(params=["sqlite", "postgresql"])
def old_index(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an index that the version before made, with some patients and studies."""
    url = sqlite_url(tmp_path / "index.sqlite")
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        url = server.url(server.new_database())
    is_sqlite = request.param == "sqlite"
    engine = create_engine(url) if is_sqlite else open_database(url, Durability.OS).engine
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        for number, name in enumerate(NAMES, 1):
            values = {"id": number, "name": name, "uid": f"1.{number}", "other": f"{name}\\X"}
            connection.execute(
                text(
                    "INSERT INTO patient (id, patient_id, patient_name) VALUES (:id, :uid, :name)"
                ),
                values,
            )
            connection.execute(
                text(
                    "INSERT INTO study (id, patient_id_fk, study_instance_uid, patient_name, "
                    "other_patient_names, referring_physician_name, received_at, updated_at) "
                    "VALUES (:id, :id, :uid, :name, :other, :name, 0, 0)"
                ),
                values,
            )
    engine.dispose()
    return url


def test_names_of_an_older_index_are_folded(old_index: str) -> None:
    with closing(Index(old_index)) as index, index.engine.connect() as connection:
        names = select(study.c.patient_name_folded).order_by(study.c.id)
        assert list(connection.execute(names).scalars()) == FOLDED
        names = select(patient.c.patient_name_folded).order_by(patient.c.id)
        assert list(connection.execute(names).scalars()) == FOLDED
        names = select(study.c.referring_physician_name_folded).order_by(study.c.id)
        assert list(connection.execute(names).scalars()) == FOLDED
        others = list(
            connection.execute(
                select(study.c.other_patient_names_folded).order_by(study.c.id)
            ).scalars()
        )
        assert others[:2] == ["muller^jorg\\x\\mueller^joerg\\x", ""]
