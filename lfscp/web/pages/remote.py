"""The page of remote PACS: ping, search, retrieve, collect; and the peers that are known."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ValidationError

from lfscp.jobs.model import Job
from lfscp.web.actions.jobs import job_of, submit
from lfscp.web.actions.peers import NamedDICOMwebIn, PeerIn, drop, peer_of, put
from lfscp.web.context import Context, Web
from lfscp.web.pages.answers import FormFields, peer_named, render, toast
from lfscp.web.problems import Problem

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
MAX_MATCHES: Final = 1000  # of one search, so that a page stays a page
_MAX_CELL: Final = 200  # characters of one value
_MAX_VALUES: Final = 20
OTHER: Final = "(other)"
_LABELS: Final = {"ae_title": "AE title", "calling_ae_title": "our AE title", "url": "URL"}
Given = TypeVar("Given", bound=BaseModel)
_RETURNED: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
Text = Annotated[str, Form()]
Texts = Annotated[list[str], Form()]


@router.get("/remote")
def remote(request: Request, web: Context) -> Response:
    """Show the peers and the search."""
    return render(request, "remote.html", peers=web.peers.all(), roots=web.settings.web.roots)


@router.post("/remote/peers")
def add_peer(
    request: Request,
    web: Context,
    ae_title: Text = "",
    host: Text = "",
    port: Text = "",
    tls: Text = "",
    url: Text = "",
) -> Response:
    """Add a peer, and show the list of peers."""
    added = (
        _server_from(ae_title, url) if url else _peer_from(ae_title, host, port, "", tls=bool(tls))
    )
    put(web, added)
    return render(request, "peers.html", peers=web.peers.all())


@router.post("/remote/peers/{ae_title}/remove")
def remove_peer(request: Request, web: Context, ae_title: str) -> Response:
    """Remove an added peer, and show the list of peers."""
    drop(web, ae_title)
    return render(request, "peers.html", peers=web.peers.all())


@router.post("/remote/peers/{ae_title}/ping")
def ping(request: Request, web: Context, ae_title: str) -> Response:
    """Ping a peer; the page asks again until the job has ended."""
    job = submit(web, "echo", peer_named(web, ae_title), {"retries": 0})
    return render(request, "ping.html", job=job)


@router.get("/remote/ping/{job_id}")
def ping_news(request: Request, web: Context, job_id: str) -> Response:
    """Show how a ping goes."""
    return render(request, "ping.html", job=job_of(web, job_id))


@router.post("/remote/find")
def find(request: Request, web: Context, form: FormFields) -> Response:
    """Search the chosen peers, each in a job of its own."""
    chosen = _chosen(web, form)
    keys: dict[str, Any] = dict.fromkeys(_RETURNED, "")
    for name in ("PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID"):
        keys[name] = _one(form, name)
    for name in ("PatientBirthDate", "StudyDate"):
        keys[name] = _range(_one(form, f"{name}From"), _one(form, f"{name}To"))
    keys["ModalitiesInStudy"] = _one(form, "ModalitiesInStudy")
    parameters = {"keys": keys, "limit": MAX_MATCHES, "retries": 0}
    jobs = [submit(web, "find", peer, parameters) for peer in chosen]
    return render(request, "find_results.html", searches=_searches(web, jobs))


@router.get("/remote/find/{job_id}")
def find_news(request: Request, web: Context, job_id: str) -> Response:
    """Show how a search goes, and its matches when it has ended."""
    return render(request, "find_results.html", searches=_searches(web, [job_of(web, job_id)]))


def _searches(web: Web, jobs: list[Job]) -> list[dict[str, Any]]:
    """Each search with what a page shows of its matches."""
    return [{"job": job, "matches": _shown(web, job) if job.state.is_end else []} for job in jobs]


def _shown(web: Web, job: Job) -> list[dict[str, Any]]:
    matches = itertools.islice(web.jobs.matches(job), MAX_MATCHES)
    return [{name: _cell(match.get(name)) for name in _RETURNED} for match in matches]


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return [_cell(each) for each in value[:_MAX_VALUES]]
    if isinstance(value, str) and len(value) > _MAX_CELL:
        return f"{value[:_MAX_CELL]}…"
    return value


@router.post("/remote/retrieve")
def retrieve(web: Context, study: Texts, folder: Text = "") -> Response:
    """Retrieve the chosen matches into the archive, and as files into a folder; a job per peer."""
    into = {"folder": folder.strip()} if folder.strip() else {}
    jobs = [
        submit(web, "retrieve", found.peer, {"keys": {"StudyInstanceUID": uids}, **into})
        for found, uids in _by_search(web, study)
    ]
    return toast(f"Retrieving {_count(study)}.", f"/jobs#job-{jobs[0].id}")


@router.post("/remote/collect")
def collect(web: Context, study: Texts) -> Response:
    """Collect the chosen matches of all peers in one ZIP."""
    chosen = _by_search(web, study)
    peers = [found.peer for found, _ in chosen]
    uids = sorted({uid for _, each in chosen for uid in each})
    job = submit(web, "collect", peers, {"keys": {"StudyInstanceUID": uids}})
    return toast(f"Collecting {_count(study)}.", f"/jobs#job-{job.id}")


def _by_search(web: Web, chosen: list[str]) -> list[tuple[Job, list[str]]]:
    """Group the chosen matches ("job id|Study Instance UID") by the search that found them."""
    grouped: dict[str, list[str]] = {}
    for each in chosen:
        job_id, _, uid = each.partition("|")
        if uid and uid not in grouped.setdefault(job_id, []):
            grouped[job_id].append(uid)
    if not grouped:
        raise Problem(422, "choose at least one study")
    return [(job_of(web, job_id), uids) for job_id, uids in grouped.items()]


def _chosen(web: Web, form: dict[str, list[str]]) -> list[Any]:
    chosen = form.get("peer", [])
    if not chosen:
        raise Problem(422, "choose a peer to search, or give another server")
    peers = [peer_of(web, name) for name in chosen if name != OTHER]
    if OTHER in chosen:
        given = [_one(form, f"other_{name}") for name in ("ae_title", "host", "port", "calling")]
        other = _peer_from(*given, tls="other_tls" in form)
        peers.append(peer_of(web, other))
    return peers


def _peer_from(ae_title: str, host: str, port: str, calling: str, *, tls: bool) -> PeerIn:
    """A peer from the fields of a form.

    Raises:
        Problem: names the field that is wrong.
    """
    fields: dict[str, Any] = {"ae_title": ae_title, "host": host, "port": port, "tls": tls}
    return _checked(PeerIn, fields | ({"calling_ae_title": calling} if calling else {}))


def _server_from(name: str, url: str) -> NamedDICOMwebIn:
    """A DICOMweb server from the fields of a form.

    Raises:
        Problem: names the field that is wrong.
    """
    return _checked(NamedDICOMwebIn, {"ae_title": name, "url": url})


def _checked(kind: type[Given], fields: dict[str, Any]) -> Given:
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        message = first["msg"].removeprefix("Value error, ")
        raise Problem(422, f"{_LABELS.get(field, field)}: expected {message}") from None


def _one(form: dict[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]


def _range(first: str, last: str) -> str:
    """A range of dates (PS3.4 section C.2.2.2.5.1) from two fields; each may be empty."""
    first, last = first.replace("-", ""), last.replace("-", "")
    if first == last:
        return first
    return f"{first}-{last}"


def _count(chosen: list[str]) -> str:
    return "1 study" if len(chosen) == 1 else f"{len(chosen)} studies"
