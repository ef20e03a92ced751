"""The response of a group: the mean of its subjects', each brought to the scale of the group first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arcuate.errors import InputError
from arcuate.gradients import SHELL_GAP
from arcuate.models.response import Response


def mean_response(responses: Sequence[Response], *, is_scaled: bool = True) -> Response:
    """Mean response of several subjects, tissue by tissue, as MRtrix3's ``responsemean`` makes it.

    Parameters
    ----------
    responses : of the same tissues and shells; the b of a shell is the mean of the subjects'
    is_scaled : bring each subject to the scale of the group first; without it the coefficients are averaged as they
        are (``responsemean -legacy``)

    Returns
    -------
    Response
        Of the lowest degree that all have, for each tissue; ``algorithm`` is "mean".

    Raises
    ------
    InputError
        No response, tissues or shells that differ, or a mean signal that is not above 0.

    Notes
    -----
    With r_ks the l = 0 coefficient of subject k on shell s (b = 0 included) and m_s its mean over the subjects, subject
    k is multiplied by exp(mean over s of log(m_s / r_ks)), so that receiver gains do not decide who counts how much.
    Each tissue has its own factor.

    References
    ----------
    Raffelt, Tournier, Rose, Ridgway, Henderson, Crozier, Salvado, Connelly (2012), NeuroImage 59:3976 (one response for
    all subjects of a study).
    """
    if not responses:
        raise InputError("found no response to average; expected those of one subject at least.")
    first = responses[0]
    for response in responses[1:]:
        if not are_alike(first, response):
            raise InputError(
                f"found responses of {_described(first)} and of {_described(response)}; expected the same tissues and "
                "shells of all subjects."
            )
    tissues = first.tissues
    coefs = tuple(_mean_table(tissue, [r.get_tissue(tissue) for r in responses], is_scaled) for tissue in tissues)
    return Response(
        tissues=tissues,
        bvals=np.mean([r.bvals for r in responses], axis=0),
        coefs=coefs,
        algorithm="mean",
        made_from={"n_responses": len(responses), "is_scaled": is_scaled},
        b0_threshold=max(r.b0_threshold for r in responses),
    )


def are_alike(one: Response, other: Response) -> bool:
    """Whether two responses have the same tissues, and shells that lie within 100 s/mm² of each other."""
    if one.tissues != other.tissues or len(one.bvals) != len(other.bvals):
        return False
    return bool(np.all(np.abs(one.bvals - other.bvals) <= SHELL_GAP))


def _mean_table(tissue: str, tables: list[np.ndarray], is_scaled: bool) -> np.ndarray:
    """(n_shell, n_zonal) mean of one tissue."""
    n_zonal = min(table.shape[1] for table in tables)
    stack = np.stack([table[:, :n_zonal] for table in tables])
    if is_scaled:
        signal = stack[..., 0]
        if not np.all(signal > 0):
            bad = int(np.flatnonzero(~np.all(signal > 0, axis=1))[0])
            raise InputError(
                f"the response of {tissue} of subject number {bad + 1} has a mean signal that is not above 0; expected "
                "positive ones. Leave that subject out."
            )
        stack = stack * np.exp(np.log(signal.mean(axis=0) / signal).mean(axis=1))[:, None, None]
    return np.asarray(stack.mean(axis=0))


def _described(response: Response) -> str:
    shells = ", ".join(f"{b:.0f}" for b in response.bvals)
    return f"{' '.join(response.tissues)} at b = {shells} s/mm²"
