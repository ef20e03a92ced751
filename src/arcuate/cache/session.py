"""The cache as a user opens it."""

from __future__ import annotations

import contextlib
import errno
import inspect
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from arcuate.cache.call import Call
from arcuate.cache.files import FileChangedError, FileMemory
from arcuate.cache.fingerprints import UnknownValueError
from arcuate.cache.results import ResultReader, ResultWriter, UnknownResultError
from arcuate.cache.sharing import make_folder
from arcuate.cache.step import CacheSpec, Step, activated, active_cache, step_of, unknown_names
from arcuate.cache.store import CorruptEntryError, Entry, Store
from arcuate.cache.volumes import EntryFiles
from arcuate.errors import InputError, InputWarning, warn
from arcuate.fetch.checksums import checksum_of
from arcuate.numerics.user_folders import as_path


class CacheWarning(InputWarning):
    """A result was computed that could not be kept, or that had been kept and was damaged."""


@dataclass(frozen=True)
class StepCall:
    """What became of one call of a step in an open cache."""

    step: str  # as status() shows it
    key: str | None  # None where an argument has no fingerprint
    was_cached: bool
    seconds: float  # that computing took, then or now
    within: str | None = None  # the step that called it


@dataclass
class _Running:
    """A step that is being computed."""

    step: Step
    undeclared: dict[str, None] = field(default_factory=dict)  # steps that it called and does not declare, in order


_RUNNING: ContextVar[_Running | None] = ContextVar("arcuate_running_step", default=None)


