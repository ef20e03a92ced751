"""The cache as a user opens it."""

from __future__ import annotations

import contextlib
import hashlib
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

from arcuate._version import __version__
from arcuate.cache.files import FileChangedError, FileMemory
from arcuate.cache.fingerprints import Fingerprint, Fingerprinter, UnknownValueError, is_scalar
from arcuate.cache.results import ResultReader, ResultWriter, UnknownResultError, metadata_digest
from arcuate.cache.step import (
    Runner,
    Step,
    activate,
    active_cache,
    deactivate,
    known_names,
    step_of,
)
from arcuate.cache.store import CorruptEntryError, Entry, Store
from arcuate.cache.volumes import EntryFiles
from arcuate.errors import InputError, InputWarning
from arcuate.volumes.resource import VolumeResource


class CacheWarning(InputWarning):
    """A result was computed that could not be kept, or that had been kept and was damaged."""


@dataclass(frozen=True)
class StepCall:
    """What became of one call of a step in an open cache."""

    step: str  # as status() shows it
    key: str | None  # None where an argument has no fingerprint
    was_cached: bool
    seconds: float  # that computing took, then or now
    scalars: dict[str, Any]
    hashes: dict[str, str]
    within: str | None = None  # the step that called it


@dataclass
class _Running:
    """A step that is being computed."""

    step: Step
    undeclared: list[str] = field(default_factory=list)  # steps that it called and does not declare


_RUNNING: ContextVar[_Running | None] = ContextVar("arcuate_running_step", default=None)


