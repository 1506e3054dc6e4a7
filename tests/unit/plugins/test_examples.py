"""The examples of config/plugins.md, as they stand there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import SecondaryCaptureImageStorage

from lfscp.archive.archive import Archive
from lfscp.archive.errors import StoreRefusedError
from lfscp.archive.store_file import store_file
from lfscp.dicom.values.attributes import Level
from tests.support.archive_datasets import received
from tests.support.plugin_files import example
from tests.unit.plugins.conftest import Begin


@contextmanager
def web_server() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """A server that keeps the JSON that is posted to it: its URL, and what came."""
    came: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/studies", came
        server.shutdown()
        thread.join()


def test_the_webhook_tells_of_a_complete_study(
    archive: Archive, begin: Begin, tmp_path: Path
) -> None:
    with web_server() as (url, came):
        file = example(tmp_path, "webhook.py")
        plugins = begin(file, settings={"webhook": {"url": url}})
        archive.store(received(1))
        archive.store(received(2))
        plugins.notify_study_complete("1.2.3")
        plugins.stop()
    assert came == [{"study": "1.2.3", "objects": 2, "archive": "LFSCP"}]


def test_the_accession_table_decides_and_may_change(
    archive: Archive, begin: Begin, tmp_path: Path
) -> None:
    table = tmp_path / "accession.csv"
    table.write_text("accession,ward\nA1,ICU\n")
    file = example(tmp_path, "accession.py")
    settings = {"accession": {"file": str(table)}}
    begin(file, settings=settings, on_failure="refuse")
    archive.store(received(1, AccessionNumber="A1"))
    with pytest.raises(StoreRefusedError, match="unknown accession number") as raised:
        archive.store(received(2, AccessionNumber="A22"))
    assert not raised.value.is_temporary
    table.write_text("accession,ward\nA1,ICU\nA22,ER\n")
    archive.store(received(2, AccessionNumber="A22"))
    table.unlink()
    with pytest.raises(StoreRefusedError) as raised:
        archive.store(received(3, AccessionNumber="A1"))
    assert raised.value.is_temporary


def test_the_model_stores_one_result_for_each_image(
    archive: Archive, begin: Begin, tmp_path: Path
) -> None:
    plugins = begin(example(tmp_path, "model.py"))
    for _ in range(2):
        store_file(
            archive, Path(get_testdata_file("CT_small.dcm")), require_class=lambda _uid: None
        )
    plugins.stop()
    source = dcmread(get_testdata_file("CT_small.dcm"))
    found = archive.select(Level.STUDY, {Level.STUDY: [source.StudyInstanceUID]})
    (result,) = [each for each in found if each.sop_class_uid == SecondaryCaptureImageStorage]
    assert isinstance(result.path, Path)
    picture = dcmread(result.path)
    assert (picture.PatientID, picture.pixel_array.shape) == (source.PatientID, (128, 128))
    assert (picture.pixel_array == 255).sum() == (
        source.pixel_array == source.pixel_array.max()
    ).sum()
