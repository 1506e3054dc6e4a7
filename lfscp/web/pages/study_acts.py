"""What the page of a study does: send, delete, protect, label; and its series and objects."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Response
from fastapi.responses import HTMLResponse

from lfscp.dicom.values.attributes import Level
from lfscp.web.actions import studies
from lfscp.web.actions.jobs import submit
from lfscp.web.context import Context
from lfscp.web.pages.answers import peer_named, toast

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.post("/studies/{study_uid}/send")
def send_study(
    web: Context,
    study_uid: str,
    peer: Annotated[str, Form()] = "",
    commit: Annotated[str, Form()] = "",
) -> Response:
    """Send a study to a peer, and ask it for storage commitment if `commit` is not empty."""
    parameters = {"studies": [study_uid], "commit": bool(commit)}
    job = submit(web, "send", peer_named(web, peer), parameters)
    return toast(f"Sending the study to {peer}.", f"/jobs#job-{job.id}")


@router.post("/studies/{study_uid}/delete")
def delete_study(web: Context, study_uid: str, key: studies.Key = None) -> Response:
    """Delete a study, then go back to the archive."""
    studies.delete(web, Level.STUDY, study_uid, key)
    return Response(headers={"HX-Redirect": "/"})


@router.post("/studies/{study_uid}/protect")
def protect_study(web: Context, study_uid: str, key: studies.Key = None) -> Response:
    """Protect a study from being deleted, and show it again."""
    studies.set_protected(web, study_uid, key, on=True)
    return Response(headers={"HX-Refresh": "true"})


@router.post("/studies/{study_uid}/unprotect")
def unprotect_study(web: Context, study_uid: str, key: studies.Key = None) -> Response:
    """End the protection of a study, and show it again."""
    studies.set_protected(web, study_uid, key, on=False)
    return Response(headers={"HX-Refresh": "true"})


@router.post("/studies/{study_uid}/label")
def label_study(web: Context, study_uid: str, label: Annotated[str, Form()] = "") -> Response:
    """Give a study a label, and show it again."""
    studies.set_label(web, [study_uid], label, on=True)
    return Response(headers={"HX-Refresh": "true"})


@router.post("/studies/{study_uid}/unlabel")
def unlabel_study(web: Context, study_uid: str, label: Annotated[str, Form()] = "") -> Response:
    """Take a label from a study, and show it again."""
    studies.set_label(web, [study_uid], label, on=False)
    return Response(headers={"HX-Refresh": "true"})


@router.post("/series/{series_uid}/send")
def send_series(
    web: Context,
    series_uid: str,
    peer: Annotated[str, Form()] = "",
    commit: Annotated[str, Form()] = "",
) -> Response:
    """Send a series to a peer, and ask it for storage commitment if `commit` is not empty."""
    parameters = {"series": [series_uid], "commit": bool(commit)}
    job = submit(web, "send", peer_named(web, peer), parameters)
    return toast(f"Sending the series to {peer}.", f"/jobs#job-{job.id}")


@router.post("/instances/{instance_uid}/delete")
def delete_instance(web: Context, instance_uid: str) -> Response:
    """Delete one object, then show what is left of its study."""
    row = studies.instance_row(web, instance_uid)
    studies.delete(web, Level.IMAGE, instance_uid)
    uid, key = row["study_instance_uid"], row["study_key"]
    left = f"/studies/{quote(uid)}?key={key}" if studies.is_there(web, uid, key) else "/"
    return Response(headers={"HX-Redirect": left})


@router.post("/series/{series_uid}/delete")
def delete_series(web: Context, series_uid: str, key: studies.Key = None) -> Response:
    """Delete a series, then show what is left of its study."""
    row = studies.series_row(web, series_uid, key)
    studies.delete(web, Level.SERIES, series_uid, key)
    if studies.is_there(web, row["study_instance_uid"], row["study_fk"]):
        return Response(headers={"HX-Refresh": "true"})
    return Response(headers={"HX-Redirect": "/"})
