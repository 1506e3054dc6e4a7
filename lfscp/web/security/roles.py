"""Tells the role that each request needs: for pages, API and dtools messages.

Rules: a request that is not in the table needs `admin`, so that a forgotten route is closed; a test
checks all routes. If several entries fit a path, the highest role is needed.
"""

from __future__ import annotations

import functools
import re
from http import HTTPStatus
from typing import Final

from starlette.routing import compile_path

from lfscp.config.roles import Role
from lfscp.web.problems import Problem

# Answered without a login.
OPEN: Final = (
    "GET /healthz",
    "GET /readyz",
    "GET /login",
    "POST /login",
    "GET /login/oidc",
    "GET /login/oidc/return",
    "GET /static/{path:path}",
)
# The beginnings of their paths.
OPEN_PATHS: Final = tuple({entry.split()[1].partition("{")[0] for entry in OPEN})
READ: Final = (
    "POST /logout",
    "GET /metrics",
    # pages
    "GET /",
    "GET /archive/rows",
    "GET /studies/{study_uid}",
    "POST /studies/{study_uid}/deidentify",
    "GET /viewer/{series_uid}",
    "GET /instances/{instance_uid}",
    "GET /series/{series_uid}/instances",
    "GET /worklist",
    "GET /worklist/rows",
    "GET /worklist/items/{item_id}",
    "GET /procedure-steps",
    "GET /procedure-steps/rows",
    "GET /procedure-steps/{sop_instance_uid}",
    "GET /commitments",
    "GET /commitments/rows",
    "GET /commitments/{commitment_id}/failures",
    "GET /jobs",
    "GET /jobs/rows",
    "GET /routes",
    "GET /routes/queues",
    "GET /studies/{study_uid}/routes",
    "GET /node",
    "GET /node/health",
    # API
    "GET /api/docs",
    "GET /api/openapi.json",
    "GET /api/patients",
    "GET /api/studies",
    "GET /api/studies.csv",
    "GET /api/zip",
    "GET /api/labels",
    "GET /api/studies/{study_uid}/labels",
    "GET /api/series/{series_uid}/zip",
    "GET /api/instances/{instance_uid}/zip",
    "GET /api/studies/{study_uid}",
    "GET /api/studies/{study_uid}/series",
    "GET /api/studies/{study_uid}/zip",
    "POST /api/studies/{study_uid}/deidentify",
    "GET /api/series/{series_uid}",
    "GET /api/series/{series_uid}/instances",
    "GET /api/instances/{instance_uid}",
    "GET /api/instances/{instance_uid}/elements",
    "GET /api/instances/{instance_uid}/file",
    "GET /api/instances/{instance_uid}/picture",
    "GET /api/instances/{instance_uid}/frames/{number}",
    "GET /api/instances/{instance_uid}/frames/{number}/values",
    "GET /api/instances/{instance_uid}/report",
    "GET /api/instances/{instance_uid}/waveforms",
    "GET /api/instances/{instance_uid}/waveforms/{number}",
    "GET /api/instances/{instance_uid}/thumbnail",
    "GET /api/statistics",
    "GET /api/jobs",
    "GET /api/jobs/{job_id}",
    "GET /api/jobs/{job_id}/zip",
    "GET /api/events",
    "GET /api/peers",
    "GET /api/peers/{ae_title}",
    "GET /api/worklist",
    "GET /api/worklist/{item_id}",
    "GET /api/mpps",
    "GET /api/mpps/{sop_instance_uid}",
    "GET /api/commitments",
    "GET /api/commitments/{commitment_id}",
    "GET /api/node",
    "GET /api/routes",
    "GET /api/routes/queues",
    "GET /api/routes/given-up",
    "GET /api/studies/{study_uid}/routes",
    # DICOMweb
    "GET /dicom-web/studies",
    "GET /dicom-web/series",
    "GET /dicom-web/instances",
    "GET /dicom-web/studies/{study}/series",
    "GET /dicom-web/studies/{study}/instances",
    "GET /dicom-web/studies/{study}/series/{series}/instances",
    "GET /dicom-web/studies/{study}/metadata",
    "GET /dicom-web/studies/{study}/series/{series}/metadata",
    "GET /dicom-web/studies/{study}/series/{series}/instances/{instance}/metadata",
    "OPTIONS /dicom-web",
    "GET /dicom-web/{path:path}",  # what is none
    "GET /wado",
    "GET /dicom-web/studies/{study}",
    "GET /dicom-web/studies/{study}/rendered",
    "GET /dicom-web/studies/{study}/thumbnail",
    "GET /dicom-web/studies/{study}/series/{series}/rendered",
    "GET /dicom-web/studies/{study}/series/{series}/thumbnail",
    "GET /dicom-web/studies/{study}/series/{series}/instances/{instance}/rendered",
    "GET /dicom-web/studies/{study}/series/{series}/instances/{instance}/thumbnail",
    "GET /dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered",
    "GET /dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/thumbnail",
    "GET /dicom-web/studies/{study}/series/{series}",
    "GET /dicom-web/studies/{study}/series/{series}/instances/{instance}",
    "GET /dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
    "GET /dicom-web/studies/{study}/series/{series}/instances/{instance}/pixeldata",
    "GET /dicom-web/studies/{study}/series/{series}/instances/{instance}/bulkdata/{element:path}",
)
WORK: Final = (
    # pages
    "GET /worklist/new",
    "POST /worklist",
    "POST /worklist/items/{item_id}",
    "POST /worklist/items/{item_id}/remove",
    "POST /commitments/{commitment_id}/retry",
    "GET /upload",
    "GET /folders",
    "POST /folders/send",
    "GET /remote",
    "POST /remote/find",
    "GET /remote/find/{job_id}",
    "GET /remote/ping/{job_id}",
    "POST /remote/peers/{ae_title}/ping",
    "GET /remote/peers",
    "POST /remote/series",
    "GET /remote/series/{job_id}",
    "POST /remote/list",
    "POST /remote/retrieve",
    "POST /remote/collect",
    "POST /studies/{study_uid}/send",
    "POST /studies/{study_uid}/label",
    "POST /studies/{study_uid}/unlabel",
    "POST /series/{series_uid}/send",
    "POST /archive/send",
    "POST /archive/export",
    "POST /archive/label",
    "POST /archive/unlabel",
    "POST /jobs/{job_id}/{wish}",
    # API
    "POST /api/instances",
    "POST /api/echo",
    "POST /api/find",
    "POST /api/retrieve",
    "POST /api/send",
    "POST /api/export",
    "POST /api/collect",
    "PUT /api/studies/{study_uid}/labels/{label}",
    "DELETE /api/studies/{study_uid}/labels/{label}",
    "POST /api/jobs/{job_id}/{wish}",
    "DELETE /api/jobs/{job_id}",
    "GET /api/folders",
    "POST /api/worklist",
    "PUT /api/worklist/{item_id}",
    "DELETE /api/worklist/{item_id}",
    "POST /api/commitments/{commitment_id}/retry",
    # DICOMweb
    "POST /dicom-web/studies",
    "POST /dicom-web/studies/{study}",
    # dtools
    "POST /c-echo",
    "POST /c-find",
    "POST /c-get",
    "POST /c-ctore",
    "POST /chd",
    "POST /jobs",
)
ADMIN: Final = (
    # pages
    "GET /studies/{study_uid}/correct",
    "POST /studies/{study_uid}/correct",
    "GET /corrections",
    "GET /corrections/rows",
    "POST /corrections/{correction_id}/{wish}",
    "POST /studies/{study_uid}/delete",
    "POST /studies/{study_uid}/protect",
    "POST /studies/{study_uid}/unprotect",
    "POST /series/{series_uid}/delete",
    "POST /instances/{instance_uid}/delete",
    "POST /routes/{route}/{wish}",
    "POST /archive/delete",
    "POST /archive/protect",
    "POST /archive/unprotect",
    "POST /remote/peers",
    "POST /remote/peers/test",
    "GET /node/log",
    "GET /node/audit",
    "GET /node/settings",
    "GET /api/log",
    "GET /api/settings",
    "GET /api/plugins",
    "GET /remote/peers/{ae_title}/edit",
    "POST /remote/peers/{ae_title}/remove",
    # API
    "POST /api/studies/{study_uid}/correct",
    "POST /api/patients/merge",
    "POST /api/patients/{key}/correct",
    "GET /api/corrections",
    "GET /api/corrections/{correction_id}",
    "POST /api/corrections/{correction_id}/confirm",
    "POST /api/corrections/{correction_id}/undo",
    "DELETE /api/patients/{key}",
    "DELETE /api/studies/{study_uid}",
    "DELETE /api/series/{series_uid}",
    "DELETE /api/instances/{instance_uid}",
    "PUT /api/studies/{study_uid}/protection",
    "DELETE /api/studies/{study_uid}/protection",
    "POST /api/peers",
    "DELETE /api/peers/{ae_title}",
    "POST /api/routes/{route}/{wish}",
    # DICOMweb
    "DELETE /dicom-web/studies/{study}",
    "DELETE /dicom-web/studies/{study}/series/{series}",
    "DELETE /dicom-web/studies/{study}/series/{series}/instances/{instance}",
)
TABLE: Final = {Role.READ: READ, Role.WORK: WORK, Role.ADMIN: ADMIN}
# Of plug-ins, whose routes are not known here.
_CHANGING: Final = ("POST", "PUT", "PATCH", "DELETE")
OF_PLUGINS: Final = {
    Role.READ: ("GET /plugins/{path:path}",),
    Role.WORK: tuple(f"{method} /plugins/{{path:path}}" for method in _CHANGING),
    Role.ADMIN: tuple(
        f"{method} /plugins/{{name}}/admin{rest}"
        for method in ("GET", *_CHANGING)
        for rest in ("", "/{path:path}")
    ),
}
_AS_GET: Final = ("HEAD", "OPTIONS")


def needed_role(method: str, path: str) -> Role:
    """The role that a request needs."""
    asked = "GET" if method in _AS_GET else method
    fitting = [
        role
        for known, regex, role in _entries()
        if known in (method, asked) and regex.fullmatch(path)
    ]
    return max(fitting, key=lambda role: role.rank, default=Role.ADMIN)


def require_role(method: str, path: str, role: Role) -> None:
    """Refuse a request that needs a higher role.

    Raises:
        Problem: it does (403), or there is nothing at this path (404).
    """
    needed = needed_role(method, path)
    if not role.may(needed):
        if not any(regex.fullmatch(path) for _, regex, _ in _entries()):
            raise Problem(HTTPStatus.NOT_FOUND, f"there is nothing at {path}")
        detail = f"your login has the role {role}; this needs the role {needed}"
        raise Problem(HTTPStatus.FORBIDDEN, detail)


@functools.cache
def _entries() -> tuple[tuple[str, re.Pattern[str], Role], ...]:
    found = []
    for role, entries in (*TABLE.items(), *OF_PLUGINS.items()):
        for entry in entries:
            method, _, path = entry.partition(" ")
            found.append((method, compile_path(path)[0], role))
    return tuple(found)
