"""The builds of Python that lfscp runs on: not the free-threaded ones, until they are tested."""

from __future__ import annotations

import sysconfig


class PythonBuildError(RuntimeError):
    """lfscp does not run on this build of Python; the text is one line for the user."""


def require_gil() -> None:
    """Refuse a build without the global interpreter lock, even where PYTHON_GIL=1 turns it on.

    Raises:
        PythonBuildError: this is a free-threaded build.
    """
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise PythonBuildError(
            "free-threaded builds of Python are not supported yet; use the standard build"
        )
