"""Multi-tissue intensity normalisation as a step: images of tissues in, images of tissues out."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as make_field
from typing import Any

import numpy as np

from arcuate.cache import cacheable, storable
from arcuate.errors import InputError
from arcuate.models.mtnormalise import normalise_tissues
from arcuate.models.multitissue import SUM_OF_TISSUES
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.voxels import check_mask, masked_rows, scatter


@storable
@dataclass(frozen=True, eq=False)
class NormalisedTissues:
    """Tissues whose balanced sum is near 0.282 everywhere, and the field that was divided out."""

    volumes: dict[str, VolumeResource]  # (x, y, z, n_coef) float32 each, 0 outside the mask
    field: VolumeResource  # (x, y, z) float32, 0 outside the mask
    parameters: dict[str, Any] = make_field(default_factory=dict)


@cacheable(version=1)
def mtnormalise(
    tissues: dict[str, VolumeResource],
    mask: VolumeResource,
    *,
    order: int = 3,
    reference: float = SUM_OF_TISSUES,
) -> NormalisedTissues:
    """Tissues divided by a smooth field; see :func:`arcuate.models.mtnormalise.normalise_tissues`.

    Parameters
    ----------
    tissues : images (x, y, z, n_coef) of one multi-tissue fit, white matter first
    mask : of the brain, (x, y, z)
    order : degree of the polynomial of the field's logarithm, 0 to 3
    reference : what the balanced sum of the tissues is brought to
    """
    if not tissues:
        raise InputError("found no image of a tissue; expected at least one.")
    images = {name: _with_coefficients(volume) for name, volume in tissues.items()}
    first = next(iter(images.values()))
    inside = check_mask(first, mask)
    rows = []
    for name, image in images.items():
        if tuple(image.shape[:3]) != inside.shape:
            raise InputError(
                f"the image of {name} has the shape {tuple(image.shape)}, the first {tuple(first.shape)}; expected "
                "images of one fit."
            )
        rows.append(masked_rows(image.get_array(), inside))
    i, j, k = np.unravel_index(np.flatnonzero(inside.ravel(order="F")), inside.shape, order="F")
    affine = np.asarray(first.get_affine(), dtype=np.float64)
    positions = np.column_stack([i, j, k]) @ affine[:3, :3].T + affine[:3, 3]
    amounts = np.stack([row[:, 0] for row in rows], axis=1)
    found = normalise_tissues(amounts, positions, order=order, reference=reference)
    volumes: dict[str, VolumeResource] = {}
    for (name, image), row in zip(images.items(), rows, strict=True):
        np.divide(row, found.field[:, None], out=row, casting="same_kind")  # the rows are ours
        volumes[name] = InMemoryVolumeResource(scatter(row, inside), image.get_affine(), image.get_metadata())
    facts = {
        "Model": "multi-tissue intensity normalisation in the log domain",
        "Order": order,
        "Reference": reference,
        "BalanceFactors": dict(zip(images, [float(b) for b in found.balance], strict=True)),
        "LogNormScale": found.scale,
        "VoxelsUsed": int(found.is_used.sum()),
        "VoxelsInMask": len(amounts),
    }
    field_image = InMemoryVolumeResource(scatter(found.field, inside), first.get_affine(), first.get_metadata())
    return NormalisedTissues(volumes, field_image, facts)


def _with_coefficients(volume: VolumeResource) -> VolumeResource:
    """The image with a fourth axis, which an isotropic tissue may lack."""
    if len(volume.shape) != 3:
        return volume
    return InMemoryVolumeResource(volume.get_array()[..., None], volume.get_affine(), volume.get_metadata())
