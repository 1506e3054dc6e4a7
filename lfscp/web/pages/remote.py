"""The page of remote PACS: search, a look at the series, retrieve, collect, and lists to work off.

`peers` has the peers that are known, and `remote_matches` what a search has found.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse
from starlette.datastructures import UploadFile

from lfscp.web.actions.identifier_lists import LISTED, decoded, read_list
from lfscp.web.actions.jobs import job_of, submit
from lfscp.web.actions.peers import PeerIn, peer_of
from lfscp.web.context import Context, Web
from lfscp.web.pages.answers import FormFields, render, toast
from lfscp.web.pages.peers import PeerForm, peer_from, peers_shown
from lfscp.web.pages.remote_matches import (
    MAX_MATCHES,
    RETURNED,
    RETURNED_OF_SERIES,
    Chosen,
    chosen_of,
    searches_of,
    told_of,
)
from lfscp.web.pages.templating import text
from lfscp.web.problems import Problem

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
OTHER: Final = "(other)"
MODELS: Final = {"study": "Study Root", "patient": "Patient Root"}
_TYPED: Final = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription")
Text = Annotated[str, Form()]
Texts = Annotated[list[str], Form()]


@router.get("/remote")
def remote(request: Request, web: Context) -> Response:
    """Show the peers and the search."""
    return render(
        request,
        "remote.html",
        roots=web.settings.web.roots,
        models=MODELS,
        listed=LISTED,
        new_peer=PeerForm(None, is_server=False),
        new_server=PeerForm(None, is_server=True),
        **peers_shown(web),
    )


@router.post("/remote/find")
def find(request: Request, web: Context, form: FormFields) -> Response:
    """Search the chosen peers, each in a job of its own."""
    chosen = _peers(web, form)
    level = _choice(form, "level", ("STUDY", "SERIES"))
    model = _choice(form, "model", tuple(MODELS))
    parameters = {
        "keys": _keys(form, level),
        "level": level,
        "model": model,
        "limit": MAX_MATCHES,
        "retries": 0,
        # Studies are found in one query, but for those of a patient who is not named.
        "hierarchical": level == "SERIES" or model == "patient",
    }
    jobs = [submit(web, "find", peer, parameters) for peer in chosen]
    return render(request, "find_results.html", searches=searches_of(web, jobs))


@router.get("/remote/find/{job_id}")
def find_news(request: Request, web: Context, job_id: str) -> Response:
    """Show how a search goes, and its matches when it has ended."""
    return render(request, "find_results.html", searches=searches_of(web, [job_of(web, job_id)]))


@router.post("/remote/series")
def series(request: Request, web: Context, study: str) -> Response:
    """Ask for the series of one match, before it is retrieved."""
    ((found, (one, *_)),) = chosen_of(web, [study])
    keys: dict[str, Any] = dict.fromkeys(RETURNED_OF_SERIES, "")
    keys["StudyInstanceUID"] = one.study_uid
    model = found.parameters.get("model", "study")
    if model != "study":
        told = next(iter(told_of(web, found, [one])), {})
        keys["PatientID"] = told.get("PatientID", "")
    asked = {"keys": keys, "level": "SERIES", "model": model, "limit": MAX_MATCHES, "retries": 0}
    job = submit(web, "find", found.peer, asked | {"hierarchical": True})
    return render(request, "series_preview.html", search=searches_of(web, [job])[0])


@router.get("/remote/series/{job_id}")
def series_news(request: Request, web: Context, job_id: str) -> Response:
    """Show the series once the peer has named them."""
    (search,) = searches_of(web, [job_of(web, job_id)])
    return render(request, "series_preview.html", search=search)


@router.post("/remote/retrieve")
def retrieve(web: Context, study: Texts = [], folder: Text = "") -> Response:  # noqa: B006
    """Retrieve the chosen matches into the archive, and as files into a folder."""
    into = {"folder": folder.strip()} if folder.strip() else {}
    jobs = [
        submit(web, "retrieve", found.peer, {**asked, **into})
        for found, each in chosen_of(web, study)
        for asked in _retrieves(web, found, each)
    ]
    return toast(f"Retrieving {_count(study)}.", f"/jobs#job-{jobs[0].id}")


def _retrieves(web: Web, found: Any, chosen: list[Chosen]) -> list[dict[str, Any]]:
    """The parameters of the jobs that retrieve what was chosen of one search.

    Whole studies are one job, the chosen series of a study another.
    """
    model = found.parameters.get("model", "study")
    whole = [each for each in chosen if not each.series_uid]
    of_whole = {each.study_uid for each in whole}
    parts: dict[str, list[Chosen]] = {}
    for each in chosen:
        if each.series_uid and each.study_uid not in of_whole:
            parts.setdefault(each.study_uid, []).append(each)
    asked = []
    for group, uids in _grouped(web, found, whole):
        keys = {**group, "StudyInstanceUID": uids}
        about = told_of(web, found, [each for each in whole if each.study_uid in uids])
        asked.append({"keys": keys, "model": model, "about": about})
    for study_uid, some in parts.items():
        ((group, _),) = _grouped(web, found, some[:1])
        uids = [each.series_uid for each in some]
        keys = {**group, "StudyInstanceUID": study_uid, "SeriesInstanceUID": uids}
        about = told_of(web, found, some)
        asked.append({"keys": keys, "model": model, "level": "SERIES", "about": about})
    return asked


def _grouped(web: Web, found: Any, chosen: list[Chosen]) -> list[tuple[dict[str, str], list[str]]]:
    """Studies by their patient, if the model asks for the patient; else all together."""
    uids = list(dict.fromkeys(each.study_uid for each in chosen))
    if not uids:
        return []
    if found.parameters.get("model", "study") == "study":
        return [({}, uids)]
    groups: dict[str, list[str]] = {}
    for told in told_of(web, found, chosen, most=MAX_MATCHES):
        patient = told.get("PatientID") or text(found.parameters["keys"].get("PatientID"))
        of_patient = groups.setdefault(patient, [])
        if told["StudyInstanceUID"] not in of_patient:
            of_patient.append(told["StudyInstanceUID"])
    if "" in groups:
        raise Problem(422, "a study without patient ID cannot be retrieved by Patient Root")
    return [({"PatientID": patient}, of_patient) for patient, of_patient in groups.items()]


@router.post("/remote/collect")
def collect(web: Context, study: Texts = []) -> Response:  # noqa: B006
    """Collect the chosen matches of all peers in one ZIP."""
    chosen = chosen_of(web, study)
    if any(each.series_uid for _, some in chosen for each in some):
        raise Problem(422, "a ZIP has whole studies; choose studies, not series")
    peers = list(dict.fromkeys(found.peer for found, _ in chosen))
    uids = sorted({each.study_uid for _, some in chosen for each in some})
    about = [told for found, some in chosen for told in told_of(web, found, some)]
    asked = {"keys": {"StudyInstanceUID": uids}, "about": about[:20]}
    job = submit(web, "collect", peers, asked)
    return toast(f"Collecting {_count(study)}.", f"/jobs#job-{job.id}")


async def _list_form(request: Request) -> dict[str, list[str]]:
    """The texts of the form with a list; the content of its file as the field `content`."""
    fields: dict[str, list[str]] = {}
    async with request.form() as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                content = await value.read()
                if content:
                    fields.setdefault("content", []).append(decoded(content))
            else:
                fields.setdefault(name, []).append(value.strip())
    return fields


@router.post("/remote/list")
def retrieve_list(
    web: Context, form: Annotated[dict[str, list[str]], Depends(_list_form)]
) -> Response:
    """Retrieve what a list of accession numbers or patient IDs names, as one job."""
    peers = _peers(web, form)
    keyword = _choice(form, "keyword", tuple(LISTED))
    given = "\n".join(each for name in ("content", "values") for each in form.get(name, []))
    read = read_list(given, keyword)
    folder = _one(form, "folder")
    if folder and len(peers) > 1:
        raise Problem(422, "files go into a folder from one server; choose one, or no folder")
    asked: dict[str, Any] = {"keys": {keyword: read.values}}
    if folder:
        asked["folder"] = folder
    if keyword == "PatientID":  # required as a unique key there, and the list has it
        asked["model"] = _choice(form, "model", tuple(MODELS))
    if len(peers) > 1:
        job = submit(web, "collect", peers, asked)
    else:
        job = submit(web, "retrieve", peers[0], asked)
    left_out = f" {read.repeated} repeated ones are left out." if read.repeated else ""
    what = LISTED[keyword].lower()
    return toast(f"Retrieving {len(read.values)} {what}.{left_out}", f"/jobs#job-{job.id}")


def _keys(form: dict[str, list[str]], level: str) -> dict[str, Any]:
    """The keys of a search: what was typed, and what is to be returned."""
    returned = (*RETURNED, *RETURNED_OF_SERIES) if level == "SERIES" else RETURNED
    keys: dict[str, Any] = dict.fromkeys(returned, "")
    for name in (*_TYPED, "StudyInstanceUID"):
        keys[name] = _one(form, name)
    for name in ("PatientBirthDate", "StudyDate"):
        keys[name] = _range(_one(form, f"{name}From"), _one(form, f"{name}To"))
    keys["ModalitiesInStudy"] = _one(form, "ModalitiesInStudy").upper()
    if level == "SERIES":
        keys["Modality"] = keys["ModalitiesInStudy"]
        keys["SeriesDescription"] = _one(form, "SeriesDescription")
    return keys


def _peers(web: Web, form: dict[str, list[str]]) -> list[Any]:
    """The chosen peers, and another one if its address is given.

    Raises:
        Problem: there is none; says what to do.
    """
    names = [name for name in form.get("peer", []) if name != OTHER]
    peers = [peer_of(web, name) for name in names]
    if _one(form, "other_host") or OTHER in form.get("peer", []):
        other = peer_from(form, "other_")
        if isinstance(other, PeerIn):
            peers.append(peer_of(web, other))
    if peers:
        return peers
    if not web.peers.all():
        raise Problem(422, "no server is known yet: add one, or give another one for this search")
    raise Problem(422, "choose a server in the list first, or give another one for this search")


def _choice(form: dict[str, list[str]], name: str, known: tuple[str, ...]) -> str:
    value = _one(form, name) or known[0]
    if value not in known:
        raise Problem(422, f"{name}: expected one of {', '.join(known)}")
    return value


def _one(form: dict[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0]


def _range(first: str, last: str) -> str:
    """A range of dates (PS3.4 section C.2.2.2.5.1) from two fields; each may be empty."""
    first, last = first.replace("-", ""), last.replace("-", "")
    if first == last:
        return first
    return f"{first}-{last}"


def _count(chosen: list[str]) -> str:
    series = sum(each.count("|") > 1 for each in chosen)
    studies = len(chosen) - series
    said = [f"{studies} {'study' if studies == 1 else 'studies'}"] if studies else []
    return " and ".join([*said, f"{series} series"] if series else said)
