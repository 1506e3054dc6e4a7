"""Finds plug-ins and loads them: installed ones by their entry points, others from files.

Rules: what is wrong with one is said in one line, with the file or package and the reason, and no
plug-in is used then. A file is loaded as a module of its own, whose name no import finds.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lfscp.config import ConfigError
from lfscp.plugins.errors import is_from_keyboard
from lfscp.plugins.node import LOG
from lfscp.plugins.specifications import HOOKS, PROJECT, Specifications

if TYPE_CHECKING:
    from lfscp.config.plugins import PluginsSection

SLOW_S: Final = 10.0
GROUP: Final = "lfscp.plugins"
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_WRAPPERS: Final = ("wrapper", "hookwrapper")
_NAME_RULE: Final = "its name must be letters, digits, _ and -, and begin with a letter"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plug-in that can be used.

    Args:
        source: its file, or its package with the version.
        plugin: the module or object with the hooks.
        hooks: their names.
        digest: of the file; empty for a package, which changes by a restart only.
    """

    name: str
    source: str
    plugin: Any
    hooks: tuple[str, ...]
    digest: str = ""


def load(settings: PluginsSection, known: Sequence[Loaded] = ()) -> tuple[Loaded, ...]:
    """Load all plug-ins that the settings name, and those that are installed.

    Args:
        known: loaded before; what has not changed stays as it is.
    Returns:
        Installed ones by name, then files in the order of the setting.
    Raises:
        ConfigError: one cannot be used; the text names it and says why.
    """
    before = {(each.source, each.digest): each for each in known}
    found = list(_installed(settings, known))
    found += [_of_file(Path(file), before) for file in settings.files]
    names = [each.name for each in found]
    for each in found:
        if names.count(each.name) > 1:
            raise _wrong(each.source, f"another plug-in has the name {each.name} too")
    unknown = [name for name in settings.settings if name not in {*names, *settings.disabled}]
    if unknown:
        raise ConfigError(
            f"plugins.settings.{unknown[0]}: there is no plug-in of this name{_instead(names)}"
        )
    return tuple(found)


def _installed(settings: PluginsSection, known: Sequence[Loaded]) -> Iterator[Loaded]:
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    names = [point.name for point in points]
    unknown = [name for name in settings.disabled if name not in names]
    if unknown:
        reason = f"no installed plug-in has this name{_instead(names)}"
        raise ConfigError(f"plugins.disabled: {unknown[0]}: {reason}")
    before = {each.source: each for each in known}
    for point in points:
        if point.name not in settings.disabled:
            source = _source_of(point)
            yield before.get(source) or _of_entry_point(point, source)


def _source_of(point: EntryPoint) -> str:
    package = point.dist
    return f"package {package.name} {package.version}" if package is not None else point.value


def _of_entry_point(point: EntryPoint, source: str) -> Loaded:
    try:
        with _named_if_slow(source):
            plugin = point.load()
    except BaseException as error:
        if is_from_keyboard(error):
            raise
        raise _wrong(source, _why_not_loaded(error, "")) from error
    return Loaded(point.name, source, plugin, _checked_hooks(plugin, point.name, source))


def _of_file(file: Path, before: dict[tuple[str, str], Loaded]) -> Loaded:
    source, name = str(file), file.stem
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise _wrong(source, error.strerror or "it cannot be read") from error
    if (source, digest) in before:
        return before[source, digest]
    module_name = f"lfscp_plugin_{re.sub(r'[^A-Za-z0-9_]', '_', name)}_{digest[:8]}"
    spec = spec_from_file_location(module_name, file, loader=_Uncached(module_name, source))
    assert spec is not None  # noqa: S101 - there is a loader
    assert spec.loader is not None  # noqa: S101 - likewise
    module = module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses of it look there
    try:
        with _named_if_slow(source):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if is_from_keyboard(error):
            raise
        raise _wrong(source, _why_not_loaded(error, source)) from error
    return Loaded(name, source, module, _checked_hooks(module, name, source), digest)


@contextmanager
def _named_if_slow(source: str) -> Iterator[None]:
    """Write a line if loading takes long, since the node waits for it; the thread ends with it."""
    said = {"plugin": source, "seconds": SLOW_S, "hint": "the node waits until it is loaded"}
    timer = threading.Timer(SLOW_S, LOG.warning, ("plug-in takes long to load",), said)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # who forks must have no threads


class _Uncached(SourceFileLoader):
    """Reads the file each time: one that changes twice within a second has the same cache."""

    def get_code(self, fullname: str) -> Any:
        """Compile the file as it is now."""
        path = self.get_filename(fullname)
        return compile(self.get_data(path), path, "exec", dont_inherit=True)


def _why_not_loaded(error: BaseException, file: str) -> str:
    """Why a module cannot be loaded, and the line of its own that led to it."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == file]
    text = " ".join(str(error).split()) or "it cannot be loaded"
    if isinstance(error, SystemExit | KeyboardInterrupt):
        text = "it ends the process when it is loaded"
    return f"line {lines[-1]}: {text}" if lines else text


def _checked_hooks(plugin: Any, name: str, source: str) -> tuple[str, ...]:
    """The hooks of a plug-in, whose signatures are those of the specifications."""
    if _NAME.fullmatch(name) is None:
        raise _wrong(source, _NAME_RULE)
    found = []
    for attribute in dir(plugin):
        function = getattr(plugin, attribute, None)
        options = getattr(function, f"{PROJECT}_impl", None)
        if options is not None:
            hook = options["specname"] or attribute
            _check(function, hook, options, source)
            found.append(hook)
    if not found:
        raise _wrong(source, "it has no hook; mark its functions with @hook of lfscp.plugins")
    return tuple(hook for hook in HOOKS if hook in found)


def _check(function: Any, hook: str, options: Any, source: str) -> None:
    if hook not in HOOKS:
        raise _wrong(source, f"there is no hook {hook}{_instead(HOOKS)}")
    if any(options[each] for each in _WRAPPERS):
        raise _wrong(source, f"{hook} is a wrapper; a hook of lfscp is a plain function")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise _wrong(source, f"{hook} is async or a generator; a hook is a plain function")
    specified = inspect.signature(getattr(Specifications, hook)).parameters
    offered = [each for each in specified if each != "self"]
    for each in inspect.signature(function).parameters.values():
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
            raise _wrong(source, f"{hook}: name each argument, of {', '.join(offered)}")
        if each.name not in offered and each.default is each.empty:
            known = ", ".join(offered) or "none"
            raise _wrong(source, f"{hook} has no argument {each.name}; it has {known}")


def _instead(names: Sequence[str]) -> str:
    return f"; there are {', '.join(names)}" if names else ""


def _wrong(source: str, reason: str) -> ConfigError:
    key = "plugins.files" if source.endswith(".py") else "plug-in"
    return ConfigError(f"{key}: {source}: {reason}")
