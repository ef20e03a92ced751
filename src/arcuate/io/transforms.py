"""Transforms as ANTs and ITK write them: ``.mat`` and ``.txt`` (affine), warps in NIfTI, composites in ``.h5``.

ITK keeps coordinates in LPS; here they are RAS, as everywhere in arcuate. A list of files is in the order of
``antsApplyTransforms``: points of the reference go through the first first, for ITK's own composites (``.h5``) the
other way round, which is turned here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from arcuate.errors import InputError, MissingExtraError
from arcuate.io.atomic import atomic_path
from arcuate.io.names import why_absent
from arcuate.io.nifti import NiftiVolumeResource
from arcuate.io.number_text import read_text
from arcuate.volumes.transforms import Affine, Chain, Displacement, Transform, as_chain

FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # LPS to RAS and back
_KINDS = "AffineTransform|MatrixOffsetTransformBase|Euler3DTransform|VersorRigid3DTransform|TranslationTransform"


def read_transform(path: str | os.PathLike[str], *, inverted: bool = False) -> Transform:
    """A transform from one file of ANTs or ITK.

    Parameters
    ----------
    path : ``.mat``, ``.txt``, ``.tfm`` (affine), ``.nii``, ``.nii.gz`` (warp), ``.h5`` (composite, as fMRIPrep's and
        QSIPrep's ``xfm.h5``)
    inverted : read the map back

    Raises
    ------
    InputError
        There is no such file, or it is no transform that is known.
    MissingExtraError
        ``.h5`` without h5py.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} {why_absent(path, 'a transform')}")
    name = path.name.lower()
    found: Transform
    if name.endswith((".h5", ".hdf5")):
        found = _read_composite(path)
    elif name.endswith((".nii", ".nii.gz")):
        found = _read_warp(path)
    elif name.endswith(".mat"):
        found = _read_matlab(path)
    elif name.endswith((".txt", ".tfm")):
        found = _read_text(path)
    else:
        raise InputError(
            f"{path} is no transform that is known; expected ANTs' .mat, .txt, .h5 or a warp as .nii.gz. Transforms of "
            "FSL and FreeSurfer have to be converted first."
        )
    return found.inverted() if inverted else found


def _read_matlab(path: Path) -> Affine:
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except Exception as error:  # scipy answers other files with errors of many classes
        raise InputError(f"{path} is no matrix of ANTs ({error}); FSL's .mat files are text: convert them.") from error
    kinds = [name for name in content if re.match(_KINDS, name)]
    if len(kinds) != 1 or "fixed" not in content:
        raise InputError(
            f"found {', '.join(n for n in content if not n.startswith('__'))} in {path}; expected one transform of ITK "
            f"({_KINDS.replace('|', ', ')}) and its centre."
        )
    return _affine(kinds[0], content[kinds[0]].ravel(), content["fixed"].ravel(), path)


def _read_text(path: Path) -> Chain:
    text = read_text(path, "a transform of ITK")
    links = []
    for kind, parameters, fixed in re.findall(
        r"Transform: (\w+)[^\n]*\nParameters: ([^\n]*)\nFixedParameters: ?([^\n]*)", text.replace("\r", "")
    ):
        links.append(_affine(kind, _numbers(parameters), _numbers(fixed), path))
    if not links:
        raise InputError(f"{path} is no transform of ITK; expected a line 'Transform: ...'. Check the file.")
    return Chain(tuple(reversed(links)))  # of a composite the last is applied first


def _numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def _affine(kind: str, parameters: np.ndarray, fixed: np.ndarray, path: Path) -> Affine:
    """RAS matrix of one of ITK's linear transforms: x' = M (x - c) + c + t, LPS."""
    parameters, centre = np.asarray(parameters, float), np.zeros(3)
    matrix = np.eye(3)
    name = kind.split("_")[0]
    if name in {"AffineTransform", "MatrixOffsetTransformBase"} and len(parameters) == 12:
        matrix, shift, centre = parameters[:9].reshape(3, 3), parameters[9:], fixed[:3]
    elif name == "TranslationTransform" and len(parameters) == 3:
        shift = parameters
    elif name == "Euler3DTransform" and len(parameters) == 6:
        matrix, shift, centre = _euler(parameters[:3], bool(len(fixed) > 3 and fixed[3])), parameters[3:], fixed[:3]
    elif name == "VersorRigid3DTransform" and len(parameters) == 6:
        matrix, shift, centre = _versor(parameters[:3]), parameters[3:], fixed[:3]
    else:
        raise InputError(
            f"{path} holds a {kind} with {len(parameters)} parameters; expected one of {_KINDS.replace('|', ', ')}. "
            "Convert it to an affine transform."
        )
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = matrix, centre + shift - matrix @ centre
    return Affine(FLIP @ lps @ FLIP)


