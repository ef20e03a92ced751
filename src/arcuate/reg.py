"""kwneuro's names for :mod:`arcuate.registration`, in its order of arguments: scripts that come from there run.

By position ``apply`` takes ``(fixed, moving, invert, interpolation)`` here and ``(volume, reference, interpolation)``
there; by keyword both take both. All else is the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arcuate import registration
from arcuate.cache import storable
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.scan import Scan

__all__ = ["TransformResource", "register_dwi_to_structural", "register_volumes", "register_volumes_multimetric"]


@storable
@dataclass(frozen=True, eq=False)
class TransformResource(registration.TransformResource):
    """A transform from one image to another, applied in kwneuro's order; else as there."""

    def apply(  # type: ignore[override]
        self,
        fixed: VolumeResource | None = None,
        moving: VolumeResource | None = None,
        invert: bool = False,
        interpolation: str = "linear",
        *,
        volume: VolumeResource | None = None,
        reference: VolumeResource | None = None,
        **options: Any,
    ) -> InMemoryVolumeResource:
        """``moving`` (x, y, z[, n]) on the grid of ``fixed``; see the method of the same name there.

        Parameters
        ----------
        fixed : (x, y, z[, n]), whose grid ``moving`` is brought to
        moving : what is brought over
        invert : the way back: ``moving`` lies in the fixed image of the registration
        interpolation : "linear", "nearestNeighbor", "genericLabel", "bSpline", or our names of them
        volume, reference : other names for moving and fixed
        options : ``kind`` and ``modulate``
        """
        brought, grid = moving if volume is None else volume, fixed if reference is None else reference
        return super().apply(brought, grid, interpolation, invert=invert, **options)


def register_volumes(
    fixed: VolumeResource,
    moving: VolumeResource,
    type_of_transform: str = "SyN",
    mask: VolumeResource | None = None,
    moving_mask: VolumeResource | None = None,
    **options: Any,
) -> tuple[InMemoryVolumeResource, TransformResource]:
    """:func:`arcuate.registration.register_volumes`, its transform applied in kwneuro's order."""
    warped, transform = registration.register_volumes(fixed, moving, type_of_transform, mask, moving_mask, **options)
    return warped, _in_their_order(transform)


def register_volumes_multimetric(
    fixed: Mapping[str, VolumeResource],
    moving: Mapping[str, VolumeResource],
    weights: Mapping[str, float] | None = None,
    mask: VolumeResource | None = None,
    moving_mask: VolumeResource | None = None,
    **options: Any,
) -> tuple[dict[str, InMemoryVolumeResource], TransformResource]:
    """:func:`arcuate.registration.register_volumes_multimetric`, its transform applied in kwneuro's order."""
    warped, transform = registration.register_volumes_multimetric(fixed, moving, weights, mask, moving_mask, **options)
    return warped, _in_their_order(transform)


def register_dwi_to_structural(
    dwi: Scan,
    structural: Any,
    type_of_transform: str = "Rigid",
    dwi_mask: VolumeResource | None = None,
    structural_mask: VolumeResource | None = None,
    **options: Any,
) -> TransformResource:
    """:func:`arcuate.registration.register_dwi_to_structural`, its transform applied in kwneuro's order."""
    return _in_their_order(
        registration.register_dwi_to_structural(
            dwi, structural, type_of_transform, dwi_mask, structural_mask, **options
        )
    )


register_dwi_to_structural.step = registration.register_dwi_to_structural.step  # type: ignore[attr-defined]


def _in_their_order(transform: registration.TransformResource) -> TransformResource:
    return TransformResource(transform.matrices, transform.fields, transform.back_fields)
