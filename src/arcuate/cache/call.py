"""One call of a step: what was given, and the key that this makes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from arcuate._version import __version__
from arcuate.cache.files import FileMemory
from arcuate.cache.fingerprints import Fingerprinter, digest_of
from arcuate.cache.step import Step
from arcuate.volumes.resource import VolumeResource


@dataclass(frozen=True)
class Call:
    """A step and the arguments of one call, recognised by their content."""

    step: Step
    bound: inspect.BoundArguments
    prints: Mapping[str, dict[str, str]]  # fingerprints of the arguments that decide the result
    fingerprinter: Fingerprinter

    @classmethod
    def of(cls, step: Step, bound: inspect.BoundArguments, memory: FileMemory) -> Call:
        """The call with the fingerprints of its arguments.

        Raises
        ------
        UnknownValueError
            An argument has none.
        """
        fingerprinter = Fingerprinter(memory)
        prints = {name: fingerprinter.fingerprint(value, name) for name, value in step.deciding(bound).items()}
        return cls(step, bound, prints, fingerprinter)

    @functools.cached_property
    def key(self) -> str:
        """Digest of the step, the versions of all steps in it, and its arguments."""
        return digest_of([self.step.identity, self.step.versions, self.prints])

    def sidecar(self) -> dict[str, Any]:
        """What the result is made from, for people to read."""
        arguments = self.step.deciding(self.bound)
        scalars = {name: _as_json(value) for name, value in arguments.items() if _is_scalar(value)}
        return {
            "step": self.step.label,
            "step_version": self.step.version,
            "arcuate_version": __version__,
            "key": self.key,
            "scalars": scalars,
            "hashes": {name: digest_of(self.prints[name]) for name in arguments if name not in scalars},
        }

    def record(self) -> dict[str, Any]:
        """What an entry says of the call: the sidecar, and what tells it from other calls."""
        return self.sidecar() | {
            "step": self.step.identity,
            "label": self.step.label,
            "name": self.step.name,
            "versions": self.step.versions,
            "arguments": self.prints,
        }

    def metadata(self) -> dict[str, dict[str, Any]]:
        """Header entries of the volumes that came in, by the name of the argument."""
        found: dict[str, dict[str, Any]] = {}
        for name, value in self.step.deciding(self.bound).items():
            volume = value if isinstance(value, VolumeResource) else getattr(value, "volume", None)
            if isinstance(volume, VolumeResource):
                found[name] = volume.get_metadata()
        return found

    def load(self) -> None:
        """Put the volumes that were fingerprinted on disk into memory, for the step to compute on."""
        for name, value in self.bound.arguments.items():
            self.bound.arguments[name] = self.fingerprinter.loaded(value)

    def changed_argument(self, memory: FileMemory) -> str | None:
        """Name of an argument that is not what it was when the call was made."""
        now = Call.of(self.step, self.bound, memory)
        return next((name for name in self.prints if now.prints[name] != self.prints[name]), None)


def _is_scalar(value: Any) -> bool:
    """Whether the sidecar shows the value itself: numbers, strings, None, and short lists of them."""
    if isinstance(value, list | tuple):
        return len(value) <= 64 and all(map(_is_scalar, value))
    return value is None or isinstance(value, bool | int | float | str | Enum | np.bool_ | np.number)


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    return value.item() if isinstance(value, np.generic) else value
