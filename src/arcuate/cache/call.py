"""One call of a step: what was given, and the key that this makes."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arcuate._version import __version__
from arcuate.cache.files import FileMemory
from arcuate.cache.fingerprints import Fingerprint, Fingerprinter, is_scalar
from arcuate.cache.results import metadata_digest
from arcuate.cache.step import Step
from arcuate.volumes.resource import VolumeResource


@dataclass(frozen=True)
class Call:
    """A step and the arguments of one call, recognised by their content."""

    step: Step
    bound: inspect.BoundArguments
    prints: Mapping[str, Fingerprint]  # of the arguments that decide the result
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
        digest = hashlib.sha256(f"{self.step.identity}\0".encode())
        for identity, version in sorted(self.step.versions.items()):
            digest.update(f"{identity}\0{version}\0".encode())
        for name, print_ in sorted(self.prints.items()):
            digest.update(f"{name}\0{print_.digest}\0".encode())
        return digest.hexdigest()

    @property
    def place(self) -> tuple[str, str, str]:
        """Where the store keeps its result."""
        return self.step.identity, self.step.name, self.key

    def sidecar(self) -> dict[str, Any]:
        """What the result is made from, for people to read."""
        arguments = self.step.deciding(self.bound)
        scalars = {name: _as_json(value) for name, value in arguments.items() if is_scalar(value)}
        return {
            "step": self.step.label,
            "step_version": self.step.version,
            "arcuate_version": __version__,
            "key": self.key,
            "scalars": scalars,
            "hashes": {name: self.prints[name].digest for name in arguments if name not in scalars},
        }

    def record(self) -> dict[str, Any]:
        """What an entry says of the call: the sidecar, and what tells it from other calls."""
        return self.sidecar() | {
            "step": self.step.identity,
            "label": self.step.label,
            "name": self.step.name,
            "versions": self.step.versions,
            "arguments": {name: value.to_json() for name, value in self.prints.items()},
        }

    def metadata(self) -> dict[str, dict[str, Any]]:
        """Header entries of the volumes that came in, by the name of the argument."""
        found: dict[str, dict[str, Any]] = {}
        for name, value in self.step.deciding(self.bound).items():
            if isinstance(value, VolumeResource):
                found[name] = value.get_metadata()
            elif isinstance(volume := getattr(value, "volume", None), VolumeResource):
                found[f"{name}.volume"] = volume.get_metadata()
        return found

    def metadata_digests(self) -> dict[str, str]:
        """Digests of the header entries that have one."""
        digests = {name: metadata_digest(entries) for name, entries in self.metadata().items()}
        return {name: digest for name, digest in digests.items() if digest is not None}

    def load(self) -> None:
        """Put the volumes that were fingerprinted on disk into memory, for the step to compute on.

        Raises
        ------
        UnknownValueError
            A file changed since it was fingerprinted.
        """
        loaded = {name: self.fingerprinter.loaded(value) for name, value in self.bound.arguments.items()}
        self.bound.arguments.update(loaded)

    def changed_argument(self, memory: FileMemory) -> str | None:
        """Name of an argument that is not what it was when the call was made."""
        now = Call.of(self.step, self.bound, memory)
        return next((name for name in self.prints if now.prints[name].digest != self.prints[name].digest), None)


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if hasattr(value, "name") and hasattr(value, "value"):  # an enum
        return value.name
    return value.item() if hasattr(value, "item") else value
