"""MRtrix3's text form of a response."""

from __future__ import annotations

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
    if not rows or len({len(r) for r in rows}) != 1:
        raise InputError(
            f"the response of {tissue} has rows of {sorted({len(r) for r in rows})} numbers; expected rows of equal "
            "length, one for each shell."
        )
    if shells is not None and len(shells) != len(rows):
        raise InputError(
            f"the response of {tissue} names {len(shells)} shells but has {len(rows)} rows; expected one row each."
        )
    return shells, np.array(rows), threshold
