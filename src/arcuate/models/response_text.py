"""A response as text: MRtrix3's form, and what JSON takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from arcuate.errors import InputError


def parse_mrtrix(tissue: str, text: str) -> tuple[np.ndarray | None, np.ndarray, float | None]:
    """Shells (None where the text does not say), rows of coefficients, and the threshold of b = 0 if given."""
    shells, rows, threshold = None, [], None
    try:
        for line in text.splitlines():
            comment = line.partition("#")[2].strip()
            if comment.lower().startswith("shells:"):
                shells = np.array([float(b) for b in comment[len("shells:") :].replace(",", " ").split()])
            if comment.lower().startswith("b0_threshold:"):
                threshold = float(comment[len("b0_threshold:") :])
            numbers = line.partition("#")[0].replace(",", " ").split()
            if numbers:
                rows.append([float(n) for n in numbers])
    except ValueError as error:
        raise InputError(f"the response of {tissue} is not a table of numbers: {error}.") from error
    if not rows:
        raise InputError(f"the response of {tissue} holds no numbers; expected a row for each shell.")
    if len({len(r) for r in rows}) != 1:
        raise InputError(
            f"the response of {tissue} has rows of {sorted({len(r) for r in rows})} numbers; expected rows of equal "
            "length, one for each shell."
        )
    if shells is not None and len(shells) != len(rows):
        raise InputError(
            f"the response of {tissue} names {len(shells)} shells but has {len(rows)} rows; expected one row each."
        )
    return shells, np.array(rows), threshold


def as_number(value: Any, name: str, kind: type) -> Any:
    """A field as int or float; None stays None."""
    if value is None and name != "b0_threshold":
        return None
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or kind(value) != value:
        what = "a whole number" if kind is int else "a number"
        raise InputError(f"the response has {name} = {value!r}; expected {what}. Estimate it again.")
    return kind(value)


def as_list(values: dict[str, Any]) -> str:
    """``name: value, name: value`` for a message."""
    return ", ".join(f"{name}: {value:g}" for name, value in values.items())


def as_plain(value: Any) -> Any:
    """Numbers, strings, lists and dicts only, so that JSON takes it."""
    if isinstance(value, dict):
        return {str(k): as_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [as_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value