def _euler(angles: np.ndarray, is_zyx: bool) -> np.ndarray:
    """Rotation of ITK's Euler angles about x, y, z: Rz Rx Ry, or Rz Ry Rx."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x if is_zyx else about_z @ about_x @ about_y


def _versor(vector: np.ndarray) -> np.ndarray:
    """Rotation of the right part (3,) of a unit quaternion."""
    from scipy.spatial.transform import Rotation

    scalar = np.sqrt(max(0.0, 1.0 - float(vector @ vector)))
    return np.asarray(Rotation.from_quat([*vector, scalar]).as_matrix())


def _read_warp(path: Path) -> Displacement:
    volume = NiftiVolumeResource(path)
    if len(volume.shape) != 4 or volume.shape[3] != 3:
        raise InputError(
            f"{path} has the shape {volume.shape}; expected a displacement field (x, y, z, 1, 3), as ANTs writes it."
        )
    vectors = np.asarray(volume.get_array(), dtype=np.float64) * np.diag(FLIP)[:3]
    return Displacement(vectors, volume.get_affine())


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "ants", f"reading {path.name}") from error
    return h5py


def _read_composite(path: Path) -> Chain:
    h5py = _h5py(path)
    try:
        with h5py.File(path, "r") as file:
            groups = file["TransformGroup"]
            links = []
            for key in sorted(groups, key=int):
                kind = np.asarray(groups[key]["TransformType"][()]).ravel()[0]
                kind = kind.decode() if isinstance(kind, bytes) else str(kind)
                if kind.startswith("CompositeTransform"):
                    continue
                names = {name.replace("Tranform", "Transform"): name for name in groups[key]}  # ITK's old spelling
                parameters = np.asarray(groups[key][names["TransformParameters"]], dtype=np.float64).ravel()
                fixed = np.asarray(groups[key][names["TransformFixedParameters"]], dtype=np.float64).ravel()
                links.append(_link(kind, parameters, fixed, path))
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is no transform of ITK ({error}); expected a composite that ANTs wrote.") from error
    return as_chain(list(reversed(links)))


def _link(kind: str, parameters: np.ndarray, fixed: np.ndarray, path: Path) -> Transform:
    if not kind.startswith("DisplacementFieldTransform"):
        return _affine(kind, parameters, fixed, path)
    size = fixed[:3].astype(int)
    if len(fixed) != 18 or len(parameters) != 3 * np.prod(size):
        raise InputError(
            f"{path} holds a displacement field of {len(parameters)} numbers; expected 3 for each of the voxels "
            f"{' x '.join(map(str, size))}. Copy the file again."
        )
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = fixed[9:].reshape(3, 3) * fixed[6:9], fixed[3:6]
    vectors = parameters.reshape(3, *size, order="F").transpose(1, 2, 3, 0) * np.diag(FLIP)[:3]
    return Displacement(np.ascontiguousarray(vectors), FLIP @ lps)


def write_transform(transform: Transform, path: str | os.PathLike[str]) -> Path:
    """Write an affine as ANTs' ``.mat``, or a displacement as a warp in NIfTI; the path."""
    path = Path(path)
    if isinstance(transform, Affine):
        _write_matlab(transform, path)
    elif isinstance(transform, Displacement):
        _write_warp(transform, path)
    else:
        raise InputError(f"a {type(transform).__name__} has no file of its own; write its links one by one.")
    return path


def _write_matlab(transform: Affine, path: Path) -> None:
    from scipy.io import savemat

    lps = FLIP @ transform.matrix @ FLIP
    parameters = np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])[:, None]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        savemat(file, {"AffineTransform_double_3_3": parameters, "fixed": np.zeros((3, 1))}, format="4")


def _write_warp(transform: Displacement, path: Path) -> None:
    import nibabel as nib

    vectors = (transform.vectors * np.diag(FLIP)[:3]).astype(np.float32)[:, :, :, None, :]
    image = nib.Nifti1Image(vectors, transform.affine)
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm")
    image.set_sform(transform.affine, 1)
    image.set_qform(transform.affine, 1)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_compressed(image.to_bytes(), path))


def _compressed(content: bytes, path: Path) -> bytes:
    if not path.name.lower().endswith(".gz"):
        return content
    import gzip

    return gzip.compress(content, compresslevel=3, mtime=0)
