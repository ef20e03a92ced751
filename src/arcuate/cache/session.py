"""The cache as a user opens it."""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from arcuate.cache.call import Call
from arcuate.cache.files import FileChangedError, FileMemory
from arcuate.cache.fingerprints import UnknownValueError
from arcuate.cache.results import ResultReader, ResultWriter, UnknownResultError
from arcuate.cache.step import Runner, Step, activate, active_cache, deactivate, known_names, step_of
from arcuate.cache.store import CorruptEntryError, Entry, Store
from arcuate.cache.volumes import EntryFiles
from arcuate.errors import InputError, InputWarning, warn
from arcuate.fetch.checksums import checksum_of


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

    Notes
    -----
    Warnings about the input are given again with a kept result. Several processes and threads may use one folder. A
    thread that opens no cache itself uses the one that is open in the process, if there is just one. The innermost of
    nested caches is used. Whatever goes wrong with the folder (full, read-only, damaged), the step is computed, and a
    :class:`CacheWarning` says why it was not kept.
    """

    def __init__(self, folder: str | Path, force: bool | str | Iterable[str] = False) -> None:
        self.folder = Path(folder).absolute()
        self.force: bool | frozenset[str]
        if isinstance(force, bool):
            self.force = force
        else:
            self.force = frozenset({force} if isinstance(force, str) else force)
        self.calls: list[StepCall] = []
        self._store = Store(self.folder)
        self._memory = FileMemory(self._store.root / "files")
        self._latest: dict[str, str | None] = {}  # step -> key of its last call here
        self._tokens: list[Token[Runner | None]] = []
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise InputError(f"{self.folder} is a file; expected a folder for the cache.") from None
        except OSError as error:
            self._warn_once(f"the cache {self.folder} cannot be made ({error.strerror}); nothing will be kept.")
        else:
            with contextlib.suppress(OSError):
                self._store.clean_staging()
        self._tokens.append(activate(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deactivate(self, self._tokens.pop())
        if kind is None and isinstance(self.force, frozenset):
            unknown = sorted(self.force - known_names())
            if unknown:
                self._warn_once(f"force names no step that was loaded: {', '.join(unknown)}; nothing was forced by it.")

    def status(self, steps: Iterable[Callable[..., Any]]) -> dict[str, bool]:
        """Whether each step has a kept result: of its last call here, else of any call with its present version."""
        found: dict[str, bool] = {}
        for function in steps:
            step = step_of(function)
            label = step.identity if step.label in found else step.label
            if step.identity in self._latest:
                key = self._latest[step.identity]
                found[label] = key is not None and self._store.peek(step.identity, step.name, key)
            else:
                found[label] = any(
                    entry.record["versions"] == step.versions
                    and self._store.peek(step.identity, step.name, entry.record["key"])
                    for entry in self._store.entries(step.identity)
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
        is_forced = self.force is True or (self.force is not False and any(map(step.answers_to, self.force)))
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
            entry = self._store.find(*call.place)
            if entry is None:
                return None, "no entry"
            files = EntryFiles(entry.folder, entry.record["files"])
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
        step = call.step
        try:
            call.load()
        except UnknownValueError as error:
            return self._compute_unknown(step, call.bound, error)
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
        if running.undeclared:
            self._latest[step.identity] = None
            self._say(f"it calls {', '.join(running.undeclared)}; name them: @cacheable(calls=(...))", step)
            return result
        try:
            changed = call.changed_argument(self._memory)
            if changed:
                warn(f"{step.label} was not kept: {changed} changed while it was computed.", CacheWarning)
                return result
            facts = {"cause": cause, "warnings": told, "seconds": round(seconds, 3)}
            self._show(self._keep(call, result, facts), call)
        except (UnknownResultError, UnknownValueError) as error:
            self._latest[step.identity] = None
            self._say(str(error), step)
        except OSError as error:
            self._warn_once(
                f"the result of {step.label} was not kept: {error.strerror or error} ({self.folder}). Make room or "
                "choose another folder; results already kept there stay usable."
            )
        return result

    def _keep(self, call: Call, result: Any, facts: dict[str, Any]) -> Entry:
        with self._store.staging(call.key) as folder:
            writer = ResultWriter(folder, call.metadata_digests())
            node = writer.write(result)
            computed = datetime.now(UTC).isoformat(timespec="microseconds")
            flat = _flat_names(call.step, writer.volumes)
            return self._store.publish(
                folder, call.record() | facts | {"computed": computed, "flat": flat, "result": node}
            )

    def _show(self, entry: Entry, call: Call) -> None:
        if _RUNNING.get() is None:  # flat files are for what the user called, not for what a step called in turn
            self._store.show(entry, call.sidecar())

    def _compute_unknown(self, step: Step, bound: inspect.BoundArguments, error: UnknownValueError) -> Any:
        """The result of a call that has no key."""
        warn(f"{step.label} was computed and not kept: {error}.", CacheWarning)
        start = time.perf_counter()
        result = step.function(*bound.args, **bound.kwargs)
        self._note(step, None, time.perf_counter() - start)
        return result

    def _note(self, step: Step, key: str | None, seconds: float, *, was_cached: bool = False) -> None:
        around = _RUNNING.get()
        self._latest[step.identity] = key
        within = None if around is None else around.step.label
        self.calls.append(StepCall(step.label, key, was_cached, seconds, within))

    def _say(self, why: str, step: Step) -> None:
        warn(f"the result of {step.label} was not kept: {why}.", CacheWarning)

    def _warn_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            warn(text, CacheWarning)


def _flat_names(step: Step, volumes: Mapping[str, str]) -> dict[str, str]:
    """{name of the flat file: file of the entry}; ``volumes`` maps parts of the result to files."""
    outputs = step.outputs
    if outputs is None:
        parts = list(volumes)
        names = {
            part: step.name if part in ("", "volume") or len(parts) == 1 else f"{step.name}_{part.replace('.', '_')}"
            for part in parts
        }
    elif isinstance(outputs, Mapping):
        names = {part: outputs[part] for part in volumes if part in outputs}
    elif set(volumes) == {""}:
        names = {"": outputs[0]}
    else:
        names = {str(i): name for i, name in enumerate(outputs) if str(i) in volumes}
        if not names:  # the volumes of an object, in order
            names = dict(zip(volumes, outputs, strict=False))
    return {f"{name}.nii.gz": volumes[part] for part, name in names.items()}


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
    if not isinstance(cache, Cache):
        return checksum_of(path)
    try:
        facts, _ = cache._memory.facts(path, "sha256", lambda p: {"sha256": checksum_of(p)})
    except FileChangedError as error:
        raise InputError(f"{error}. Start again when nothing writes to it.") from error
    return str(facts["sha256"])
