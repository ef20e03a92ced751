"""Fibre orientation distributions as a step: the response decides the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.csd.responses import estimate_response_function
from arcuate.errors import InputError, warn
from arcuate.models.csd import choose_lmax, find_shell_of, make_csd_system
from arcuate.models.multitissue import MultiTissueModel, make_multi_tissue_model, tissue_fractions, total_fibre_density
from arcuate.models.response import Response
from arcuate.models.response_checks import check_response
from arcuate.models.second_pass import Sharpening, TwoPassModel, make_two_pass_model, sure_settings
from arcuate.models.status import count_status
from arcuate.models.three_tissue import ThreeTissueModel, is_three_tissue, make_three_tissue_model
from arcuate.numerics.sh import n_coefs
from arcuate.volumes.display import figures
from arcuate.volumes.resource import VolumeResource, describe_grid
from arcuate.volumes.scan import Scan
from arcuate.volumes.signals import read_signals
from arcuate.volumes.voxels import check_mask, masked_blocks, scatter


@storable
@dataclass(frozen=True, eq=False)
class Fods:
    """Fibre orientation distributions of a scan.

    Parameters
    ----------
    volumes : one image per tissue, white matter first, (x, y, z, n_coef) float32
        MRtrix3's basis, scanner frame; an isotropic tissue has one coefficient.
    status : (x, y, z) uint8, see :class:`arcuate.models.status.Status`
    parameters : how they were made, and how many voxels ended how
    kkt_residual : (x, y, z) float32, of multi-tissue CSD: how far a solution is from the conditions it must meet
    """

    volumes: dict[str, VolumeResource]
    status: VolumeResource | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    kkt_residual: VolumeResource | None = None

    def __repr__(self) -> str:
        tissues = "; ".join(f"{name} {describe_grid(volume)}" for name, volume in self.volumes.items())
        return f"Fods({tissues})"

    def _repr_html_(self) -> str:
        """For notebooks: what there is, and slices of the first tissue's density."""
        white = next(iter(self.volumes.values()))
        density = white.with_array(np.asarray(white.get_array())[..., 0])
        facts = {name: describe_grid(volume) for name, volume in self.volumes.items()}
        facts |= {str(k): str(v) for k, v in (self.parameters.get("VoxelsByStatus") or {}).items()}
        figure = density.plot(slices=5)
        return str(figures().html_of(facts, figure, "slices of the fibre density"))


@cacheable(version=9)
def estimate_fods(
    dwi: Scan,
    mask: VolumeResource | None,
    response: Response,
    *,
    shell: float | None = None,
    lmax: int | None = None,
    constraint_directions: np.ndarray | None = None,
    second_pass: bool | None = None,
    method: str = "auto",
) -> Fods:
    """Fibre orientation distributions of all tissues of the response.

    Parameters
    ----------
    mask : (x, y, z), where to fit; every voxel if None
    response : decides the model: single-shell CSD for one tissue on one shell; single-shell three-tissue CSD for
        three tissues on one shell and b = 0; multi-tissue CSD otherwise
    shell : s/mm², only to say which shell a response without b-value belongs to
    lmax : degree of the white-matter FOD; by default that of the response, at most 8
    constraint_directions : (n, 3) float, where the FOD is held non-negative; a fixed set by default
    second_pass : whether voxels that look like crossings are fitted once more, with slack on the constraint, see
        :class:`arcuate.models.second_pass.TwoPassModel`; not with single-shell CSD. By default only where the signals
        ask for it (``sure_settings`` there). True: wherever it may help, on several shells after a smooth first pass,
        which tells more crossings apart and splits fans. On one shell both fit dispersed fibres once more, smoothly.
        False: one pass, the published method and MRtrix3's
    method : str
        "auto": as the response says. "csd": the soft method of 2007 with the white-matter response of a response of
        several tissues on one shell.

    Raises
    ------
    InputError
        The response was made on shells that the scan does not have, or cannot be that of fibres; a second pass was
        asked for with single-shell CSD, but for a response of "auto" that found no tissues: that is a warning.
    """
    check_second_pass(second_pass, is_soft=False)
    response = _response_for(method, response).on_shells_of(dwi.gradients)
    if not response.is_single_shell:
        if shell is not None:
            shells = ", ".join(f"{b:.0f}" for b in response.shells)
            raise InputError(
                f"found shell = {shell:g} for a response of {', '.join(response.tissues)} on the shells {shells} "
                "s/mm²; multi-tissue CSD takes all of them. Leave the shell out, or give a response of one tissue on "
                "one shell."
            )
        return _estimate_multi_tissue(
            dwi, mask, response, lmax=lmax, constraint_directions=constraint_directions, second_pass=second_pass
        )
    _refuse_second_pass(second_pass, method, response)
    inside = check_mask(dwi.volume, mask)
    n_vox = int(inside.sum())
    coefs, status = np.zeros((0, 0), np.float32), np.zeros(n_vox, np.uint8)
    fit, volumes, parameters = _prepare(dwi, response, shell, lmax, constraint_directions)
    for place, rows in masked_blocks(read_signals(dwi, inside, volumes), inside, volumes=volumes):
        block = fit(rows)
        if not coefs.size:
            coefs = np.zeros((n_vox, block.coefs.shape[1]), np.float32)
        coefs[place], status[place] = block.coefs, block.status
    parameters["VoxelsByStatus"] = count_status(status)
    return Fods(
        {response.tissues[0]: dwi.volume.with_array(scatter(coefs, inside))},
        dwi.volume.with_array(scatter(status, inside, np.uint8)),
        parameters,
    )


