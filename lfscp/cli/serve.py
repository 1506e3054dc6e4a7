"""The command `serve`: run the node.

The help of an option that is a setting is that of lfscp/config/settings.py; tests/meta compares
them. Its value is checked like a variable of the environment.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Annotated

import typer

from lfscp.cli.errors import OptionError
from lfscp.cli.options import ConfigFile, DataDir, configure_logging, resolve

if TYPE_CHECKING:
    from lfscp.config import Settings


def serve(
    config: ConfigFile = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help=(
                "Address to listen on. 127.0.0.1 serves this machine only, :: serves "
                "IPv6 too. [default: 0.0.0.0]"
            ),
        ),
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(
            metavar="PORT",
            help=(
                "TCP port to listen on. 0 takes any free port, and the log says which. "
                "[default: 11112]"
            ),
        ),
    ] = None,
    aet: Annotated[
        str | None,
        typer.Option(metavar="TITLE", help="AE title of this node. [default: LFSCP]"),
    ] = None,
    data_dir: DataDir = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AET=HOST:PORT",
            help="Another node, or NAME=URL of a DICOMweb server. May be given several times.",
        ),
    ] = None,
    http_port: Annotated[
        str | None,
        typer.Option(
            metavar="PORT",
            help=(
                "TCP port of the page. If the default port is taken, the node runs "
                "without the page. A port that you choose must be free. 0 takes any "
                "free port, and the log says which. [default: 8080]"
            ),
        ),
    ] = None,
    no_http: Annotated[
        bool, typer.Option("--no-http", help="Serve DICOM only: no page, no API.")
    ] = False,
    max_running: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help=(
                "Most associations that a process serves at once. Further connections "
                "wait. 0 means no limit. [default: 0]"
            ),
        ),
    ] = None,
    max_waiting: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help=(
                "Most idle threads that a process keeps (followers). -1 means no limit."
                " [default: -1]"
            ),
        ),
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Threads at the start. The pool grows by itself. [default: 1]"
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help=(
                "Worker processes. Each has a thread pool of its own, with all limits "
                "of [pool]. 0 means one process for every two CPUs. [default: 0]"
            ),
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            metavar="console|json",
            help=("console: lines for people. json: one JSON object per line. [default: console]"),
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL",
            help=(
                "Lowest level that is written: debug, info, warning, error or critical."
                " [default: info]"
            ),
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Take the place of the node that uses the data folder. The old node finishes "
            "what it has begun, and no connection is refused. If no node is running, start as "
            "usual.",
        ),
    ] = False,
) -> None:
    """Run the node: DICOM, the page and the API.

    It answers C-ECHO, C-STORE, C-FIND, C-MOVE and C-GET, gives devices their worklist, takes
    procedure steps (MPPS) and commits to keep objects. At SIGTERM or SIGINT it finishes what runs.
    """
    from lfscp.config.present import require_present
    from lfscp.node.coercions import coercions_of
    from lfscp.node.route_actions import require_ready
    from lfscp.routing.reading import require_routes

    gc.disable()  # imports leave little garbage; Node.run() turns it on again
    if http_port is not None and no_http:
        raise OptionError(f"flag --http-port {http_port}: contradicts --no-http; leave one out")
    flags = {
        "web.enabled": "false" if no_http else "true" if http_port is not None else None,
        "web.port": http_port,
        "server.host": host,
        "server.port": port,
        "server.ae_title": aet,
        "data_dir": data_dir,
        "pool.max_running": max_running,
        "pool.max_waiting": max_waiting,
        "pool.threads": threads,
        "pool.workers": workers,
        "logging.format": log_format,
        "logging.level": log_level,
    }

    def read() -> Settings:
        again = resolve(config, flags, peer)
        coercions_of(again.settings, again.origin)
        require_routes(again)
        require_ready(again.settings)
        return again.settings

    resolved = resolve(config, flags, peer)
    require_present(resolved)
    coercions_of(resolved.settings, resolved.origin)
    require_routes(resolved)
    settings = resolved.settings
    require_ready(settings)
    configure_logging(settings)
    from lfscp.node.serve import run_node

    raise typer.Exit(run_node(settings, read, follow_on=take_over))