class Cache:
    """Keeps the results of steps in a folder while it is open.

    ::

        with Cache("cache") as cache:
            dti = dwi.estimate_dti(mask=mask)      # computed, or taken from the folder
            print(cache.status([Dti.estimate_dti]))

    A result is taken from the folder when the step, its version, those of the steps that it calls, and the content of
    every argument (defaults written out; those that the step ignores left out) are the same, wherever the files lie and
    whenever they were written. Results for several arguments stay side by side; the flat files
    show the latest call of each step, those that other steps made left out.

    Parameters
    ----------
    folder : made when the cache is opened
    force : steps to compute anew: True for all, or their names (``{"estimate_dti"}`` or ``{"Dti.estimate_dti"}``)
    cache_dir : another name for ``folder``, as kwneuro has it

    Notes
    -----
    Warnings about the input are given again with a kept result. Several processes and threads may use one folder. A
    thread that opens no cache itself uses the one that is open in the process, if there is just one. The innermost of
    nested caches is used. Whatever goes wrong with the folder (full, read-only, damaged), the step is computed, and a
    :class:`CacheWarning` says why it was not kept.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        force: bool | str | Iterable[str] = False,
        *,
        cache_dir: str | Path | None = None,
    ) -> None:
        given = cache_dir if folder is None else folder
        if given is None:
            raise InputError("found no folder for the cache; expected one: Cache(folder).")
        self.folder = as_path(given).absolute()
        self.calls: list[StepCall] = []
        self._forced = {force} if isinstance(force, str) else set() if isinstance(force, bool) else set(force)
        self._forces_all = force is True
        self._store = Store(self.folder)
        self._memory = FileMemory(self._store.root / "files")
        self._latest: dict[str, str | None] = {}  # step -> key of its last call here
        self._told: set[int | None] = set()  # errors of the folder that were told
        self._leases: list[EntryFiles] = []
        self._opened: list[contextlib.AbstractContextManager[None]] = []

    def __enter__(self) -> Self:
        try:
            make_folder(self.folder)
        except FileExistsError:
            raise InputError(f"{self.folder} is a file; expected a folder for the cache.") from None
        except OSError as error:
            warn(f"the cache {self.folder} cannot be made ({error.strerror}); nothing will be kept.", CacheWarning)
            self._told.add(error.errno)
        else:
            self._store.clean_staging()
        self._opened.append(activated(self))
        self._opened[-1].__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._opened.pop().__exit__(None, None, None)
        unknown = unknown_names(self._forced)
        if kind is None and unknown:
            warn(f"force names no step that was loaded: {', '.join(unknown)}; nothing was forced by it.", CacheWarning)

    @property
    def cache_dir(self) -> Path:
        """The folder."""
        return self.folder

    def is_forced(self, step_name: str) -> bool:
        """Whether a step of this name is computed anew."""
        return self._forces_all or step_name in self._forced

    def status(self, steps: Iterable[Callable[..., Any]]) -> dict[str, bool]:
        """Whether each step has a kept result: of its last call here, else of any call with its present version."""
        found: dict[str, bool] = {}
        kept = [entry for entry in self._store.entries() if entry.is_complete()]
        for step in map(step_of, steps):
            key = self._latest.get(step.identity)
            found[step.identity if step.label in found else step.label] = any(
                entry.record["step"] == step.identity
                and (
                    entry.record["key"] == key
                    if step.identity in self._latest
                    else entry.record["versions"] == step.versions
                )
                for entry in kept
            )
        return found

    def run(self, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The result of a step: kept, or computed and kept. Called by steps themselves."""
        try:
            bound = step.bind(args, kwargs)
        except TypeError:
            return step.function(*args, **kwargs)  # says itself what is wrong with its arguments
        around = _RUNNING.get()
        if around is not None and step not in around.step.calls:
            around.undeclared[step.label] = None
        try:
            call = Call.of(step, bound, self._memory)
        except UnknownValueError as error:
            return self._compute_unknown(step, bound, error)
        is_forced = self._forces_all or bool(step.names & self._forced)
        with self._store.lock(call.key):
            found, cause = (None, "forced") if is_forced else self._look_up(call)
            if found is None:
                return self._compute(call, cause)
        result, told = found
        for text in told:
            warn(text)
        return result

    def _look_up(self, call: Call) -> tuple[tuple[Any, list[str]] | None, str]:
        """The kept result and the warnings that belong to it; or None and why there is none."""
        try:
            entry = self._store.find(call.step.name, call.key)
            if entry is None:
                return None, "no entry"
            files = EntryFiles(entry.folder, entry.record["files"])
            if call.step.spec is not None:
                self._leases.append(files)  # what is loaded may read them later
                result = call.step.spec.load(entry.folder)
            else:
                result = ResultReader(files, call.metadata()).read(entry.record["result"])
        except CorruptEntryError as error:
            warn(f"the kept result of {call.step.label} is damaged ({error}); it is computed again.", CacheWarning)
            return None, f"the entry was damaged: {error}"
        except FileNotFoundError:  # gc took it away just now
            return None, "no entry"
        except Exception as error:  # a class that changed, a file that went away: whatever it is, computing helps
            warn(f"the kept result of {call.step.label} cannot be used ({error}); it is computed again.", CacheWarning)
            return None, f"the entry could not be used: {error}"
        self._note(call.step, call.key, float(entry.record["seconds"]), was_cached=True)
        with contextlib.suppress(OSError):
            self._show(entry, call)
        return (result, entry.record["warnings"]), ""

    def _compute(self, call: Call, cause: str) -> Any:
        """The result of a call, kept if it can be."""
        step = call.step
        call.load()
        start = time.perf_counter()
        running = _Running(step)
        token = _RUNNING.set(running)
        try:
            with _recorded_warnings() as told:
                result = step.function(*call.bound.args, **call.bound.kwargs)
        finally:
            _RUNNING.reset(token)
        seconds = time.perf_counter() - start
        self._note(step, call.key, seconds)
        why_not = None
        try:
            if running.undeclared:
                why_not = f"it calls {', '.join(running.undeclared)}; name them: @cacheable(calls=(...))"
            elif changed := call.changed_argument(self._memory):
                why_not = f"{changed} changed while it was computed"
            else:
                facts = {"cause": cause, "warnings": told, "seconds": round(seconds, 3)}
                self._show(self._keep(call, result, facts), call)
        except (UnknownResultError, UnknownValueError) as error:
            why_not = str(error)
        except OSError as error:
            why_not = self._trouble_with_folder(error)
        if why_not:
            warn(f"the result of {step.label} was not kept: {why_not}.", CacheWarning)
        return result

    def _trouble_with_folder(self, error: OSError) -> str | None:
        """Why results are not kept in the folder, and what to do; None where it was said before."""
        if error.errno in self._told:
            return None
        self._told.add(error.errno)
        remedy = "Make room or choose another folder"
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            remedy = (
                "Choose a folder that you may write to, or have its owner share all in it with a group (chmod g+ws)"
            )
        return (
            f"{error.strerror or error} ({self.folder}). {remedy}; results already kept there stay usable, and other "
            "results that are not kept for this reason are not named"
        )

    def _compute_unknown(self, step: Step, bound: inspect.BoundArguments, error: UnknownValueError) -> Any:
        """The result of a call that has no key."""
        warn(f"{step.label} was computed and not kept: {error}.", CacheWarning)
        start = time.perf_counter()
        result = step.function(*bound.args, **bound.kwargs)
        self._note(step, None, time.perf_counter() - start)
        return result

    def _keep(self, call: Call, result: Any, facts: dict[str, Any]) -> Entry:
        with self._store.staging(call.key) as folder:
            node: Any = None
            if call.step.spec is not None:
                flat = _write_by_spec(call.step.spec, result, folder)
            else:
                writer = ResultWriter(folder, call.metadata())
                node = writer.write(result)
                flat = call.step.flat_names(writer.volumes)
            computed = datetime.now(UTC).isoformat(timespec="microseconds")
            return self._store.publish(
                folder, call.record() | facts | {"computed": computed, "flat": flat, "result": node}
            )

    def _show(self, entry: Entry, call: Call) -> None:
        if _RUNNING.get() is None:  # flat files are for what the user called, not for what a step called in turn
            self._store.show(entry, call.sidecar())

    def _note(self, step: Step, key: str | None, seconds: float, *, was_cached: bool = False) -> None:
        around = _RUNNING.get()
        within = None if around is None else around.step.label
        self.calls.append(StepCall(step.label, key, was_cached, seconds, within))
        self._latest[step.identity] = key


def _write_by_spec(spec: CacheSpec[Any], result: Any, folder: Path) -> dict[str, str]:
    """Write a result by the functions of its step; {name of the flat file: file of the entry}."""
    spec.save(result, folder)
    found = {path.name for path in folder.iterdir() if path.is_file()}
    if found != set(spec.files) or len(found) < sum(1 for _ in folder.iterdir()):
        raise UnknownResultError(f"its files are {', '.join(spec.files)}, and save wrote {', '.join(sorted(found))}")
    return {name: name for name in spec.files}


@contextlib.contextmanager
def _recorded_warnings() -> Iterator[list[str]]:
    """Record the texts of the InputWarnings that the block gives; all of its warnings are given on as they are.

    Only in the main thread: Python's way to record warnings is not made for several threads.
    """
    texts: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield texts
        return
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield texts
    finally:
        for one in caught:
            if issubclass(one.category, InputWarning) and not issubclass(one.category, CacheWarning):
                texts.append(str(one.message))
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno, source=one.source)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal. An open cache reads the file once as long as it does not change.

    Raises
    ------
    InputError
        The file was written to meanwhile.
    """
    cache = active_cache()
    if cache is None:
        return checksum_of(path)
    try:
        return cache._memory.sha256(path)
    except FileChangedError as error:
        raise InputError(f"{error}. Start again when nothing writes to it.") from error
