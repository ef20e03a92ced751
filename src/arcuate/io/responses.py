"""Response files: JSON of ours and MRtrix3's text."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np

from arcuate.errors import InputError
from arcuate.io.atomic import write_text_atomically, written_together
from arcuate.io.names import beside_image
from arcuate.io.number_text import read_text
from arcuate.models.response import Response, merge_responses


def write_response(response: Response, folder: Path, stem: str = "{tissue}") -> list[Path]:
    """Write each tissue as ``<tissue>.txt`` (MRtrix3's form) and ``<tissue>.json``; the paths written.

    ``stem`` may hold ``{tissue}``, for names such as ``sub-01_model-csd_label-{tissue}_response``.
    """
    contents = {}
    for tissue, table in zip(response.tissues, response.coefs, strict=True):
        alone = replace(response, tissues=(tissue,), coefs=(table,))
        for suffix, content in ((".txt", response.to_mrtrix(tissue)), (".json", alone.to_json())):
            contents[Path(folder) / f"{stem.format(tissue=tissue)}{suffix}"] = content
    with written_together():
        for path, content in contents.items():
            write_text_atomically(path, content, if_other=True)
    return list(contents)


def read_response(paths: Sequence[Path], bvals: np.ndarray | None = None) -> Response:
    """One response from files of one tissue each, JSON or MRtrix3's text.

    A tissue is named by the stem of its file, see :func:`distinct_names`.

    Parameters
    ----------
    bvals : (n_shell,) float, s/mm², for text without the line ``# Shells:``

    Raises
    ------
    InputError
        A file is missing, no response or given twice, or the files belong to different shells.
    """
    responses: list[Response] = []
    texts: dict[str, str] = {}
    names = distinct_names(paths)
    for name, path in zip(names, map(Path, paths), strict=True):
        if path.is_dir():
            inside = sorted(file.name for file in path.glob("*.txt"))
            which = f"one of its files for each tissue: {', '.join(inside)}" if inside else "a file for each tissue"
            raise InputError(f"{path} is a folder; expected a response file. Give {which}.")
        content = read_text(path, "a response")
        if path.suffix == ".json":
            read = Response.from_json(content)
            if len(paths) > 1 and path.stem in read.tissues:
                read = replace(read, tissues=(path.stem,), coefs=(read.get_tissue(path.stem),))
            responses.append(replace(read, tissues=(name,)) if len(read.tissues) == 1 else read)
        else:
            texts[name] = content
    if texts:
        responses.append(Response.from_mrtrix(texts, bvals))
    return responses[0] if len(responses) == 1 else _in_order(merge_responses(responses), names)


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A name per response file: its stem; with its folders in front (``wm_response``) where stems are alike.

    Raises
    ------
    InputError
        No file, the same file twice, or the text and the JSON of one response.
    """
    if not paths:
        raise InputError("found no response files; expected at least one, see `arcuate response`.")
    full = [Path(path).resolve().with_suffix("") for path in paths]
    for i, place in enumerate(full):
        if place in full[:i]:
            other = Path(paths[full.index(place)])
            what = "twice" if other.suffix == Path(paths[i]).suffix else f"and {other}, two forms of one response"
            raise InputError(f"found the response file {paths[i]} {what}; expected one file for each tissue.")
    names = [Path(path).stem for path in paths]
    for depth in range(1, max(len(place.parts) for place in full)):
        alike = [names.count(name) > 1 for name in names]
        if not any(alike):
            break
        for i in [i for i, is_alike in enumerate(alike) if is_alike]:
            parts = full[i].parts[1:][-depth - 1 : -1]
            names[i] = "_".join((*parts, Path(paths[i]).stem))
    return names


def _in_order(response: Response, names: Sequence[str]) -> Response:
    """Tissues in the order in which their files were given, white matter first."""
    order = sorted(
        range(len(response.tissues)),
        key=lambda i: names.index(response.tissues[i]) if response.tissues[i] in names else len(names),
    )
    tissues, coefs = tuple(response.tissues[i] for i in order), tuple(response.coefs[i] for i in order)
    return replace(response, tissues=tissues, coefs=coefs)


def read_directions(path: Path) -> np.ndarray:
    """(n, 3) unit vectors from a text file of rows x y z, or azimuth and polar angle (rad) as MRtrix3 writes them."""
    text = read_text(path, "directions")
    try:
        if not re.search(r"^\s*[^\s#]", text, re.MULTILINE):
            raise ValueError("it holds no numbers")
        rows = np.atleast_2d(np.loadtxt(StringIO(text.replace(",", " "))))
    except ValueError as error:
        raise InputError(f"the directions in {path} cannot be read: {error}.") from error
    if rows.shape[1] == 2:
        azimuth, polar = rows.T
        rows = np.column_stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
    norms = np.linalg.norm(rows, axis=1) if rows.shape[1] == 3 else np.zeros(1)
    if not (np.all(norms > 0.1) and np.all(np.isfinite(norms))):
        raise InputError(f"found directions of shape {rows.shape} in {path}; expected rows x y z, none of them zero.")
    return np.asarray(rows / norms[:, None])


def response_beside(fod: Path) -> Response | None:
    """The response that the JSON sidecar of an image of FODs holds, or None where there is none."""
    sidecar = beside_image(fod, ".json")
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(content, dict) and isinstance(content.get("Response"), dict)
    return Response.from_dict(content) if is_ours else None
