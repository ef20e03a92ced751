"""Which volumes of a scan are taken: numbers and b-values as people type them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arcuate.errors import InputError, NotApplicable
from arcuate.gradients import GradientTable


def parse_numbers(words: str | float | Sequence[float], what: str) -> np.ndarray:
    """(n,) float from ``"0, 1000"``, one number or several."""
    parts = _as_list(words)
    try:
        numbers = np.array([float(part) for part in parts])
    except (TypeError, ValueError):
        raise InputError(f"found {words!r} for {what}; expected numbers, such as 0,1000.") from None
    if not np.all(np.isfinite(numbers) & (numbers >= 0)):
        raise InputError(f"found {words!r} for {what}; expected numbers of 0 or above, such as 0,1000.")
    return numbers


def parse_volumes(words: str | int | Sequence[int], n_volumes: int) -> np.ndarray:
    """Indices (n,) int from ``"3,17-20,last"`` or numbers, counted from 0, each once and in order.

    Raises
    ------
    InputError
        Something else than that, or a volume that a scan of ``n_volumes`` does not have.
    """
    parts = _as_list(words)
    found: set[int] = set()
    for part in parts:
        first, dash, last = str(part).strip().lower().partition("-")
        low, high = (_volume(end, n_volumes) for end in (first, last if dash else first))
        if not 0 <= low <= high < n_volumes:
            raise InputError(
                f"found the volume {str(part)!r} to leave out; expected numbers from 0 to {n_volumes - 1} (the first "
                "volume is 0), ranges, or last, such as 3,17-20."
            )
        found.update(range(low, high + 1))
    return np.array(sorted(found), dtype=np.int64)


def _as_list(words: Any) -> list[Any]:
    if isinstance(words, str):
        return words.replace(",", " ").split()
    return [] if words is None else list(words) if np.iterable(words) else [words]


def _volume(word: str, n_volumes: int) -> int:
    if word == "last":
        return n_volumes - 1
    return int(word) if word.isdecimal() else -1


def volumes_of_shells(
    gradients: GradientTable, shells: Sequence[float] | np.ndarray, b_max: float | None
) -> np.ndarray:
    """Volumes (n,) of the shells nearest to ``shells`` (s/mm²; 0: the b = 0 volumes), none above ``b_max``.

    Raises
    ------
    InputError
        The scan has no such shell, or nothing is left.
    """
    chosen = np.full(len(gradients), len(shells) == 0)
    for b in shells:
        if b <= gradients.b0_threshold:
            chosen[gradients.require_b0(f"taking the shell at b = {b:g}")] = True
        else:
            chosen[gradients.get_shell(float(b)).indices] = True
    if b_max is not None:
        chosen &= gradients.bvals <= b_max
        if not chosen.any():
            raise InputError(f"no volume that was chosen has b <= {b_max:g} s/mm²; expected some to be left.")
    return np.flatnonzero(chosen)


def note_selection(origin: Mapping[str, Any], n_volumes: int, kept: np.ndarray) -> dict[str, Any]:
    """``origin`` of a scan with what became of its volumes, numbered as in the files, when ``kept`` (n,) are taken."""
    n_given = int(origin.get("VolumesGiven", n_volumes))
    before = np.setdiff1d(np.arange(n_given), origin.get("VolumesExcluded", []))
    left_out = np.setdiff1d(np.arange(n_given), before[kept])
    return {**origin, "VolumesGiven": n_given, "VolumesExcluded": [int(i) for i in left_out]}


def numbers_given(origin: Mapping[str, Any], index: np.ndarray) -> np.ndarray:
    """Numbers (n,) that volumes ``index`` (n,) of a scan with this ``origin`` have in the files it was made from."""
    if "VolumesGiven" not in origin:
        return index
    kept = np.setdiff1d(np.arange(int(origin["VolumesGiven"])), origin.get("VolumesExcluded", []))
    return np.asarray(kept[index])


def parts_kept(origin: Mapping[str, Any], kept: np.ndarray) -> dict[str, Any]:
    """``origin`` of a scan whose volumes ``kept`` (n,) are taken, with what is left of the parts it was joined from."""
    if "Parts" not in origin:
        return dict(origin)
    edges = np.cumsum([0, *origin["Parts"]])
    counts = np.histogram(kept, edges)[0]
    left: dict[str, Any] = {"Parts": [int(n) for n in counts if n]}
    if len(left["Parts"]) == 1:
        return {name: fact for name, fact in origin.items() if name not in {"Parts", "PartScales"}}
    if "PartScales" in origin:
        left["PartScales"] = [scale for scale, n in zip(origin["PartScales"], counts, strict=True) if n]
    return {**origin, **left}


def levels_of(gradients: GradientTable) -> np.ndarray:
    """(n_meas,) b of the shell of each volume, 0 for b = 0; without shells each volume's own."""
    levels = np.where(gradients.is_b0, 0.0, gradients.bvals)
    try:
        for shell in gradients.shells:
            levels[shell.indices] = shell.b
    except NotApplicable:
        pass
    return levels
