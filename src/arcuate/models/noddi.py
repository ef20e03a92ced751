"""NODDI: neurite density, orientation dispersion and free water of each voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arcuate.errors import InputError, NotApplicable
from arcuate.gradients import GradientTable
from arcuate.models.noddi_axis import prepare_rows, quadrupole_weights
from arcuate.models.noddi_dictionary import (
    DOT,
    FWF,
    N_MAP,
    NDI,
    ODI,
    RMSE,
    SIGNAL,
    NoddiDictionary,
    make_dictionary,
)
from arcuate.models.noddi_refine import make_refine_room, refine_voxels
from arcuate.models.noddi_series import NoddiSeries, make_series
from arcuate.models.noddi_stages import fit_voxels, make_room
from arcuate.models.status import Status
from arcuate.numerics.compiled import run_in_chunks
from arcuate.numerics.eigen import eigh_3x3

DPAR = 1.7e-3  # mm²/s, along the neurites; 1.3e-3 suits grey matter (Fukutomi 2018)
DISO = 3.0e-3  # mm²/s, free water at body temperature
L1, L2 = 0.5, 1e-3  # penalties of the second stage
CHUNK = 256  # voxels of one thread at a time


@dataclass(frozen=True)
class NoddiFit:
    """NODDI of ``n_vox`` voxels; zero where there was nothing to fit."""

    ndi: np.ndarray  # (n_vox,) float, 0..1: share of the tissue that is inside neurites
    odi: np.ndarray  # (n_vox,) float, 0..1: orientation dispersion, (2/π) arctan(1/κ)
    fwf: np.ndarray  # (n_vox,) float, 0..1: fraction of free water
    dot: np.ndarray  # (n_vox,) float, 0..1: fraction of water that does not move; 0 unless ``ex_vivo``
    directions: np.ndarray  # (n_vox, 3) float, unit vectors in the frame of the gradients, sign without meaning
    s0: np.ndarray  # (n_vox,) float, unit of the signal
    rmse: np.ndarray  # (n_vox,) float, root mean square residual over the mean b = 0
    status: np.ndarray  # (n_vox,) uint8, see Status


@dataclass(frozen=True)
class NoddiModel:
    """NODDI, prepared once for the volumes of a scan by :func:`prepare_noddi`; for the objective see :func:`fit_noddi`.

    Parameters
    ----------
    dictionary : atoms of the scan's shells
    axis_weights : (6, n_meas) float
        Weights of the volumes, in the dictionary's order, that give a tensor whose first axis is the fibre's.
    series : of the continuous model, where the fit goes on to it
    has_dot : whether the dictionary holds water that does not move
    """

    dictionary: NoddiDictionary
    axis_weights: np.ndarray
    series: NoddiSeries | None = None
    has_dot: bool = False

    def fit(self, signals: np.ndarray, directions: np.ndarray | None = None) -> NoddiFit:
        """NODDI of each row.

        Parameters
        ----------
        signals : (n_vox, n_meas) float
        directions : (n_vox, 3) float, of the fibres; a row of zeros or NaN has none
        """
        signals = _check_signals(signals, len(self.dictionary.order))
        given = None if directions is None else _check_directions(directions, len(signals))
        tables, penalties = self.dictionary.tables(), np.array([L1, L2] if self.series is None else [])
        n_vox, n_b0 = len(signals), int(self.dictionary.starts[1])
        maps, axes = np.zeros((n_vox, N_MAP)), np.zeros((n_vox, 3))
        mean_b0, status = np.zeros(n_vox), np.zeros(n_vox, np.uint8)

        def work(begin: int, end: int) -> None:
            at = slice(begin, end)
            # in double precision: else the kernel would be compiled for every type of the signals
            own = np.ascontiguousarray(signals[at], dtype=np.float64)
            rows, tensors = np.empty_like(own), np.empty((len(own), 6))
            order = self.dictionary.order
            prepare_rows(own, order, n_b0, self.axis_weights, rows, mean_b0[at], tensors, status[at])
            axes[at] = _choose_axes(tensors, None if given is None else given[at])
            fit_voxels(rows, axes[at], tables, penalties, make_room(tables, rows.shape[1]), maps[at], status[at])
            if self.series is not None:
                own_room = make_refine_room(self.series, rows.shape[1])
                refine_voxels(rows, tables, self.series, bool(self.has_dot), own_room, maps[at], axes[at], status[at])

        run_in_chunks(work, n_vox, CHUNK)
        axes[(status == Status.NO_SIGNAL) | (status == Status.NOT_FINITE)] = 0.0
        columns = {"ndi": NDI, "odi": ODI, "fwf": FWF, "dot": DOT, "rmse": RMSE}
        fields = {name: maps[:, column].copy() for name, column in columns.items()}
        return NoddiFit(**fields, directions=axes, s0=maps[:, SIGNAL] * mean_b0, status=status)


def fit_noddi(
    signals: np.ndarray,
    gradients: GradientTable,
    *,
    dpar: float = DPAR,
    diso: float = DISO,
    refine: bool = False,
    ex_vivo: bool = False,
    directions: np.ndarray | None = None,
    as_amico: bool = False,
) -> NoddiFit:
    """NODDI of each voxel.

    Parameters
    ----------
    signals : (n_vox, n_meas) float
        One row per voxel, b = 0 included, any unit. Values below zero count as zero.
    gradients : table of the ``n_meas`` volumes; two shells or more and a b = 0
    dpar, diso : float, mm²/s
        Diffusivity along the neurites and of free water.
    refine : bool
        Go on from the dictionary's answer to the continuous model under Rician noise: NDI, ODI, FWF, s0 and
        direction at maximum likelihood. Twice as slow; removes the steps and the bias of the dictionary.
    ex_vivo : bool
        Add a compartment of water that does not move ("dot").
    directions : (n_vox, 3) float
        Fibre directions to use; a row of zeros or NaN has none, and the signal decides, as it does by default.
        With ``refine`` they are the start.
    as_amico : bool
        AMICO's rules where ours differ: norms of the atoms at one tabulated direction, ODI of the mean κ. (Ours is
        the ODI whose Watson distribution has the mean orientation, ⟨P₂⟩, of the neurites in all atoms.)

    Raises
    ------
    InputError
        No b = 0, one shell, directions that do not span the sphere, arrays that do not fit together.

    Notes
    -----
    With y the signal over its mean b = 0 and A the atoms of one direction (144 mixtures of Watson-dispersed sticks
    and their tortuous surroundings, and free water):

    1. min ½|y - Ax|², x >= 0: water (and dot) is removed, the rest cut at zero;
    2. min ½|y' - A'x|² + λ₁ Σx + ½ λ₂|x|², x >= 0 on the weighted volumes, atoms of unit norm: which atoms;
    3. min ½|y - Ax|², x >= 0 over those atoms and water: the maps.

    References
    ----------
    Zhang et al. 2012, NeuroImage 61:1000; Daducci et al. 2015, NeuroImage 105:32.
    """
    model = prepare_noddi(
        gradients, dpar=dpar, diso=diso, refine=refine, ex_vivo=ex_vivo, has_directions=directions is not None,
        as_amico=as_amico,
    )  # fmt: skip
    return model.fit(signals, directions)


def prepare_noddi(
    gradients: GradientTable,
    *,
    dpar: float = DPAR,
    diso: float = DISO,
    refine: bool = False,
    ex_vivo: bool = False,
    has_directions: bool = False,
    as_amico: bool = False,
) -> NoddiModel:
    """Model of a scan; see :func:`fit_noddi` for the parameters.

    Parameters
    ----------
    has_directions : whether every fit is given fibre directions: then those of the gradients need not span the sphere
    """
    check_noddi_gradients(gradients, has_directions=has_directions)
    check_diffusivities(dpar, diso)
    dictionary = make_dictionary(gradients, dpar, diso, has_dot=ex_vivo, as_amico=as_amico)
    series = make_series(np.array([shell.b for shell in gradients.shells]), dpar, diso) if refine else None
    return NoddiModel(dictionary, _axis_weights(gradients, dictionary, has_directions), series, ex_vivo)


def compile_refinement(gradients: GradientTable) -> None:
    """Compile the kernel of the continuous fit alone, by fitting no voxel."""
    model = prepare_noddi(gradients, refine=True)
    series = model.series
    if series is not None:
        rows, room = np.empty((0, len(gradients))), make_refine_room(series, len(gradients))
        maps, axes, status = np.empty((0, N_MAP)), np.empty((0, 3)), np.empty(0, np.uint8)
        refine_voxels(rows, model.dictionary.tables(), series, False, room, maps, axes, status)


def _axis_weights(gradients: GradientTable, dictionary: NoddiDictionary, is_given: bool) -> np.ndarray:
    """Weights (6, n_meas) of the quadrupole, volumes in the dictionary's order; zero where it cannot be had or used."""
    try:
        weights = quadrupole_weights(gradients, dictionary.typical)
    except InputError:
        if not is_given:
            raise
        weights = np.zeros((6, len(gradients)))
    return np.ascontiguousarray(weights[:, dictionary.order])