@dataclass
class _Key:
    """One call's identity."""

    step: Step
    text: str
    scalars: dict[str, Any]
    hashes: dict[str, str]
    prints: dict[str, Fingerprint]
    fingerprinter: Fingerprinter
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the volumes that came in

    @property
    def place(self) -> tuple[str, str, str]:
        return self.step.identity, self.step.name, self.text

    def sidecar(self) -> dict[str, Any]:
        return {
            "step": self.step.label,
            "step_version": self.step.version,
            "arcuate_version": __version__,
            "key": self.text,
            "scalars": self.scalars,
            "hashes": self.hashes,
        }


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
            around.undeclared.append(step.label)
        try:
            key = self._key_of(step, step.deciding(bound))
        except UnknownValueError as error:
            _warn(f"{step.label} was computed and not kept: {error}.")
            return self._compute_only(step, args, kwargs)
        is_forced = self.force is True or (self.force is not False and any(map(step.answers_to, self.force)))
        cause = "forced" if is_forced else "no entry"
        if not is_forced:
            found, cause = self._look_up(key)
            if found is not None:
                return _said_again(found)
        with self._store.lock(key.text) as is_locked:
            if not is_forced and is_locked:
                found, later = self._look_up(key)
                if found is not None:
                    return _said_again(found)
                cause = cause if later == "no entry" else later
            return self._compute(key, bound, cause)

    def _key_of(self, step: Step, arguments: Mapping[str, Any]) -> _Key:
        fingerprinter = Fingerprinter(self._memory)
        prints = {name: fingerprinter.fingerprint(value, name) for name, value in arguments.items()}
        digest = hashlib.sha256(f"{step.identity}\0".encode())
        for identity, version in sorted(step.versions.items()):
            digest.update(f"{identity}\0{version}\0".encode())
        for name in sorted(prints):
            digest.update(f"{name}\0{prints[name].digest}\0".encode())
        scalars = {name: _as_json(value) for name, value in arguments.items() if is_scalar(value)}
        hashes = {name: prints[name].digest for name in arguments if name not in scalars}
        metadata: dict[str, dict[str, Any]] = {}
        for name, value in arguments.items():
            if isinstance(value, VolumeResource):
                metadata[name] = value.get_metadata()
            elif isinstance(volume := getattr(value, "volume", None), VolumeResource):
                metadata[f"{name}.volume"] = volume.get_metadata()
        return _Key(step, digest.hexdigest(), scalars, hashes, prints, fingerprinter, metadata)

    def _look_up(self, key: _Key) -> tuple[tuple[Any, list[str]] | None, str]:
        """The kept result and the warnings that belong to it; or None and why there is none."""
        try:
            entry = self._store.find(*key.place)
            if entry is None:
                return None, "no entry"
            files = EntryFiles(entry.folder, entry.record["files"])
            result = ResultReader(files, key.metadata).read(entry.record["result"])
        except CorruptEntryError as error:
            _warn(f"the kept result of {key.step.label} is damaged ({error}); it is computed again.")
            return None, f"the entry was damaged: {error}"
        except FileNotFoundError:  # gc took it away just now
            return None, "no entry"
        except Exception as error:  # a class that changed, a file that went away: whatever it is, computing helps
            _warn(f"the kept result of {key.step.label} cannot be used ({error}); it is computed again.")
            return None, f"the entry could not be used: {error}"
        self._note(key, was_cached=True, seconds=float(entry.record["seconds"]))
        with contextlib.suppress(OSError):
            self._show(entry, key)
        return (result, entry.record.get("warnings", [])), ""

    def _compute(self, key: _Key, bound: Any, cause: str) -> Any:
        step = key.step
        try:
            loaded = {name: key.fingerprinter.loaded(value) for name, value in bound.arguments.items()}
        except UnknownValueError as error:
            _warn(f"{step.label} was computed and not kept: {error}.")
            return self._compute_only(step, bound.args, bound.kwargs)
        bound.arguments.update(loaded)
        start = time.perf_counter()
        running = _Running(step)
        token = _RUNNING.set(running)
        try:
            with _heard() as said:
                result = step.function(*bound.args, **bound.kwargs)
        finally:
            _RUNNING.reset(token)
        seconds = time.perf_counter() - start
        self._note(key, was_cached=False, seconds=seconds)
        try:
            if running.undeclared:
                self._latest[step.identity] = None
                names = ", ".join(dict.fromkeys(running.undeclared))
                _warn(f"the result of {step.label} was not kept: it calls {names}; name them: @cacheable(calls=(...)).")
                return result
            changed = self._changed(key, step.deciding(bound))
            if changed:
                _warn(f"{step.label} was not kept: {changed} changed while it was computed.")
                return result
            self._show(self._keep(key, result, seconds, {"cause": cause, "warnings": said}), key)
        except (UnknownResultError, UnknownValueError) as error:
            self._latest[step.identity] = None
            _warn(f"the result of {step.label} was not kept: {error}.")
        except OSError as error:
            self._warn_once(
                f"the result of {step.label} was not kept: {error.strerror or error} ({self.folder}). Make room or "
                "choose another folder; results already kept there stay usable."
            )
        return result

    def _keep(self, key: _Key, result: Any, seconds: float, facts: Mapping[str, Any]) -> Entry:
        step = key.step
        digests = {name: digest for name, value in key.metadata.items() if (digest := metadata_digest(value))}
        with self._store.staging(key.text) as folder:
            writer = ResultWriter(folder, digests)
            node = writer.write(result)
            record = {
                "step": step.identity,
                "label": step.label,
                "name": step.name,
                "step_version": step.version,
                "versions": step.versions,
                "arcuate_version": __version__,
                "key": key.text,
                "computed": datetime.now(UTC).isoformat(timespec="microseconds"),
                "seconds": round(seconds, 3),
                **facts,
                "scalars": key.scalars,
                "hashes": key.hashes,
                "arguments": {name: value.to_json() for name, value in key.prints.items()},
                "flat": _flat_names(step, writer.volumes),
                "result": node,
            }
            return self._store.publish(folder, record)

    def _show(self, entry: Entry, key: _Key) -> None:
        if _RUNNING.get() is None:  # flat files are for what the user called, not for what a step called in turn
            self._store.show(entry, key.sidecar())

    def _changed(self, key: _Key, arguments: Mapping[str, Any]) -> str | None:
        """Name of an argument in memory that is not what it was before the step ran."""
        again = Fingerprinter(self._memory)
        for name, value in arguments.items():
            if again.fingerprint(value, name).digest != key.prints[name].digest:
                return name
        return None

    def _compute_only(self, step: Step, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        start = time.perf_counter()
        result = step.function(*args, **kwargs)
        self._latest[step.identity] = None
        self.calls.append(StepCall(step.label, None, False, time.perf_counter() - start, {}, {}, _within()))
        return result

    def _note(self, key: _Key, *, was_cached: bool, seconds: float) -> None:
        self._latest[key.step.identity] = key.text
        self.calls.append(StepCall(key.step.label, key.text, was_cached, seconds, key.scalars, key.hashes, _within()))

    def _warn_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            _warn(text)


def _within() -> str | None:
    running = _RUNNING.get()
    return None if running is None else running.step.label


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


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if hasattr(value, "name") and hasattr(value, "value"):  # an enum
        return value.name
    return value.item() if hasattr(value, "item") else value


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """The warnings about the input that the block gives; they are given on as they are.

    Only the main thread listens: Python's way to listen is not made for several threads.
    """
    said: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield said
        return
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield said
    finally:
        for one in caught:
            if issubclass(one.category, InputWarning) and not issubclass(one.category, CacheWarning):
                said.append(str(one.message))
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno, source=one.source)


def _said_again(found: tuple[Any, list[str]]) -> Any:
    """A kept result, after the warnings that were given when it was computed."""
    result, said = found
    for text in said:
        warnings.warn(text, InputWarning, stacklevel=4)
    return result


def _warn(text: str) -> None:
    warnings.warn(text, CacheWarning, stacklevel=5)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal. An open cache reads the file once as long as it does not change.

    Raises
    ------
    InputError
        The file was written to meanwhile.
    """
    cache = active_cache()
    if not isinstance(cache, Cache):
        return _sha256_of_file(path)
    try:
        facts = cache._memory.facts(path, "sha256", lambda p: {"sha256": _sha256_of_file(p)})
    except FileChangedError as error:
        raise InputError(f"{error}. Start again when nothing writes to it.") from error
    return str(facts["sha256"])


def _sha256_of_file(path: Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