def check_second_pass(second_pass: bool | None, *, is_soft: bool) -> None:
    """Refuse a second pass that was asked for with FODs of the soft method, and what is neither yes, no nor default.

    Raises
    ------
    InputError
        In one sentence, what of it.
    """
    if not (second_pass is None or isinstance(second_pass, bool | np.bool_)):
        raise InputError(f"found second_pass = {second_pass!r}; expected True, False, or None for the default.")
    if second_pass and is_soft:
        raise InputError(
            "a second pass needs FODs of a hard constraint; the response is of one tissue on one shell, which means "
            "soft single-shell CSD. Estimate a response with algorithm 'dhollander', or leave the second pass out."
        )


def _refuse_second_pass(second_pass: bool | None, method: str, response: Response) -> None:
    """Refuse a second pass that was asked for with the soft method; told alone where nobody chose that method."""
    if second_pass and method == "csd":
        raise InputError("a second pass needs FODs of a hard constraint, not the method 'csd'. Leave one of them out.")
    if second_pass and "fewer_tissues_because" in response.made_from:
        why = response.made_from["fewer_tissues_because"]
        warn(f"there is no second pass, which needs FODs of a hard constraint: three tissues cannot be had ({why}).")
        return
    check_second_pass(second_pass, is_soft=True)


def compute_csd_fods(
    dwi: Scan,
    mask: VolumeResource | None,
    response: Response | None = None,
    *,
    shell: float | None = None,
    lmax: int | None = None,
    second_pass: bool | None = None,
    method: str = "auto",
) -> VolumeResource:
    """White-matter FODs (x, y, z, n_coef) float32, MRtrix3's basis, scanner frame.

    See :func:`estimate_fods` for mask, response, shell, lmax, second_pass and method; without a response it is that of
    :func:`estimate_response_function`.
    """
    if response is None:
        response = estimate_response_function(dwi, mask, shell=shell)
    fods = estimate_fods(dwi, mask, response, shell=shell, lmax=lmax, second_pass=second_pass, method=method)
    return fods.volumes[response.tissues[0]]


def compute_tissue_fractions(fods: Fods) -> VolumeResource:
    """Share of each tissue (x, y, z, n_tissue) float32, in the order of ``fods.volumes``; 0 outside the mask."""
    volumes = list(fods.volumes.values())
    return volumes[0].with_array(tissue_fractions([v.get_array() for v in volumes]).astype(np.float32))


def compute_fibre_density(fods: VolumeResource) -> VolumeResource:
    """Total apparent fibre density (x, y, z) float32: the integral of each FOD over the sphere.

    Along a peak it is the amplitude of the FOD, which :func:`compute_csd_peaks` returns as its values.
    """
    return fods.with_array(total_fibre_density(fods.get_array()).astype(np.float32))


def _prepare(
    dwi: Scan, response: Response, shell: float | None, lmax: int | None, directions: np.ndarray | None
) -> tuple[Callable[[np.ndarray], Any], np.ndarray, dict[str, Any]]:
    """The fit of rows of the response's shell, those volumes, and the facts for the sidecar."""
    check_response(response)
    found = find_shell_of(response, dwi.gradients, shell=shell)
    if math.isnan(response.shells[0]):
        warn(
            f"the response does not say which shell it was made on; taken as b={found.b:.0f} s/mm². Add the line "
            f"'# Shells: {found.b:.0f}' to its file, or give --shell."
        )
    degree = choose_lmax(response, dwi.gradients, found, lmax)
    zonal = response.get_zonal()
    system = make_csd_system(dwi.gradients.directions[found.indices], zonal, degree, constraint_directions=directions)
    facts = {
        "Model": "single-shell constrained spherical deconvolution",
        "ShellUsed": float(round(found.b)),
        "VolumesUsed": [int(i) for i in found.indices],
        "B0Threshold": dwi.gradients.b0_threshold,
        "Lmax": degree,
        "Tau": system.tau,
        "MaxIterations": system.max_iterations,
        "ConstraintDirections": len(system.penalty),
        "Response": response.to_dict(),
    }
    return system.fit, found.indices, facts


