"""Files for tools that know nothing but files: written for the length of a ``with`` block, and gone after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from arcuate.dwi import Dwi
from arcuate.errors import InputError
from arcuate.files import write_dwi_fsl, write_volume
from arcuate.structural import StructuralImage
from arcuate.volumes.resource import VolumeResource


@dataclass(frozen=True)
class TemporaryDwiFiles:
    """The files of a diffusion scan.

    Parameters
    ----------
    volume : image
    bval, bvec : FSL's gradient files
    """

    volume: Path
    bval: Path
    bvec: Path


@contextmanager
def temporary_volume_file(volume: VolumeResource, *, filename: str = "volume.nii.gz") -> Iterator[Path]:
    """A volume (x, y, z[, n]) as a file of its own; what else is written to its folder goes with it.

    Examples
    --------
    >>> with temporary_volume_file(fa) as path:
    ...     subprocess.run(["tool", str(path), str(path.with_name("out.nii.gz"))], check=True)
    ...     found = read_volume(path.with_name("out.nii.gz")).load()
    """
    with _folder() as folder:
        path = _inside(folder, filename)
        write_volume(volume, path)
        yield path


@contextmanager
def temporary_dwi_files(dwi: Dwi, *, basename: str = "dwi") -> Iterator[TemporaryDwiFiles]:
    """A diffusion scan as an image with FSL's gradient files, called ``basename``."""
    with _folder() as folder:
        image, bval, bvec = (_inside(folder, f"{basename}{suffix}") for suffix in (".nii.gz", ".bval", ".bvec"))
        write_dwi_fsl(dwi, image, bval=bval, bvec=bvec)
        yield TemporaryDwiFiles(image, bval, bvec)


@contextmanager
def temporary_structural_file(structural: StructuralImage, *, filename: str = "structural.nii.gz") -> Iterator[Path]:
    """A structural image as a file of its own."""
    with temporary_volume_file(structural.volume, filename=filename) as path:
        yield path


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="arcuate-external-") as folder:
        yield Path(folder).resolve()


def _inside(folder: Path, name: str) -> Path:
    """The path of a file in the folder."""
    path = (folder / name).resolve()
    if PurePath(name).is_absolute() or not path.is_relative_to(folder):
        raise InputError(
            f"found the name {name!r} for a temporary file; it must be relative and stay within the temporary "
            "directory. Give a plain name, as volume.nii.gz."
        )
    return path
