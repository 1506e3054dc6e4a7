"""Names the package of OHIF that lfscp installs: one version, known by its digest.

What is not in here about a package (its inline scripts, its sizes) is read from it when it is
installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Package:
    """A package in the npm registry.

    Args:
        integrity: digest of its file, as npm writes it: "sha512-" and base64.
        evaluating: its workers that make code from text, which their policy must allow.
        left_out: its files and, with a slash at their end, folders that the viewer does without.
        max_bytes: of its files, unpacked.
    """

    name: str
    version: str
    integrity: str
    evaluating: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    max_bytes: int = 256 << 20
    max_files: int = 2000

    @property
    def spec(self) -> str:
        """How npm's commands name it."""
        return f"{self.name}@{self.version}"


OHIF: Final = Package(
    name="@ohif/app",
    version="3.13.2",
    integrity="sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==",
    evaluating=("8097.bundle.8ae6404ba94890a0.js",),  # decodes JPEG, JPEG-LS, JPEG 2000, HTJ2K
    left_out=(
        "ort/",  # segmentation in the browser, 136 MB
        "dicom-microscopy-viewer/",  # whole slides, 20 MB
        "customizations/",
        *("app-config.js", "sw.js", "google.js"),
        *("oidc-client.min.js", "silent-refresh.html"),
        *("_headers", "_redirects", "serve.json"),  # for other web servers
    ),
)
