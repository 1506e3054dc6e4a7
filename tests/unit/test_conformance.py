"""The conformance statement says what the node does, as configured."""

from lfscp.archive.workflow.worklist.keys import MATCHED, MATCHED_OF_STEP
from lfscp.config import Settings
from lfscp.conformance import statement
from lfscp.deidentification.options import CODES
from lfscp.dicom.values.attributes import ATTRIBUTES
from lfscp.dicomweb.media_types import media_types
from lfscp.services.contexts import contexts
from lfscp.web.dicomweb import metadata
from lfscp.web.dicomweb.retrieving import wado_rs
from lfscp.web.dicomweb.searching import search


def test_every_supported_sop_class_and_transfer_syntax_is_named():
    text = statement(Settings())

    for context in contexts(Settings()):
        assert f"| {context.abstract_syntax} |" in text
        for syntax in context.transfer_syntax:
            assert f"| {syntax} |" in text


def test_every_indexed_attribute_is_named_by_tag():
    text = statement(Settings())

    for attribute in ATTRIBUTES:
        assert f"({attribute.tag >> 16:04X},{attribute.tag & 0xFFFF:04X})" in text


def test_every_matching_key_of_the_worklist_is_named_by_tag():
    text = statement(Settings())

    for tag in MATCHED | MATCHED_OF_STEP:
        assert f"({tag >> 16:04X},{tag & 0xFFFF:04X})" in text


def test_rules_that_change_and_forward_instances_show():
    given = {
        "peers": {"DST": {"host": "h", "port": 104}},
        "coercion": [
            {"name": "our numbers", "set": {"IssuerOfPatientID": "OURS"}},
            {"name": "on the way out", "on_arrival": False, "remove": ["PatientComments"]},
        ],
        "route": [
            {
                "name": "all",
                "send_to": ["DST"],
                "on": "study",
                "commit": True,
                "actions": [{"coerce": "on the way out"}, {"deidentify": {}}],
            },
            {"name": "off", "send_to": ["DST"], "enabled": False},
        ],
        "plugins": {"files": ["/etc/lfscp/plugins/webhook.py"]},
    }

    text = statement(Settings.model_validate(given))

    assert "Coercion on arrival: by our numbers, in this order." in text
    assert (
        "\n| all | complete studies | coerce, deidentify | DST | asked for |\n\nPlug-ins are"
        in text
    )
    assert "| off |" not in text
    assert "that this statement does not list.\n\n## 5" in text
    assert all(name in text for _, name in CODES.values())
    plain = statement(Settings())
    assert "Coercion on arrival: none is configured." in plain
    assert "Forwarding: no route is configured.\n\n## 5" in plain


def test_the_configuration_shows():
    given = {
        "server": {
            "ae_title": "NODE",
            "ae_titles": ["WL"],
            "max_associations": 7,
            "require_known_peers": True,
        },
        "storage": {"private_sop_classes": ["1.2.3.4"]},
        "peers": {"DST": {"host": "h", "port": 104, "may": ["echo"]}},
    }

    text = statement(Settings.model_validate(given))

    for expected in (
        "| AE title | NODE |",
        "| further AE titles | WL |",
        "| associations at once | 7 |",
        "| 1.2.3.4 |",
    ):
        assert expected in text
    assert "| DST | h:104 | no | echo |" in text
    assert "calling AE titles are checked" in text


def test_every_table_has_as_many_cells_in_each_row():
    tables = [line for line in statement(Settings()).splitlines() if line.startswith("|")]

    assert {3, 4, 5, 6} >= {line.replace("\\|", "").count("|") for line in tables}


def test_security_is_told_as_configured():
    plain = statement(Settings())
    given = {
        "server": {"plain": False},
        "tls": {
            "enabled": True,
            "certificate_file": "/node.pem",
            "ca_file": "/ca.pem",
            "client_auth": "required",
        },
        "identity": {"users": ["robot"], "required": True},
    }
    secured = statement(Settings.model_validate(given))

    assert "port 11112 without TLS" in plain
    assert "listens without TLS" in plain
    assert "port 2762 with TLS" in secured
    assert "port 11112" not in secured
    assert "certificates of clients are required" in secured
    assert "user name with passcode, are required" in secured


def test_every_route_and_media_type_of_dicomweb_is_named():
    text = statement(Settings())

    for route in (*wado_rs.router.routes, *metadata.router.routes):
        assert f"| GET | {route.path.replace(':path}', '}')} |" in text
    for path, _ in search.ROUTES:
        assert f"| Search (QIDO-RS) | GET | /dicom-web{path} | read |" in text
    assert "| Store (STOW-RS) | POST | /dicom-web/studies/{study} | work |" in text
    assert "| Delete | DELETE | /dicom-web/studies/{study}/series/{series} | admin |" in text
    assert "| Retrieve (WADO-URI) | GET | /wado | read |" in text
    for uid, media_type in media_types().items():
        assert f"| {uid} | {media_type} |" in text
    assert "| Patient's Name | (0010,0010) |" in text


def test_without_http_there_is_no_dicomweb():
    text = statement(Settings.model_validate({"web": {"enabled": False}}))

    assert "| Studies Service: Search (QIDO-RS) | turned off |" in text
    assert "/dicom-web/studies" not in text
