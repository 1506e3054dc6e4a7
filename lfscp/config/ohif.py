"""The settings of OHIF, the viewer that `lfscp ohif install` puts beside the page."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator

from lfscp.config.checks import Bool, ListenPort
from lfscp.config.declaration import Section, setting
from lfscp.config.dicomweb import check_url

_PUBLIC_URL: Final = 'empty, or a URL without a path, as "https://viewer.example.org"'


def check_origin_url(url: str) -> str:
    """The URL of OHIF without a slash at its end, or nothing."""
    found = check_url(url, _PUBLIC_URL)
    if found.partition("://")[2].partition("/")[1]:
        raise ValueError(_PUBLIC_URL)
    return found


class OHIF(Section):
    """The OHIF viewer. `lfscp ohif install` installs it; it needs the page ([web])."""

    enabled: Bool = setting(True, "Serve OHIF, if it is installed.")
    port: ListenPort = setting(
        8081,
        "TCP port of OHIF, at the address web.host. If the default port is taken, the node runs "
        "without OHIF. A port that you choose must be free, and is open even before OHIF is "
        "installed. 0 takes any free port, and the log says which.",
    )
    public_url: Annotated[str, AfterValidator(check_origin_url)] = setting(
        "",
        "URL of OHIF as browsers see it, for the links of the page, and for the way back from an "
        "identity provider. Set it if a reverse proxy is in front. Empty means ohif.port of the "
        "host that the browser asked.",
        live=True,
    )
