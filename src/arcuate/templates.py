"""Templates: the mean head of a group, in shape and in intensity, of one map, several, or of FODs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from arcuate.errors import InputError
from arcuate.registration import SEED, TransformResource, register_volumes, register_volumes_multimetric
from arcuate.volumes.ants_images import from_ants, require_ants, to_ants
from arcuate.volumes.as_volume import as_volume
from arcuate.volumes.resource import InMemoryVolumeResource, VolumeResource
from arcuate.volumes.transforms import Affine, Displacement, as_chain

GRADIENT_STEP = 0.2  # part of the mean warp by which the template follows its subjects
BLENDING = 0.75  # of the mean with its sharpened self


def average_volumes(volume_list: Sequence[VolumeResource], normalize: bool = True) -> InMemoryVolumeResource:
    """Mean of maps that lie in one space, on the grid of the one with most voxels.

    Parameters
    ----------
    volume_list : (x, y, z) each; grids may differ
    normalize : divide each by its mean first, for images of arbitrary scale

    Returns
    -------
    (x, y, z) float32
    """
    volumes = _checked(volume_list)
    reference = max(volumes, key=lambda volume: int(np.prod(volume.shape)))
    total = np.zeros(reference.shape)
    stay = TransformResource(np.eye(4)[None])
    for volume in volumes:
        resampled = np.asarray(stay.apply(volume, reference).array, dtype=np.float64)
        mean = float(np.mean(np.asarray(volume.get_array(), dtype=np.float64))) if normalize else 1.0
        if mean == 0:
            raise InputError("a volume has the mean 0; expected a map with values. Take normalize=False.")
        total += resampled / mean
    return reference.with_array((total / len(volumes)).astype(np.float32))


def build_template(
    volume_list: Sequence[VolumeResource],
    initial_template: VolumeResource | None = None,
    iterations: int = 3,
    *,
    seed: int = SEED,
    **options: Any,
) -> InMemoryVolumeResource:
    """The mean head of a group in shape and intensity, from one map of each subject.

    Parameters
    ----------
    volume_list : (x, y, z) each, as FA; roughly aligned where no initial template is given
    initial_template : (x, y, z), where to start; the mean of all without it
    iterations : rounds of registration and averaging
    seed, options : see :func:`arcuate.registration.register_volumes`

    Returns
    -------
    (x, y, z) float32, on the grid of the initial template

    Notes
    -----
    In each round all subjects are brought to the template (SyN), their images averaged, and the average moved against
    the mean of their transforms: by the inverse of the mean affine, and a fifth of the mean warp. It is then blended
    with a sharpened copy, three to one.

    References
    ----------
    Avants et al., The optimal template effect in hippocampus studies of diseased populations. NeuroImage 49, 2010.
    """
    found = build_multi_metric_template(
        [{"map": volume} for volume in volume_list],
        None if initial_template is None else {"map": initial_template},
        iterations=iterations, seed=seed, **options,
    )  # fmt: skip
    return found["map"]


def build_multi_metric_template(
    subject_list: Sequence[Mapping[str, VolumeResource]],
    initial_template: Mapping[str, VolumeResource] | None = None,
    weights: Mapping[str, float] | None = None,
    iterations: int = 3,
    *,
    seed: int = SEED,
    **options: Any,
) -> dict[str, InMemoryVolumeResource]:
    """The mean head of a group from several maps of each subject, which are registered together.

    Parameters
    ----------
    subject_list : {name: (x, y, z)} of each subject, the same names; the first leads the affine part
    initial_template : {name: (x, y, z)}, where to start; the means of all without it
    weights : of each map in the warp, relative to the first; equal without it
    iterations, seed, options : see :func:`build_template`

    Returns
    -------
    {name: (x, y, z) float32}
    """
    return template_and_transforms(
        subject_list, initial_template, weights, iterations=iterations, seed=seed, **options
    )[0]


def template_and_transforms(
    subject_list: Sequence[Mapping[str, VolumeResource]],
    initial_template: Mapping[str, VolumeResource] | None = None,
    weights: Mapping[str, float] | None = None,
    *,
    iterations: int = 3,
    seed: int = SEED,
    **options: Any,
) -> tuple[dict[str, InMemoryVolumeResource], list[TransformResource]]:
    """A template of maps {name: (x, y, z)} and the transform of each subject to it.

    ``subject_list``, ``initial_template``, ``weights``, ``iterations``, ``seed``, ``options``: see
    :func:`build_multi_metric_template`. The transforms are those to the template of the last round before it moved,
    with that move behind them: ``transforms[i].apply(map_of_subject_i, template)``.
    """
    names = _names_of(subject_list, initial_template, weights)
    if iterations < 1:
        raise InputError(f"found {iterations} iterations; expected 1 or more.")
    require_ants("a template")
    subjects = [{name: as_volume(subject[name]) for name in names} for subject in subject_list]
    if initial_template is None:
        template = {name: average_volumes([subject[name] for subject in subjects]) for name in names}
    else:
        template = {name: as_volume(initial_template[name]).load() for name in names}
    transforms: list[TransformResource] = []
    for _ in range(iterations):
        transforms = [_to_template(template, subject, weights, seed, options) for subject in subjects]
        move = _mean_move(transforms)
        for name in names:
            warped = [t.apply(s[name], template[name]) for t, s in zip(transforms, subjects, strict=True)]
            mean = template[name].with_array(np.mean([w.array for w in warped], axis=0, dtype=np.float64).astype("f4"))
            template[name] = _sharpened(move.apply(mean, template[name]))
        transforms = [_chained(move, transform) for transform in transforms]
    return template, transforms


def build_fod_template(
    fods: Sequence[VolumeResource], transforms: Sequence[TransformResource], reference: VolumeResource,
    *, modulate: bool = False,
) -> InMemoryVolumeResource:  # fmt: skip
    """Mean FOD of a group in the space of a template.

    Parameters
    ----------
    fods : (x, y, z, n_coef) of each subject, scanner frame, made with one response
    transforms : of each subject to the template, as :func:`template_and_transforms` gives them
    reference : (x, y, z), the grid of the template
    modulate : densities follow shrinking and growing tissue

    Returns
    -------
    (x, y, z, n_coef) float32
    """
    if not fods or len(fods) != len(transforms):
        raise InputError(f"found {len(fods)} FODs and {len(transforms)} transforms; expected one of each per subject.")
    shapes = {tuple(as_volume(fod).shape[3:]) for fod in fods}
    if len(shapes) > 1:
        raise InputError(f"found FODs of {shapes} coefficients; expected one degree for all subjects.")
    total = np.zeros((*reference.shape[:3], *shapes.pop()))
    for fod, transform in zip(fods, transforms, strict=True):
        total += transform.apply(volume=as_volume(fod), reference=reference, kind="fod", modulate=modulate).array
    return reference.with_array((total / len(fods)).astype(np.float32))


def _checked(volumes: Sequence[VolumeResource]) -> list[VolumeResource]:
    found = [as_volume(volume) for volume in volumes]
    if not found:
        raise InputError("found no volume; expected one map per subject.")
    bad = next((i for i, volume in enumerate(found) if len(volume.shape) != 3), None)
    if bad is not None:
        raise InputError(f"found a volume of shape {tuple(found[bad].shape)} (number {bad}); expected (x, y, z).")
    return found


def _names_of(
    subjects: Sequence[Mapping[str, VolumeResource]],
    initial: Mapping[str, VolumeResource] | None,
    weights: Mapping[str, float] | None,
) -> list[str]:
    if len(subjects) < 2:
        raise InputError(f"found {len(subjects)} subject for a template; expected two or more.")
    names = list(subjects[0])
    for i, subject in enumerate(subjects):
        if set(subject) != set(names):
            raise InputError(
                f"subject {i} has the maps {', '.join(subject)}; expected {', '.join(names)}, as the first."
            )
        _checked(list(subject.values()))
    for what, given in (("the initial template", initial), ("the weights", weights)):
        if given is not None and set(given) != set(names):
            raise InputError(f"found {', '.join(given)} in {what}; expected {', '.join(names)}, as the subjects have.")
    return names


def _to_template(
    template: Mapping[str, VolumeResource],
    subject: Mapping[str, VolumeResource],
    weights: Mapping[str, float] | None,
    seed: int,
    options: dict[str, Any],
) -> TransformResource:
    if len(template) == 1:
        name = next(iter(template))
        return register_volumes(template[name], subject[name], "SyN", seed=seed, **options)[1]
    return register_volumes_multimetric(template, subject, weights, seed=seed, **options)[1]


def _mean_move(transforms: Sequence[TransformResource]) -> TransformResource:
    """What moves an average towards the mean shape: a fifth of the mean warp backwards, then the mean affine undone.

    The warp is brought to where the affine leads, vectors turned with it.
    """
    affines, warps = [], []
    for transform in transforms:
        links = transform.transform.links
        affines.append(_product([link.matrix for link in links if isinstance(link, Affine)]))
        warps.append(next((link for link in links if isinstance(link, Displacement)), None))
    mean = _mean_affine(affines)
    undone = Affine(np.linalg.inv(mean))
    known = [warp for warp in warps if warp is not None]
    if not known:
        return TransformResource.of(undone)
    field = known[0]
    vectors = -GRADIENT_STEP * np.mean([warp.vectors for warp in known], axis=0)
    grid = InMemoryVolumeResource(vectors.astype(np.float32), field.affine)
    moved = TransformResource.of(undone).apply(grid, grid)
    turned = np.asarray(moved.array, dtype=np.float64) @ mean[:3, :3].T
    return TransformResource.of(as_chain([Displacement(turned, field.affine), undone]))


def _product(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Matrix (4, 4) of affine maps one after the other."""
    product = np.eye(4)
    for matrix in matrices:
        product = matrix @ product
    return product


def _mean_affine(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Mean (4, 4) of affine maps, on their logarithms, which is the same seen from either side."""
    from scipy.linalg import expm, logm

    return np.real(expm(np.mean([np.real(logm(matrix)) for matrix in matrices], axis=0)))


def _chained(first: TransformResource, second: TransformResource) -> TransformResource:
    return TransformResource.of(as_chain([first.transform, second.transform]))


def _sharpened(volume: InMemoryVolumeResource) -> InMemoryVolumeResource:
    """The map blended with its sharpened self (ANTs' Laplacian)."""
    ants = require_ants("a template")
    image = to_ants(volume, "a template", "the average")
    return from_ants(image * BLENDING + ants.iMath(image, "Sharpen") * (1 - BLENDING), volume)
