"""The index in PostgreSQL: shared by nodes, refused in one line, and there again after a crash."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from lfscp.archive.archive import Archive, StoreOutcome
from lfscp.archive.errors import ArchiveError, InDoubtError, OutOfResourcesError
from lfscp.archive.index import migrations
from lfscp.archive.index.database import postgresql
from lfscp.archive.index.database.interruption import Interruption
from lfscp.archive.index.index import Index
from lfscp.archive.index.nodes import Membership, nodes
from lfscp.archive.query.query import Model, parse_query
from lfscp.archive.upkeep.check import Difference, check
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import EXPLICIT, encoded, received
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgresql_programs import binaries
from tests.support.postgresql_server import PostgreSQLServer
from tests.support.schema_differences import differences

TIMEOUT_S = 20.0
JOIN_S = 60.0


@contextmanager
def two_nodes(url: str, folder: Path, **options: Any) -> Iterator[tuple[Archive, Archive]]:
    """Two nodes of one index and one folder of objects, each with a data folder of its own."""
    shared = {"index_url": url, "objects_root": folder / "objects", **options}
    with Archive.open(folder / "a", **shared) as one, Archive.open(folder / "b", **shared) as other:
        yield one, other


def in_parallel(*works: Any) -> None:
    """Do all at once, each in a thread; the first failure is raised."""
    failures: list[BaseException] = []

    def run(work: Any) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


# ---- the schema


def schema_of(server: PostgreSQLServer, database: str) -> set[tuple[str, ...]]:
    columns = server.sql(
        "SELECT table_name, column_name, data_type, collation_name, column_default, is_nullable "
        "FROM information_schema.columns WHERE table_schema = 'public'",
        database,
    )
    indexes = server.sql("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'", database)
    return {tuple(map(str, row)) for row in (*columns, *indexes)}


def test_a_new_index_and_a_migrated_one_are_the_same(
    postgresql_server: PostgreSQLServer, migrated_template: str
) -> None:
    old = postgresql_server.new_database()
    engine = create_engine(postgresql_server.url(old))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        connection.execute(text("INSERT INTO patient (patient_id) VALUES ('P1')"))
    engine.dispose()
    index = Index(postgresql_server.url(old))
    assert index.counts()[Level.PATIENT] == 1
    with index.engine.connect() as connection:
        assert differences(connection) == []
    index.close()
    assert schema_of(postgresql_server, old) == schema_of(postgresql_server, migrated_template)
    postgresql_server.drop(old)


def test_nodes_that_start_at_once_make_one_schema(postgresql_server: PostgreSQLServer) -> None:
    database = postgresql_server.new_database()
    url = postgresql_server.url(database)
    in_parallel(*[lambda: Index(url).close()] * 5)
    assert postgresql_server.sql("SELECT version_num FROM alembic_version", database) == [
        (migrations.HEAD,)
    ]
    postgresql_server.drop(database)


# ---- several nodes


def store_in_process(url: str, folder: Path, node: int, start: Any) -> None:
    with Archive.open(
        folder / str(node), index_url=url, objects_root=folder / "objects", durability="os"
    ) as archive:
        start.wait(JOIN_S)
        for number in range(20):
            of = {"StudyInstanceUID": f"1.2.{number}", "SeriesInstanceUID": f"1.2.{number}.1"}
            archive.store(received(1000 * node + number, **of))
            archive.store(received(number, SOPInstanceUID=f"1.2.{number}.9", **of))


def test_the_same_new_studies_from_several_processes_are_one_each(
    postgresql_url: str, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    writers = [
        context.Process(
            target=store_in_process, args=(postgresql_url, tmp_path, node, start), daemon=True
        )
        for node in (1, 2, 3)
    ]
    try:
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(JOIN_S)
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
    finally:
        for writer in writers:
            writer.kill()
    with Archive.open(
        tmp_path / "1", index_url=postgresql_url, objects_root=tmp_path / "objects"
    ) as archive:
        found = archive.statistics()
        assert (found.patients, found.studies, found.series, found.instances) == (1, 20, 20, 80)
        assert list(check(archive)) == []


def test_one_node_stores_what_another_deletes(postgresql_url: str, tmp_path: Path) -> None:
    with two_nodes(postgresql_url, tmp_path, durability="os") as (one, other):

        def store() -> None:
            for number in range(60):
                one.store(received(number))

        def delete() -> None:
            for _ in range(30):
                other.delete(Level.STUDY, "1.2.3")

        in_parallel(store, store, delete)
        assert list(check(one)) == []
        statistics = one.statistics()
        assert statistics.studies == statistics.series == (1 if statistics.instances else 0)


def test_a_known_series_costs_at_most_two_statements(
    postgresql_server: PostgreSQLServer, postgresql_url: str, tmp_path: Path
) -> None:
    database = postgresql_url.rpartition("/")[2]
    postgresql_server.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")

    def calls() -> int:
        ((number,),) = postgresql_server.sql(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s "
            "JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = %s",
            parameters=(database,),
        )
        return int(number)

    with Archive.open(tmp_path, index_url=postgresql_url, durability="os") as archive:
        for number in range(2):
            archive.store(received(number))  # the series becomes known, its study is touched
        before = calls()
        for number in range(10, 30):
            archive.store(received(number))
        assert calls() - before <= 2 * 20
        assert archive.statistics().instances == 22


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of what is written here
def test_values_too_long_for_an_index_are_stored_all_the_same(
    postgresql_url: str, tmp_path: Path
) -> None:
    """PostgreSQL's indexes take some 2,700 bytes of a row, SQLite's any number."""
    noise = "".join(chr(0x4E00 + (number * 7919) % 20000) for number in range(6000))
    with Archive.open(tmp_path, index_url=postgresql_url) as archive:
        stored = archive.store(
            received(1, SpecificCharacterSet="ISO_IR 192", PatientName=noise, StudyID=noise)
        )
        assert stored.outcome is StoreOutcome.STORED
        assert archive.store(received(2)).outcome is StoreOutcome.STORED
        (row,) = archive.select(Level.IMAGE, {Level.IMAGE: ["1.2.3.1.1"]})
        assert noise.encode() in row.path.read_bytes()
        with archive.index.engine.connect() as connection:
            (name,) = connection.execute(text("SELECT patient_name FROM patient")).scalars()
        assert name == noise[:300]


@pytest.mark.parametrize(("of_the_server", "expected"), [("4", "2"), ("1.1", "1.1")])
def test_what_an_administrator_says_of_the_disk_counts(
    postgresql_server: PostgreSQLServer, postgresql_url: str, of_the_server: str, expected: str
) -> None:
    database = postgresql_url.rpartition("/")[2]
    postgresql_server.sql(f"ALTER DATABASE {database} SET random_page_cost = {of_the_server}")
    index = Index(postgresql_url)
    with index.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW random_page_cost").scalar() == expected
    index.close()
    postgresql_server.sql(f"ALTER DATABASE {database} RESET random_page_cost")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("encoding", ["latin1", "sql_ascii"])
def test_an_encoding_in_the_url_changes_no_text(
    postgresql_server: PostgreSQLServer, postgresql_url: str, tmp_path: Path, encoding: str
) -> None:
    url = f"{postgresql_url}?client_encoding={encoding}"
    of = {"SpecificCharacterSet": "ISO_IR 192", "StudyDescription": "Schädel 山"}
    with Archive.open(tmp_path, index_url=url) as archive:
        for number in range(3):
            archive.store(received(number, **of, ImageComments="Übersicht"))
    database = postgresql_url.rpartition("/")[2]
    assert postgresql_server.sql("SELECT study_description FROM study", database) == [
        ("Schädel 山",)
    ]


def test_a_query_that_is_cut_leaves_its_connection_to_the_next(
    postgresql_url: str, tmp_path: Path
) -> None:
    options = {"transfer_syntax_uid": EXPLICIT, "retrieve_ae_title": "A"}
    with Archive.open(
        tmp_path, index_url=postgresql_url, index_connections=1, durability="os"
    ) as archive:
        for number in range(30):
            archive.store(received(number, StudyInstanceUID=f"1.2.3.{number}"))
        identifier = asked()
        identifier.StudyInstanceUID = ""
        query = parse_query(identifier, Model.STUDY_ROOT)
        archive.store(received(99, StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.4.1"))
        whole = len(list(archive.find(query, **options)))
        for _ in range(3):
            assert len(list(archive.find(query, limit=1, **options))) == 1
            given_up = archive.find(query, **options)
            next(given_up)
            given_up.close()
        assert len(list(archive.find(query, **options))) == whole == 31


def test_one_address_holds_half_of_the_connections_for_queries(
    postgresql_url: str, tmp_path: Path
) -> None:
    """Whoever takes responses slowly holds up queries of his own."""
    options = {"transfer_syntax_uid": EXPLICIT, "retrieve_ae_title": "A"}

    def of(address: str) -> dict[str, Any]:
        return {**options, "interruption": Interruption(source=address)}

    identifier = asked()
    identifier.StudyInstanceUID = ""
    query = parse_query(identifier, Model.STUDY_ROOT)
    with Archive.open(
        tmp_path, index_url=postgresql_url, index_connections=4, index_timeout_s=0.2
    ) as archive:
        for number in range(3):
            archive.store(received(number, StudyInstanceUID=f"1.2.3.{number}"))
        slow = [archive.find(query, **of("10.0.0.1")) for _ in range(2)]
        for each in slow:
            next(each)
        with pytest.raises(ArchiveError):
            next(archive.find(query, **of("10.0.0.1")))
        assert len(list(archive.find(query, **of("10.0.0.2")))) == 3
        slow.pop().close()
        assert len(list(archive.find(query, **of("10.0.0.1")))) == 3
        slow.pop().close()


# ---- refused at start, in one line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"database": "elsewhere"}, "elsewhere"),
        ({"username": "guest", "password": "wrong-secret"}, "password"),
        ({"port": 1}, "refused"),
        ({"query": {"service": "none-such"}}, "none-such"),
    ],
)
def test_a_database_that_is_not_to_be_had_is_said(
    postgresql_server: PostgreSQLServer, change: dict[str, Any], said: str
) -> None:
    from sqlalchemy.engine import make_url

    postgresql_server.sql(
        "DO $$ BEGIN CREATE ROLE guest LOGIN PASSWORD 'secret'; "
        "EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    url = make_url(postgresql_server.url("postgres")).set(**change)
    with pytest.raises(ArchiveError, match=said) as raised:
        Index(url.render_as_string(hide_password=False))
    line = str(raised.value)
    assert "\n" not in line
    assert "check index.url" in line
    assert "wrong-secret" not in line


@pytest.mark.parametrize("url", ["no url: s3cret", "postgresql+psycopg://u:s3cret@h:port/d"])
def test_what_is_no_url_is_said_without_its_password(url: str) -> None:
    with pytest.raises(ArchiveError, match=r"index\.url") as raised:
        Index(url)
    assert "s3cret" not in str(raised.value)


def test_a_password_comes_from_the_environment(
    postgresql_server: PostgreSQLServer,
    postgresql_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    postgresql_server.sql("DROP ROLE IF EXISTS guest")
    postgresql_server.sql("CREATE ROLE guest LOGIN SUPERUSER PASSWORD 'p@ss:word'")
    file = tmp_path / "pgpass"
    file.write_text(r"*:*:*:guest:p@ss\:word")
    file.chmod(0o600)
    url = postgresql_url.replace("lfscp@", "guest@", 1)
    monkeypatch.setenv("PGPASSFILE", str(file))
    Index(url).close()
    postgresql_server.sql("ALTER ROLE guest NOSUPERUSER")


def test_an_index_of_a_newer_version_is_not_touched(
    postgresql_server: PostgreSQLServer, postgresql_url: str, tmp_path: Path
) -> None:
    database = postgresql_url.rpartition("/")[2]
    postgresql_server.sql("UPDATE alembic_version SET version_num = '9999'", database)
    with pytest.raises(ArchiveError, match=r"schema 9999.*newer"):
        Archive.open(tmp_path, index_url=postgresql_url)


def test_a_database_of_another_encoding_is_refused(postgresql_server: PostgreSQLServer) -> None:
    postgresql_server.sql(
        "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    with pytest.raises(ArchiveError, match="encoding LATIN1"):
        Index(postgresql_server.url("latin"))
    postgresql_server.drop("latin")


def test_nodes_of_one_title_have_to_agree(postgresql_url: str) -> None:
    index = Index(postgresql_url)
    kept = {"objects.url": "file:///srv", "duplicates": "keep"}
    first = Membership(index, "1", "LFSCP", kept)
    first.join()
    Membership(index, "2", "LFSCP", kept).join()
    replacing = {**kept, "duplicates": "replace"}
    with pytest.raises(ArchiveError, match="duplicates is replace here and keep on the node LFSCP"):
        Membership(index, "3", "LFSCP", replacing).join()
    Membership(index, "4", "OTHER", replacing).join()
    with pytest.raises(ArchiveError, match=r"objects\.url is file:///mnt here"):
        Membership(index, "5", "THIRD", {**kept, "objects.url": "file:///mnt"}).join()
    with index.engine.connect() as connection:
        assert [each["id"] for each in nodes(connection)] == ["1", "2", "4"]
    first.leave()
    with index.engine.connect() as connection:
        assert [each["id"] for each in nodes(connection)] == ["2", "4"]
    index.close()


def test_a_node_that_was_followed_on_does_not_sign_off_its_successor(postgresql_url: str) -> None:
    index = Index(postgresql_url)
    settings = {"duplicates": "keep"}
    one, follower = (Membership(index, "1", "LFSCP", settings) for _ in range(2))
    one.join()
    follower.join()
    one.leave()
    with index.engine.connect() as connection:
        assert [each["id"] for each in nodes(connection)] == ["1"]
    index.close()


def test_a_node_joins_again_with_other_settings_when_it_is_alone(postgresql_url: str) -> None:
    index = Index(postgresql_url)
    Membership(index, "1", "LFSCP", {"duplicates": "keep"}).join()
    Membership(index, "1", "LFSCP", {"duplicates": "reject"}).join()
    index.close()


# ---- a server that goes away


@pytest.fixture(scope="module")
def frail_server(postgresql_server: PostgreSQLServer) -> Iterator[PostgreSQLServer]:
    """A server of these tests alone, to be killed."""
    programs = binaries()
    assert programs is not None
    with PostgreSQLServer(programs) as server:
        yield server


@pytest.fixture
def frail_url(frail_server: PostgreSQLServer) -> str:
    return frail_server.url(frail_server.new_database())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_stores_wait_for_a_server_that_comes_back(
    frail_server: PostgreSQLServer, frail_url: str, tmp_path: Path, how: int
) -> None:
    """Every store is acknowledged in the end, once, however the server went."""
    begun = threading.Semaphore(0)
    with Archive.open(tmp_path, index_url=frail_url, index_timeout_s=JOIN_S) as archive:

        def store(first: int) -> None:
            for number in range(first, first + 120):
                assert archive.store(received(number)).outcome is StoreOutcome.STORED
                begun.release()

        def crash() -> None:
            for _ in range(30):
                assert begun.acquire(timeout=JOIN_S)
            frail_server.stop(how)
            frail_server.start()

        in_parallel(lambda: store(0), lambda: store(1000), lambda: store(2000), crash)
        assert archive.statistics().instances == 360
        assert list(check(archive)) == []
        query = parse_query(asked(), Model.STUDY_ROOT)
        options = {"transfer_syntax_uid": EXPLICIT, "retrieve_ae_title": "A"}
        frail_server.stop(signal.SIGINT)
        frail_server.start()
        assert len(list(archive.find(query, **options))) == 1


def asked() -> Any:
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = "1.2.3"
    return identifier


def test_a_server_that_stays_away_is_out_of_resources(
    frail_server: PostgreSQLServer,
    frail_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lfscp.archive.in_doubt.SETTLED_AFTER_S", 0.0)
    with Archive.open(tmp_path, index_url=frail_url, index_timeout_s=0.5) as archive:
        archive.store(received(1))
        frail_server.stop(signal.SIGQUIT)
        try:
            with pytest.raises(OutOfResourcesError):
                archive.store(received(2))
            with pytest.raises(OutOfResourcesError):  # no connection was there: nothing can be done
                archive.store(received(3))
            assert not (archive.files.root / "1.2.3/1.2.3.1/1.2.3.1.3.dcm").exists()
            with pytest.raises(ArchiveError):
                archive.statistics()
        finally:
            frail_server.start()
        for number in (2, 3):
            assert archive.store(received(number)).outcome is StoreOutcome.STORED
        assert archive.statistics().instances == 3
        assert list(check(archive)) == [], "what was not acknowledged has left nothing"


class Cut(NamedTuple):
    """A proxy before the server, and the URL of the index behind it."""

    proxy: CuttingProxy
    url: str


@pytest.fixture
def cut(postgresql_server: PostgreSQLServer, postgresql_url: str) -> Iterator[Cut]:
    """The index behind a proxy that loses answers or connections."""
    proxy = CuttingProxy(postgresql_server.port)
    try:
        yield Cut(proxy, postgresql_url.replace(f":{postgresql_server.port}/", f":{proxy.port}/"))
    finally:
        proxy.close()


def store_and_cut(proxy: CuttingProxy, store: Callable[[], None]) -> None:
    """Store, and end all connections once an answer is held back."""

    def cut_when_held() -> None:
        assert proxy.held.wait(JOIN_S)
        proxy.cut()

    in_parallel(store, cut_when_held)


def test_a_session_that_is_stuck_at_its_beginning_does_not_hold_a_store(
    cut: Cut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_CONNECT_TIMEOUT_S", 0.3)
    with Archive.open(tmp_path, index_url=cut.url, index_timeout_s=1.0) as archive:
        archive.index.close()
        cut.proxy.hold_after("set_config")
        failures: list[Exception] = []

        def store() -> None:
            try:
                archive.store(received(1))
            except OutOfResourcesError as error:
                failures.append(error)

        in_parallel(store)
        assert len(failures) == 1
        cut.proxy.cut()
        assert archive.store(received(1)).outcome is StoreOutcome.STORED
        assert list(check(archive)) == []


@pytest.mark.parametrize("duplicates", ["keep", "replace"])
def test_a_commit_whose_answer_is_lost_counts_once(
    cut: Cut, tmp_path: Path, duplicates: str
) -> None:
    with Archive.open(tmp_path, index_url=cut.url, duplicates=duplicates) as archive:
        archive.store(received(1))
        archive.store(received(2))
        number, pixels = (3, b"\0" * 64) if duplicates == "keep" else (2, b"\1" * 64)
        outcomes: list[StoreOutcome] = []
        cut.proxy.hold()

        def store() -> None:
            outcomes.append(archive.store(received(number, pixels=pixels)).outcome)

        store_and_cut(cut.proxy, store)
        assert outcomes == [StoreOutcome.STORED if duplicates == "keep" else StoreOutcome.REPLACED]
        (row,) = archive.select(Level.IMAGE, {Level.IMAGE: [f"1.2.3.1.{number}"]})
        assert row.path.read_bytes().endswith(encoded(number, pixels=pixels))
        assert list(check(archive)) == []


def test_a_file_stays_when_the_server_goes_again_before_it_tells_of_the_row(
    cut: Cut, postgresql_server: PostgreSQLServer, postgresql_url: str, tmp_path: Path
) -> None:
    with Archive.open(tmp_path, index_url=cut.url, index_timeout_s=2.0) as archive:
        archive.store(received(1))
        cut.proxy.hold_after("COMMIT")
        cut.proxy.end_at("ROLLBACK")  # after a unique violation, by its own row

        def store() -> None:
            with pytest.raises(InDoubtError):
                archive.store(received(2, SeriesInstanceUID="1.2.3.2"))

        store_and_cut(cut.proxy, store)
        path = archive.files.root / "1.2.3/1.2.3.2/1.2.3.1.2.dcm"
        database = postgresql_url.rpartition("/")[2]
        rows = postgresql_server.sql("SELECT count(*) FROM instance", database)
        assert (rows, path.exists()) == ([(2,)], True)


def test_a_statement_of_a_client_that_is_gone_ends_while_it_waits(
    cut: Cut, postgresql_server: PostgreSQLServer, postgresql_url: str, tmp_path: Path
) -> None:
    """Else it would be committed long after: the file of a store in doubt is gone by then."""
    database = postgresql_url.rpartition("/")[2]
    waiting = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def count(expected: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while postgresql_server.sql(waiting, database) != [(expected,)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with (
        Archive.open(tmp_path, index_url=cut.url, index_timeout_s=0.5) as archive,
        psycopg.connect(postgresql_url.replace("+psycopg", "")) as other,
    ):
        archive.store(received(1))
        other.execute("SELECT id FROM series FOR UPDATE")

        def store() -> None:
            with pytest.raises(InDoubtError):
                archive.store(received(2))

        def go() -> None:
            count(1)
            time.sleep(0.5)  # alone by then, without a limit of the wait
            cut.proxy.close()

        in_parallel(store, go)
        count(0)
        other.rollback()
    assert postgresql_server.sql("SELECT count(*) FROM instance", database) == [(1,)]


def test_a_store_that_ctrl_c_ends_leaves_no_row_without_its_file(
    postgresql_server: PostgreSQLServer, postgresql_url: str, tmp_path: Path
) -> None:
    """As `lfscp import` does it, in the main thread."""
    database = postgresql_url.rpartition("/")[2]
    postgresql_server.sql(
        "CREATE FUNCTION pause() RETURNS trigger AS "
        "'BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END' LANGUAGE plpgsql",
        database,
    )
    with Archive.open(tmp_path, index_url=postgresql_url) as archive:
        archive.store(received(1))
        pause = "CREATE TRIGGER pause BEFORE INSERT ON instance EXECUTE FUNCTION pause()"
        postgresql_server.sql(pause, database)
        ending = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        ending.start()
        with pytest.raises(KeyboardInterrupt):
            archive.store(received(2))
        ending.join()
        postgresql_server.sql("DROP FUNCTION pause CASCADE", database)
        assert {each.problem for each in check(archive)} <= {Difference.LEFT_OVER}
