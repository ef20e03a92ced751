"""What makes a function a step: its name, its version, and which of its arguments decide the result."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from arcuate.volumes.as_volume import as_volume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arcuate.cache.session import Cache

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True)
class CacheSpec(Generic[T]):
    """How the results of a step lie in files, where they are of a kind that the cache does not know.

    Written ``@cacheable(CacheSpec(files=["table.csv"], save=write_table, load=read_table))``.

    Parameters
    ----------
    files : names of the files of one result, in one folder
    save : ``save(result, folder)`` writes them
    load : ``load(folder)`` gives the result back
    step_name : name of the step; by default that of its function
    """

    files: list[str]
    save: Callable[[T, Path], Any]
    load: Callable[[Path], T]
    step_name: str = ""


@dataclass(frozen=True, eq=False)
class Step:
    """A function whose results can be kept.

    Parameters
    ----------
    function : the function without the cache
    version : int or str
        Beside the definition of the step: raised by hand when the step gives other numbers. Without one, a digest of
        the function's own code, so that an edited function never meets the results of its former self.
    outputs : names of the result's volumes among the flat files, see :func:`cacheable`
    ignore : names of arguments that are not in the key
    calls : the steps that this one calls
    spec : how results are written and read; None where the cache knows their kind
    """

    function: Callable[..., Any]
    version: int | str
    outputs: tuple[str, ...] | Mapping[str, str] | None
    ignore: frozenset[str]
    calls: tuple[Step, ...] = ()
    spec: CacheSpec[Any] | None = None

    @functools.cached_property
    def versions(self) -> dict[str, int | str]:
        """{step: version} of this step and of all that it calls, these in turn included."""
        known: dict[str, int | str] = {self.identity: self.version}
        for called in self.calls:
            known |= called.versions
        return known

    @property
    def name(self) -> str:
        """Name that the flat files start with: ``estimate_dti``."""
        return (self.spec.step_name if self.spec else "") or self.function.__name__

    @property
    def label(self) -> str:
        """Name that :meth:`Cache.status` shows: ``Dti.estimate_dti``."""
        return self.function.__qualname__.rsplit("<locals>.", 1)[-1]

    @property
    def identity(self) -> str:
        """Name that no other step has: module and qualified name; for a script, the name of its file."""
        module = self.function.__module__
        if module == "__main__":
            path = getattr(sys.modules["__main__"], "__file__", None)
            module = f"__main__:{Path(path).stem}" if path else module
        return f"{module}.{self.function.__qualname__}"

    @property
    def names(self) -> set[str]:
        """What people may call this step: its plain, qualified or full name."""
        return {self.name, self.label, self.function.__qualname__, self.identity}

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        """The call's arguments by name, defaults written out."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound

    def with_volumes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call; where the step wants a volume, paths, nibabel images and arrays are made one."""
        wanted = [name for name, p in self.signature.parameters.items() if _is_volume(p.annotation)]
        if not wanted:
            return args, kwargs
        bound = self.signature.bind(*args, **kwargs)
        scan = next((value for value in bound.arguments.values() if hasattr(value, "volume")), None)
        for name in wanted:
            if bound.arguments.get(name) is not None:
                bound.arguments[name] = as_volume(bound.arguments[name], like=getattr(scan, "volume", None))
        return bound.args, bound.kwargs

    def deciding(self, bound: inspect.BoundArguments) -> dict[str, Any]:
        """The arguments that decide the result, by name; ``**options`` are laid out flat."""
        named: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            else:
                named[name] = value
        return {name: value for name, value in named.items() if name not in self.ignore}

    def flat_names(self, volumes: Mapping[str, str]) -> dict[str, str]:
        """{name of the flat file: file}, of the volumes of a result as {part: file}."""
        outputs = self.outputs
        if outputs is None:
            is_only = len(volumes) == 1
            tails = {
                part: "" if part in ("", "volume") or is_only else f"_{part.replace('.', '_')}" for part in volumes
            }
            names = {part: f"{self.name}{tail}" for part, tail in tails.items()}
        elif isinstance(outputs, Mapping):
            names = dict(outputs)
        else:  # one for each member of a tuple, else for the volumes in order
            members = {str(i): name for i, name in enumerate(outputs)}
            names = members if members.keys() & volumes.keys() else dict(zip(volumes, outputs, strict=False))
        return {f"{name}.nii.gz": volumes[part] for part, name in names.items() if part in volumes}


_ACTIVE: ContextVar[Cache | None] = ContextVar("arcuate_cache", default=None)
_OPEN: list[Cache] = []  # every cache that is open in this process, for threads that opened none themselves
_OPEN_LOCK = threading.Lock()
_NAMES: set[str] = set()  # that the steps of this process answer to


def active_cache() -> Cache | None:
    """The cache that a step called here and now would use.

    The innermost one opened in this context; in a thread that opened none, the one that is open in the process, if
    there is exactly one.
    """
    cache = _ACTIVE.get()
    if cache is None and len(set(_OPEN)) == 1:
        return _OPEN[0]
    return cache if cache in _OPEN else None


@contextmanager
def activated(cache: Cache) -> Iterator[None]:
    """Make ``cache`` the one of this context."""
    with _OPEN_LOCK:
        _OPEN.append(cache)
    token = _ACTIVE.set(cache)
    try:
        yield
    finally:
        with _OPEN_LOCK:
            _OPEN.remove(cache)
        _ACTIVE.reset(token)


def unknown_names(names: Iterable[str]) -> list[str]:
    """Those that no step of this process answers to."""
    return sorted(set(names) - _NAMES)


@overload
def cacheable(step: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def cacheable(spec: CacheSpec[Any], /, *, version: int | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
@overload
def cacheable(
    *,
    version: int | None = None,
    outputs: Iterable[str] | Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    calls: Iterable[Callable[..., Any]] = (),
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def cacheable(
    step: Callable[..., Any] | CacheSpec[Any] | None = None,
    /,
    *,
    version: int | None = None,
    outputs: Iterable[str] | Mapping[str, str] | None = None,
    ignore: Iterable[str] = (),
    calls: Iterable[Callable[..., Any]] = (),
) -> Any:
    """The function as a step whose results an open :class:`~arcuate.cache.Cache` keeps.

    Outside a cache it is the plain function. Written ``@cacheable`` or ``@cacheable(version=1)``, below
    ``@staticmethod`` or ``@classmethod`` where there is one. A step must be a function of its arguments alone:
    globals and enclosed variables are not seen. ``@cacheable(CacheSpec(...))`` says how results are written and read.

    Parameters
    ----------
    version : int
        To be raised when the step gives other numbers for the same arguments. Left out, the step is known by a
        digest of its own code (not of the functions it calls).
    outputs : names or {part: name}
        Names of the flat files, for the result's volumes in order; or from the name of the field to that of the
        file: ``{"volume": "estimate_noddi"}``. Volumes without a name here are
        kept, and have no flat file. By default every volume has one: the name of the step for the only volume, and
        for a field called ``volume``; the name of the step, an underscore and the field or number for the others.
    ignore : names of arguments
        Not in the key, because they cannot change the result, such as a progress bar or the number of threads.
    calls : steps
        Those that this one calls: with another version of one of them it is another step. A result during which
        another step was called is not kept.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        if isinstance(function, staticmethod | classmethod):
            return type(function)(decorate(function.__func__))
        if not callable(function) or not hasattr(function, "__qualname__"):
            raise TypeError(f"@cacheable expects a function, not {function!r}")
        known = Step(
            function,
            version=_code_digest(function) if version is None else int(version),
            outputs=outputs if outputs is None or isinstance(outputs, Mapping) else tuple(outputs),
            ignore=frozenset(ignore),
            calls=tuple(map(step_of, calls)),
            spec=step if isinstance(step, CacheSpec) else None,
        )
        _NAMES.update(known.names)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = known.with_volumes(args, kwargs)
            cache = active_cache()
            return function(*args, **kwargs) if cache is None else cache.run(known, args, kwargs)

        cast(Any, wrapper).step = known
        return wrapper

    return decorate if step is None or isinstance(step, CacheSpec) else decorate(step)


def step_of(function: Callable[..., Any]) -> Step:
    """The step behind a function decorated with :func:`cacheable`."""
    step = getattr(function, "step", None)
    if not isinstance(step, Step):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"{name} is no step: expected a function decorated with @cacheable")
    return step


def _is_volume(annotation: Any) -> bool:
    """Whether a parameter is written as a volume, or one or None."""
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return name.replace(" ", "") in {"VolumeResource", "VolumeResource|None"}


def _code_digest(function: Callable[..., Any]) -> str:
    """Digest of what a function does by itself: its byte code and constants, not where it is written."""

    def content(code: CodeType) -> list[Any]:
        constants = [content(c) if isinstance(c, CodeType) else _ordered(c) for c in code.co_consts]
        return [code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants]

    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        raise TypeError(f"{function!r} has no code in Python to be known by: give it a version")
    return f"code:{hashlib.sha256(repr(content(code)).encode()).hexdigest()[:16]}"


def _ordered(constant: Any) -> str:
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
