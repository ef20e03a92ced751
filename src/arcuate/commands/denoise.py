"""``arcuate denoise``: a scan with less noise, and a map of the noise."""

from __future__ import annotations

from pathlib import Path

import click

from arcuate.commands.options import ScanFiles, check_images, command, mask_option, read_mask, scan_options, step_option
from arcuate.commands.paths import OutImage, out_image_option
from arcuate.commands.shell import Choice, tell
from arcuate.commands.written import check_outputs, until_voxels
from arcuate.denoise import METHODS, run_denoising
from arcuate.errors import InputError
from arcuate.volumes.series import VolumeMadeLater


class Extent(click.ParamType):
    """One odd number of voxels, or three: 5 or 5,5,3."""

    name = "extent"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, int, int]:
        try:
            numbers = [int(part) for part in str(value).split(",")]
        except ValueError:
            numbers = []
        if len(numbers) == 1:
            return numbers[0]
        if len(numbers) != 3:
            self.fail(f"found {value!r}; expected one odd number or three, as 5 or 5,5,3.", param, ctx)
        return numbers[0], numbers[1], numbers[2]


@command()
@scan_options
@mask_option
@out_image_option("Scan to write, .nii.gz or .nii, .bval and .bvec beside it; or .mif, which holds them.")
@click.option("--noise", type=OutImage(), help="Noise map to write (standard deviation, unit of the signal).")
@step_option(
    run_denoising,
    "--method",
    "patch2self: each volume from the others; mppca: Marchenko-Pastur PCA of patches.",
    type=Choice(METHODS),
)
@step_option(run_denoising, "--model", "Regression of patch2self.", type=Choice(["ols", "ridge"]))
@step_option(run_denoising, "--alpha", "Weight of the ridge penalty.", type=float)
@click.option("--keep-b0", is_flag=True, help="patch2self passes the b=0 volumes through.")
@click.option("--extent", type=Extent(), help="Patch of mppca, 5 or 5,5,3. Default: a cube with one voxel per volume.")
@step_option(
    run_denoising,
    "--estimator",
    "Noise estimator of mppca: exp1 (Veraart 2016) or exp2 (Cordero-Grande 2019).",
    type=Choice(["exp1", "exp2"]),
)
@click.option("--rician", is_flag=True, help="Remove the bias of magnitude data, given the noise map.")
@click.option("--no-clip", is_flag=True, help="Keep negative signals.")
def denoise(
    scan: ScanFiles,
    mask: Path | None,
    out: Path,
    noise: Path | None,
    keep_b0: bool,
    no_clip: bool,
    **options: object,
) -> None:
    """Denoise DWI; best before any step that interpolates.

    The .json beside the result counts the voxels that were clipped or lie above b=0, and says per shell how much of
    what was removed looks like the brain (near 0: it was noise).
    """
    from arcuate.denoise import residual_doubts, residual_facts, shell_residuals
    from arcuate.io import FslBvalResource, FslBvecResource, beside_image, written_together
    from arcuate.io.mif_header import is_mif
    from arcuate.study.bids import write_map

    files = scan.inputs_with(mask=mask)
    gradient_files = [] if is_mif(out) else [beside_image(out, suffix) for suffix in (".bval", ".bvec")]
    images = [out, *([noise] if noise else [])]
    check_images(images, files)
    check_outputs(gradient_files, files, belonging=dict.fromkeys(gradient_files, out))
    if noise is not None and noise.resolve() == out.resolve():
        raise InputError(f"found {out} as the scan and as the noise map to write; give --noise another name.")
    before = scan.read()
    inside = read_mask(mask, before.volume)
    before = before.with_volume(VolumeMadeLater(before.volume, before.volume.load))  # read once, when it is asked for
    with until_voxels([*images, *gradient_files]) as unread:
        result = run_denoising(
            unread(before),
            mask=inside,
            clip=not no_clip,
            b0_denoising=not keep_b0,
            **options,  # type: ignore[arg-type]
        )
    structures = shell_residuals(before, result.dwi, inside)
    inputs = scan.facts(mask=mask)
    residual = residual_facts(structures)
    facts = {**result.parameters, "Residual": residual, **inputs}
    with written_together():
        write_map(result.dwi.volume, out, facts, result.dwi.gradients)
        if gradient_files:
            FslBvalResource.save(result.dwi.bval, gradient_files[0])
            FslBvecResource.save(result.dwi.bvec, gradient_files[1])
    if noise is not None:
        write_map(result.noise, noise, {**result.parameters, "Type": "noise level", **inputs})
    tell(
        f"{out}: {result.parameters['Method']}, noise {result.parameters['MedianNoise']:.4g}, "
        f"{result.parameters['VoxelsClipped']} voxels clipped, {result.parameters['VoxelsAboveB0']} above b=0"
    )
    for b, structure in structures.items():
        tell(
            f"  b={b:.0f}: removed {structure.rms:.4g} (rms); correlation with the anatomy {structure.anatomy:+.3f}, "
            f"of neighbours {structure.neighbours:+.3f}"
        )
    for doubt in residual_doubts(residual):
        tell(f"  check: {doubt}")
