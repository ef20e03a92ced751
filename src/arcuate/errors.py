"""Errors and warnings that tell the user what was found, what was expected and what to do."""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)
_NOTED: ContextVar[tuple[list[str], ...]] = ContextVar("arcuate_warnings", default=())  # of the blocks that note them


class InputError(ValueError):
    """The input cannot be used; the message says what was found, expected, and the remedy.

    The command line prints it as one line and exits with status 2.
    """


class NotApplicable(InputError):  # noqa: N818 (it says what the input is, as the step that is left out reports it)
    """The method does not apply to this scan: shells, directions or b=0 volumes that it needs are not there.

    A run leaves such a step out with this reason, unless the user named the step; any other InputError ends it.
    """


class MissingExtraError(ImportError):
    """An optional part of arcuate is not installed; the message names the extra that installs it.

    ``extra`` is None for a package that belongs to none, and is installed by its own name. Made where an import failed,
    it tells a package that is not there from one that is there and cannot be loaded (a library that it needs, a limit
    of memory), for which to install it again would be in vain.
    """

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        wanted = f"pip install {package}" if extra is None else how_to_install(extra)
        failed = sys.exc_info()[1]
        if isinstance(failed, ImportError) and not isinstance(failed, ModuleNotFoundError | MissingExtraError):
            told = f"is installed and cannot be loaded: {failed}. Mend what that names; to install it anew"
        else:
            told = "is not installed. Install it with"
        super().__init__(f"{purpose} needs {package}, which {told}: {wanted}")
        self.package = package
        self.extra = extra


class InputWarning(UserWarning):
    """The input was repaired, or is usable but doubtful; the message says what was done about it."""


def how_to_install(extra: str) -> str:
    """The command that adds an extra to arcuate, from where it was installed: an index, a folder or a repository."""
    import json
    from importlib import metadata
    from urllib.parse import urlparse
    from urllib.request import url2pathname

    try:
        source = json.loads(metadata.distribution("arcuate").read_text("direct_url.json") or "{}")
        url = str(source.get("url", ""))
    except (metadata.PackageNotFoundError, ValueError):
        source, url = {}, ""
    if "vcs_info" in source:
        vcs = source["vcs_info"].get("vcs", "git")
        return f"pip install 'arcuate[{extra}] @ {vcs}+{url}'"
    if url.startswith("file:"):
        place = Path(url2pathname(urlparse(url).path))
        if not place.exists():
            return f"pip install '.[{extra}]' in the folder of arcuate's source"
        editable = "-e " if source.get("dir_info", {}).get("editable") else ""
        return f"pip install {editable}'{place}[{extra}]'"
    return f"pip install 'arcuate[{extra}]'"


@contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """Texts of the InputWarnings of the block, each once, in whatever thread it runs; they are given all the same."""
    texts: list[str] = []
    token = _NOTED.set((*_NOTED.get(), texts))
    try:
        yield texts
    finally:
        _NOTED.reset(token)


@contextmanager
def silenced_warnings() -> Iterator[None]:
    """The block gives no InputWarning, and none is noted: what it would say is said elsewhere, or of no account."""
    token = _NOTED.set(())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputWarning)
            yield
    finally:
        _NOTED.reset(token)


def warn(text: str, category: type[Warning] = InputWarning) -> None:
    """Give a warning that points to the line outside of arcuate which led here."""
    for texts in _NOTED.get() if category is InputWarning else ():
        if text not in texts:
            texts.append(text)
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def of_one_cause(doubts: Iterable[str]) -> list[str]:
    """Sentences "cause: consequence; consequence", each cause once, with each of its consequences once."""
    found: dict[str, dict[str, str]] = {}
    for doubt in doubts:
        cause, colon, rest = doubt.partition(": ")
        known = found.setdefault(cause, {})
        for consequence in rest.split("; ") if colon else ():
            known.setdefault(consequence.rstrip("."), consequence)
    joined = {cause: [*list(parts)[:-1], *list(parts.values())[-1:]] for cause, parts in found.items()}
    return [cause + (f": {'; '.join(parts)}" if parts else "") for cause, parts in joined.items()]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` Did you mean dhollander?`` for a word near to one that is known, else nothing."""
    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""
