"""Response functions: the signal of one coherent fibre bundle (or tissue) per shell, as zonal harmonics."""

from __future__ import annotations

import importlib
import json
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from arcuate.errors import InputError, warn
from arcuate.gradients import B0_THRESHOLD, SHELL_GAP, GradientTable
from arcuate.models.response_text import as_list, as_number, as_plain, parse_mrtrix
from arcuate.models.response_zonal import tensor_zonal

ALIKE = 0.5  # of the highest anisotropy: a second tissue above it could be the white matter as well
WHITE_MATTER = "wm"


@dataclass(frozen=True, eq=False)
class Response:
    """Signal of each tissue on each shell, as coefficients of zonal harmonics about +z.

    The response decides the model: one tissue on one weighted shell means single-shell CSD, everything else
    multi-tissue CSD. Fibre-orientation functions only obey it.

    Parameters
    ----------
    tissues : names, in any order: the anisotropic tissue is white matter and is moved to the front
        As in ``("wm",)`` or ``("wm", "gm", "csf")``.
    bvals : (n_shell,) float, s/mm²
        b of each row of ``coefs``, lowest first, 0 included where known; all NaN where a file did not say.
    coefs : one (n_shell, n_zonal) float array per tissue
        Row s, column l/2 multiplies the harmonic Y_l0: MRtrix3's form, in the unit of the signal.
        An isotropic tissue has one column.
    algorithm : how it was made: ssst, recursive, tournier, dhollander, file ...
    made_from : plain numbers and strings about its origin, such as ``evals``, ``s0``; nothing reads them
    lmax : degree of the FODs that was asked for with the response; None leaves it to the model
    n_voxels : voxels that the response of one tissue rests on; None where nobody said
    ratio : radial over axial diffusivity of the fibres, where a tensor was fitted
    b0_threshold : s/mm², of the table it was made with: a row at or below it is b = 0

    Raises
    ------
    InputError
        Names and arrays that do not fit together, or numbers that are not finite.
    """

    tissues: tuple[str, ...]
    bvals: np.ndarray
    coefs: tuple[np.ndarray, ...]
    algorithm: str = "file"
    made_from: dict[str, Any] = field(default_factory=dict)
    lmax: int | None = None
    n_voxels: int | None = None
    ratio: float | None = None
    b0_threshold: float = B0_THRESHOLD

    def __post_init__(self) -> None:
        bvals = np.atleast_1d(np.array(self.bvals, dtype=np.float64))
        coefs = tuple(np.atleast_2d(np.array(c, dtype=np.float64)) for c in self.coefs)
        tissues = tuple(str(t) for t in self.tissues)
        if not tissues or len(set(tissues)) != len(tissues) or len(coefs) != len(tissues):
            raise InputError(
                f"found tissues {list(tissues)} and {len(coefs)} tables of coefficients; expected one table for each "
                "of at least one tissue, names all different."
            )
        for tissue, table in zip(tissues, coefs, strict=True):
            if table.ndim != 2 or len(table) != len(bvals) or table.shape[1] == 0:
                raise InputError(
                    f"the response of {tissue} has {len(table)} rows for {len(bvals)} shells; expected one row of "
                    "zonal coefficients for each shell."
                )
            if not np.all(np.isfinite(table)):
                raise InputError(f"the response of {tissue} holds numbers that are not finite; estimate it again.")
        if len(bvals) > 1 and not np.all(np.diff(bvals) > 0) and not np.all(np.isnan(bvals)):
            raise InputError(f"the shells of a response are {bvals.tolist()}; expected each b once, lowest first.")
        for array in (bvals, *coefs):
            array.setflags(write=False)
        for name, kind in (("lmax", int), ("n_voxels", int), ("ratio", float), ("b0_threshold", float)):
            object.__setattr__(self, name, as_number(getattr(self, name), name, kind))
        object.__setattr__(self, "bvals", bvals)
        order = self._white_matter_first(tissues, coefs)
        object.__setattr__(self, "tissues", tuple(tissues[i] for i in order))
        object.__setattr__(self, "coefs", tuple(coefs[i] for i in order))

    def _white_matter_first(self, tissues: tuple[str, ...], coefs: tuple[np.ndarray, ...]) -> list[int]:
        """The order of the tissues that puts the anisotropic one first and leaves the others as they came."""
        shape = np.array([anisotropy(table[self.weighted]) for table in coefs])
        alike = np.flatnonzero((shape > 0) & (shape >= ALIKE * shape.max()))
        if not len(alike):
            return list(range(len(tissues)))
        named = [i for i in alike if tissues[i] == WHITE_MATTER]
        white = int(named[0]) if named else int(np.argmax(shape))
        return [white, *(i for i in range(len(tissues)) if i != white)]

    def __repr__(self) -> str:
        shells, degrees = ", ".join(f"{b:.0f}" for b in self.shells), "/".join(map(str, self.lmax_of_tissues))
        return f"Response({self.algorithm}: {', '.join(self.tissues)} at b = {shells} s/mm², degree {degrees})"

    def _repr_html_(self) -> str:  # drawn above: by name
        return str(importlib.import_module("arcuate.volumes.display").html_of_response(self))

    @property
    def weighted(self) -> np.ndarray:
        """Rows that belong to weighted shells; (n,) int. A shell of unknown b counts as one."""
        return np.flatnonzero(~(self.bvals <= self.b0_threshold))

    @property
    def shells(self) -> tuple[float, ...]:
        """b of the weighted shells, s/mm²; NaN where a file did not say."""
        return tuple(float(b) for b in self.bvals[self.weighted])

    @property
    def is_single_shell(self) -> bool:
        """One tissue on one weighted shell: the model is single-shell CSD."""
        return len(self.tissues) == 1 and len(self.weighted) == 1

    @property
    def degree(self) -> int:
        """Highest degree of any tissue."""
        return max(self.lmax_of_tissues)

    @property
    def lmax_of_tissues(self) -> tuple[int, ...]:
        """Highest degree of each tissue; 0 is isotropic."""
        return tuple(2 * (table.shape[1] - 1) for table in self.coefs)

    @property
    def s0(self) -> float | None:
        """Signal of the first tissue at b = 0, or None where the response has no such row."""
        at_b0 = self.coefs[0][self.bvals <= self.b0_threshold, 0]
        return float(at_b0[0] / math.sqrt(4 * math.pi)) if len(at_b0) else None

    def get_tissue(self, tissue: str) -> np.ndarray:
        """(n_shell, n_zonal) coefficients of one tissue."""
        if tissue not in self.tissues:
            raise InputError(f"the response has no tissue {tissue!r}; it has {', '.join(self.tissues)}.")
        return self.coefs[self.tissues.index(tissue)]

    def get_zonal(self) -> np.ndarray:
        """(n_zonal,) coefficients of the single weighted shell of a single-shell response."""
        if not self.is_single_shell:
            raise InputError(
                f"found a response of {len(self.tissues)} tissues on the shells {_as_list(self.shells)}; single-shell "
                "CSD takes one tissue on one shell. Estimate it with algorithm 'ssst', 'tournier' or 'recursive'."
            )
        return self.coefs[0][self.weighted[0]]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON; :meth:`from_dict` reads them back exactly."""
        known = ("lmax", "n_voxels", "ratio")
        return {
            "algorithm": self.algorithm,
            "bvals": [None if math.isnan(b) else float(b) for b in self.bvals],
            "tissues": {t: table.tolist() for t, table in zip(self.tissues, self.coefs, strict=True)},
            **{name: getattr(self, name) for name in known if getattr(self, name) is not None},
            "b0_threshold": self.b0_threshold,
            "made_from": as_plain(self.made_from),
            "basis": "zonal harmonics Y_l0 (orthonormal), l = 0 2 4 ..., fibre along +z: MRtrix3's response form",
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Response:
        """Response from :meth:`to_dict`, or from the sidecar of an image of FODs, which holds it.

        The first version kept lmax, n_voxels and ratio among the remarks of ``made_from``, and knew one threshold.
        """
        if isinstance(content, dict) and "tissues" not in content:
            content = content.get("Response", content)
        try:
            tables = content["tissues"]
            bvals = [math.nan if b is None else float(b) for b in content["bvals"]]
            coefs = tuple(np.array(table, dtype=np.float64) for table in tables.values())
            remarks = dict(content.get("made_from", {}))
            fields: dict[str, Any] = {
                name: content.get(name, remarks.pop(name, None)) for name in ("lmax", "n_voxels", "ratio")
            }
            fields["b0_threshold"] = content.get("b0_threshold", B0_THRESHOLD)
            return cls(tuple(tables), np.array(bvals), coefs, str(content["algorithm"]), remarks, **fields)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"this is not a response written by arcuate ({error!r}); expected the entries algorithm, bvals and "
                "tissues. Write it with `arcuate response`."
            ) from error

    def to_json(self) -> str:
        """The response as JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Response:
        """Response from JSON text."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"the response is not JSON: {error}.") from error
        return cls.from_dict(content)

    def to_mrtrix(self, tissue: str | None = None) -> str:
        """Text of one tissue as MRtrix3 reads it: a line of shells, then one row of coefficients per shell.

        A single-shell response is written as the one row that ``dwi2fod csd`` takes.
        """
        table = self.coefs[0] if tissue is None else self.get_tissue(tissue)
        rows = self.weighted if self.is_single_shell else np.arange(len(self.bvals))
        lines = []
        if not np.any(np.isnan(self.bvals[rows])):
            lines.append("# Shells: " + ",".join(f"{b:.10g}" for b in self.bvals[rows]))
        if self.b0_threshold != B0_THRESHOLD:
            lines.append(f"# b0_threshold: {self.b0_threshold:.10g}")
        lines += [" ".join(f"{value:.17g}" for value in table[row]) for row in rows]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_mrtrix(cls, texts: dict[str, str], bvals: np.ndarray | None = None) -> Response:
        """Response from MRtrix3's text, ``{tissue: text}``.

        Parameters
        ----------
        bvals : (n_shell,) float, s/mm²
            The shells, for files without the line ``# Shells:``, as MRtrix3 wrote them before version 3. Without both
            the shells stay unknown until the response meets a scan, see :meth:`on_shells_of`.
        """
        shells, coefs = None if bvals is None else np.atleast_1d(np.asarray(bvals, dtype=np.float64)), []
        thresholds = {}
        for tissue, text in texts.items():
            found, table, threshold = parse_mrtrix(tissue, text)
            if found is not None:
                if shells is not None and (len(shells) != len(found) or np.any(np.abs(shells - found) > SHELL_GAP)):
                    raise InputError(
                        f"the response of {tissue} is for the shells {found.tolist()}, expected {shells.tolist()}; "
                        "give responses made from the same scan."
                    )
                shells = found if shells is None else shells
            coefs.append(table)
            thresholds[tissue] = B0_THRESHOLD if threshold is None else threshold
        if len(set(thresholds.values())) > 1:
            raise InputError(
                f"the responses were made with different thresholds of b=0 ({as_list(thresholds)} s/mm²); expected "
                "one. Estimate them on the same scan with the same --b0-threshold."
            )
        n_rows = {tissue: len(table) for tissue, table in zip(texts, coefs, strict=True)}
        if len(set(n_rows.values())) > 1:
            raise InputError(
                f"the responses have different numbers of rows ({as_list(n_rows)}); expected a row per shell in each. "
                "Give responses made from the same scan."
            )
        if shells is None:
            shells = np.full(next(iter(n_rows.values())), math.nan)
        threshold = next(iter(thresholds.values()))
        return cls(tuple(texts), shells, tuple(coefs), "file", b0_threshold=threshold)

    def on_shells_of(self, gradients: GradientTable) -> Response:
        """The response with the shells of a scan, where its file did not name them and the number of rows is theirs.

        Rows are taken in the order of the b-values, b = 0 first where the scan has it, with a warning, as MRtrix3
        does. One row of one tissue stays unknown: single-shell CSD has a rule of its own.

        Raises
        ------
        InputError
            Another number of rows than the scan has shells.
        """
        if not np.any(np.isnan(self.bvals)) or (len(self.tissues) == 1 and len(self.bvals) == 1):
            return self
        bvals = np.array([0.0] * bool(gradients.is_b0.any()) + [shell.b for shell in gradients.shells])
        listed = ", ".join(f"{b:.0f}" for b in bvals)
        if len(bvals) != len(self.bvals):
            raise InputError(
                f"the response has {len(self.bvals)} rows and no line '# Shells: ...' that says which b-values they "
                f"belong to, and the scan has {len(bvals)} (b = {listed} s/mm²); expected as many. Add the line at the "
                "top of the files, as dwi2response does, or estimate the response on this scan."
            )
        warn(
            f"the response has no line '# Shells: ...'; its {len(bvals)} rows are taken in order, as b = {listed} "
            "s/mm² of the scan."
        )
        return replace(self, bvals=bvals, b0_threshold=gradients.b0_threshold)

    def with_origin(self, **facts: Any) -> Response:
        """The same response with more said about its origin."""
        return replace(self, made_from={**self.made_from, **facts})


def merge_responses(responses: list[Response]) -> Response:
    """One response of all tissues, from responses on the same shells."""
    first = responses[0]
    for other in responses[1:]:
        if other.bvals.shape != first.bvals.shape or np.any(np.abs(other.bvals - first.bvals) > SHELL_GAP):
            raise InputError(
                f"found responses on the shells {first.bvals.tolist()} and {other.bvals.tolist()}; expected the same "
                "shells in all. Give responses made from the same scan by one algorithm."
            )
        if other.b0_threshold != first.b0_threshold:
            raise InputError(
                f"found responses made with the thresholds of b=0 {first.b0_threshold:g} and {other.b0_threshold:g} "
                "s/mm²; expected one. Estimate them on the same scan with the same --b0-threshold."
            )
    asked = {r.lmax for r in responses if r.lmax is not None}
    return replace(
        first,
        tissues=tuple(t for r in responses for t in r.tissues),
        coefs=tuple(c for r in responses for c in r.coefs),
        lmax=max(asked, default=None),
        n_voxels=first.n_voxels if len(responses) == 1 else None,
    )


def tensor_response(evals: np.ndarray, s0: float, b: float, *, lmax: int = 8, **origin: Any) -> Response:
    """Single-shell response of a tensor, b = 0 row included (algorithm ``ssst``); evals (3,) in mm²/s, b in s/mm²."""
    evals = np.asarray(evals, dtype=np.float64)
    rows = np.zeros((2, lmax // 2 + 1))
    rows[0, 0] = s0 * math.sqrt(4 * math.pi)
    rows[1] = tensor_zonal(evals, s0, b, lmax)
    facts = {"evals": [float(e) for e in evals], "s0": float(s0), **origin}
    known = {name: facts.pop(name) for name in ("n_voxels", "b0_threshold") if name in facts}
    ratio = float(np.mean(evals[1:]) / evals[0])
    return Response(("wm",), np.array([0.0, b]), (rows,), "ssst", facts, ratio=ratio, **known)


def anisotropy(table: np.ndarray) -> float:
    """Largest |degree 2| over degree 0 in zonal coefficients (n_shell, n_degree); 0 of an isotropic tissue."""
    mean, other = np.abs(table[:, 0]), np.abs(table[:, 1:]).max(axis=1, initial=0.0)
    return float(np.max(np.divide(other, mean, out=np.zeros(len(mean)), where=mean > 0), initial=0.0))


def _as_list(shells: tuple[float, ...]) -> str:
    return ", ".join("unknown" if math.isnan(b) else f"{b:.0f}" for b in shells) or "none"
