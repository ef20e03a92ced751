"""Response files: JSON of ours and MRtrix3's text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from arcuate.errors import InputError
from arcuate.io.atomic import write_text_atomically
from arcuate.models.response import Response, merge_responses


def write_response(response: Response, folder: Path, stem: str = "{tissue}") -> list[Path]:
    """Write each tissue as ``<tissue>.txt`` (MRtrix3's form) and ``<tissue>.json``; the paths written.

    ``stem`` may hold ``{tissue}``, for names such as ``sub-01_model-csd_label-{tissue}_response``.
    """
    written = []
    for tissue, table in zip(response.tissues, response.coefs, strict=True):
        alone = Response((tissue,), response.bvals, (table,), response.algorithm, response.made_from)
        text = response.to_mrtrix(tissue)
        for suffix, content in ((".txt", text), (".json", alone.to_json())):
            path = Path(folder) / f"{stem.format(tissue=tissue)}{suffix}"
            if not (path.is_file() and path.read_bytes() == content.encode()):
                write_text_atomically(path, content)
            written.append(path)
    return written


def read_response(paths: Sequence[Path], bvals: np.ndarray | None = None) -> Response:
    """One response from files of one tissue each, JSON or MRtrix3's text; a tissue is named by the stem of its file.

    Parameters
    ----------
    bvals : (n_shell,) float, s/mm², for text without the line ``# Shells:``

    Raises
    ------
    InputError
        A file is missing or no response, or the files belong to different shells.
    """
    if not paths:
        raise InputError("found no response files; expected at least one, see `arcuate response`.")
    responses: list[Response] = []
    texts: dict[str, str] = {}
    for path in map(Path, paths):
        try:
            content = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise InputError(f"the response file {path} cannot be read: {reason}.") from error
        if path.suffix == ".json":
            read = Response.from_json(content)
            if len(paths) > 1 and path.stem in read.tissues:
                read = Response((path.stem,), read.bvals, (read.get_tissue(path.stem),), read.algorithm, read.made_from)
            tissues = (path.stem,) if len(read.tissues) == 1 else read.tissues
            responses.append(Response(tissues, read.bvals, read.coefs, read.algorithm, read.made_from))
        else:
            texts[path.stem] = content
    if texts:
        responses.append(Response.from_mrtrix(texts, bvals))
    return responses[0] if len(responses) == 1 else _in_order(merge_responses(responses), paths)


def _in_order(response: Response, paths: Sequence[Path]) -> Response:
    """Tissues in the order in which their files were given."""
    stems = [Path(path).stem for path in paths]
    order = sorted(
        range(len(response.tissues)),
        key=lambda i: stems.index(response.tissues[i]) if response.tissues[i] in stems else len(stems),
    )
    tissues, coefs = tuple(response.tissues[i] for i in order), tuple(response.coefs[i] for i in order)
    return Response(tissues, response.bvals, coefs, response.algorithm, response.made_from)


def read_directions(path: Path) -> np.ndarray:
    """(n, 3) unit vectors from a text file of rows x y z, or azimuth and polar angle (rad) as MRtrix3 writes them."""
    try:
        rows = np.atleast_2d(np.loadtxt(path))
    except (OSError, ValueError) as error:
        raise InputError(f"the directions in {path} cannot be read: {error}.") from error
    if rows.shape[1] == 2:
        azimuth, polar = rows.T
        rows = np.column_stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
    norms = np.linalg.norm(rows, axis=1) if rows.shape[1] == 3 else np.zeros(1)
    if not np.all(norms > 0.1):
        raise InputError(f"found directions of shape {rows.shape} in {path}; expected rows x y z, none of them zero.")
    return np.asarray(rows / norms[:, None])