def _choose_axes(tensors: np.ndarray, given: np.ndarray | None) -> np.ndarray:
    """Unit vectors (n_vox, 3): the given ones, and the first axis of the tensor where none is given."""
    own = eigh_3x3(tensors)[1][:, 0]
    if given is None:
        return own
    lengths = np.linalg.norm(given, axis=1)
    is_there = np.isfinite(lengths) & (lengths > 0)
    unit = given / np.where(is_there, lengths, 1.0)[:, None]
    return np.ascontiguousarray(np.where(is_there[:, None], unit, own))


def _check_signals(signals: np.ndarray, n_meas: int) -> np.ndarray:
    signals = np.asarray(signals)
    if signals.ndim != 2 or signals.shape[1] != n_meas:
        raise InputError(
            f"found signals of shape {signals.shape}; expected (n_vox, {n_meas}), one row per voxel and one "
            "column per volume of the gradient table."
        )
    dtype = signals.dtype if signals.dtype in (np.float32, np.float64) else np.float64
    return np.ascontiguousarray(signals, dtype=dtype)


def check_noddi_gradients(gradients: GradientTable, *, has_directions: bool = False) -> None:
    """Refuses, with NotApplicable, a scan that NODDI cannot be fitted to, fibre directions given or not."""
    gradients.require_b0("NODDI, which divides by the b=0 signal,")
    shells = gradients.shells
    if len(shells) < 2:
        found = f"one (b={shells[0].b:.0f})" if shells else "none"
        raise NotApplicable(
            f"NODDI needs two shells or more to tell density from free water; found {found}. "
            "A single shell supports the tensor and CSD instead."
        )
    n_weighted = sum(len(shell) for shell in shells)
    if n_weighted < 12:
        raise NotApplicable(
            f"NODDI has six unknowns per voxel; found {n_weighted} weighted volumes, expected 12 or more. "
            "Check that the scan is complete."
        )
    if not has_directions:
        quadrupole_weights(gradients, np.ones(len(shells)))


def check_diffusivities(dpar: float, diso: float) -> None:
    """Refuses diffusivities that are not those of neurites and of free water in mm²/s."""
    for name, value in (("dpar", dpar), ("diso", diso)):
        if not 1e-5 <= value <= 1e-2:
            raise InputError(
                f"found {name} = {value:g}; expected a diffusivity in mm²/s, such as 1.7e-3 along neurites and 3e-3 "
                "of free water (1 µm²/ms is 1e-3 mm²/s)."
            )
    if diso <= dpar:
        raise InputError(
            f"found diso = {diso:g} not above dpar = {dpar:g} mm²/s; free water diffuses faster than water in tissue."
        )


def _check_directions(directions: np.ndarray, n_vox: int) -> np.ndarray:
    directions = np.asarray(directions, dtype=np.float64)
    if directions.shape != (n_vox, 3):
        raise InputError(f"found directions of shape {directions.shape}; expected ({n_vox}, 3), one per voxel.")
    return directions