def _response_for(method: str, response: Response) -> Response:
    """The response that a method sees."""
    if not isinstance(response, Response):
        raise InputError(
            f"found {type(response).__name__} in place of a response; expected what estimate_response_function "
            "returns, or arcuate.io.responses.read_response([files])."
        )
    if method not in ("auto", "csd"):
        raise InputError(f"found the method {method!r}; expected auto or csd.")
    if method == "auto" or response.is_single_shell:
        return response
    if len(response.weighted) != 1:
        found = ", ".join(f"{b:.0f}" for b in response.shells)
        raise InputError(
            f"the method 'csd' sees one shell, the response is of the shells {found} s/mm²; estimate a response with "
            "algorithm 'tournier', or leave the method out."
        )
    return replace(response, tissues=response.tissues[:1], coefs=response.coefs[:1])


def _model_facts(model: MultiTissueModel | ThreeTissueModel, sharpening: Sharpening | None) -> dict[str, Any]:
    """What the sidecar says of the model."""
    facts: dict[str, Any] = {"Model": "multi-tissue constrained spherical deconvolution"}
    if isinstance(model, ThreeTissueModel):
        facts = {
            "Model": "single-shell three-tissue constrained spherical deconvolution",
            "Iterations": model.n_iterations,
            "WeightOfB0": model.b0_share,
            "SmoothnessInGreyMatter": model.smoothness,
        }
    else:
        facts["Constraints"] = len(model.problem.constraints)
    if sharpening is not None:
        is_one_shell = isinstance(model, ThreeTissueModel)
        unused = {"smoothness"} if is_one_shell else {"dispersed"}
        if not sharpening.evidence:
            unused |= {"per_evidence", "least_evidence"} | ({"unexplained"} if is_one_shell else set())
        if not sharpening.of_all_degrees:
            unused |= {"of_all_degrees"}
        facts["SecondPass"] = {k: v for k, v in asdict(sharpening).items() if k not in unused}
    return facts


def _estimate_multi_tissue(
    dwi: Scan,
    mask: VolumeResource | None,
    response: Response,
    *,
    lmax: int | None,
    constraint_directions: np.ndarray | None,
    second_pass: bool | None,
) -> Fods:
    inside = check_mask(dwi.volume, mask)
    n_vox = int(inside.sum())
    make = make_three_tissue_model if is_three_tissue(response) else make_multi_tissue_model
    base = make(dwi.gradients, response, lmax=lmax, constraint_directions=constraint_directions)
    sharpening = {None: sure_settings(base), True: Sharpening(), False: None}[second_pass]
    model: MultiTissueModel | ThreeTissueModel | TwoPassModel = base
    if sharpening is not None:
        model = make_two_pass_model(base, constraint_directions=constraint_directions, settings=sharpening)
    coefs = [np.zeros((n_vox, n_coefs(degree)), np.float32) for degree in model.lmax]
    status, residual = np.zeros(n_vox, np.uint8), np.zeros(n_vox, np.float32)
    for place, rows in masked_blocks(read_signals(dwi, inside, model.volumes), inside, volumes=model.volumes):
        block = model.fit(rows)
        for out, part in zip(coefs, block.coefs, strict=True):
            out[place] = part
        status[place], residual[place] = block.status, block.kkt_residual
    facts = {
        **_model_facts(base, sharpening),
        "Tissues": list(response.tissues),
        "ShellsUsed": [float(round(b)) for b in response.shells],
        "VolumesUsed": [int(i) for i in model.volumes],
        "B0Threshold": dwi.gradients.b0_threshold,
        "Lmax": dict(zip(response.tissues, model.lmax, strict=True)),
        "LargestKktResidual": float(residual.max(initial=0.0)),
        "VoxelsByStatus": count_status(status),
        "Response": response.to_dict(),
    }
    volumes: dict[str, VolumeResource] = {
        tissue: dwi.volume.with_array(scatter(part, inside))
        for tissue, part in zip(response.tissues, coefs, strict=True)
    }
    return Fods(
        volumes,
        dwi.volume.with_array(scatter(status, inside, np.uint8)),
        facts,
        dwi.volume.with_array(scatter(residual, inside)),
    )
