"""What each process of lfscp makes once: commands, routes, templates, the SQL of its tables.

To make them takes longer than what most commands do, and longer than to answer a request.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import typer.main
from fastapi import FastAPI

from lfscp.archive.archive import Archive
from lfscp.cli import app as command_line
from lfscp.config import Settings
from lfscp.jobs.service import JobService
from lfscp.web import app as web_application
from lfscp.web.status.state import NodeState
from tests.support.compiled_sql import keep_statements
from tests.support.kept_routes import keep_routes


def keep_commands() -> None:
    """Make the commands from their functions, once for this process and those forked from it."""
    made = typer.main.get_command(command_line.app)
    typer.main.get_command = lambda _: made


def keep_web() -> None:
    """From here on all applications of this process share routes and templates."""
    keep_routes()
    web_application.templates = cache(web_application.templates)


def prepare_web(folder: Path) -> None:
    """Do so, and make them now, with an archive in this folder; its SQL is kept too."""
    keep_web()
    keep_statements()
    settings = Settings.model_validate({"data_dir": str(folder)})
    with Archive.open(folder, durability="os") as archive:
        jobs = JobService(archive, settings)
        made = web_application.create_app(settings, archive, jobs, _no_state)
        _read_routes(made)
        _compile_templates(made)


def _no_state() -> NodeState:
    return NodeState("LFSCP", "127.0.0.1", 11112, 1024, 0, time.time(), ())


def _read_routes(made: FastAPI) -> None:
    for each in made.router.routes:
        for name in ("effective_candidates", "effective_low_priority_routes"):
            getattr(each, name, list)()


def _compile_templates(made: FastAPI) -> None:
    environment = made.state.web.templates.env
    for name in environment.list_templates():
        environment.get_template(name)
