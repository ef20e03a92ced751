# ruff: noqa
# %% start
import numpy as np
from arcuate import Dwi, make_phantom, three_shell_gradients

gradients = three_shell_gradients(n_b0=2, bvals=(1000, 2000), n_directions=32)
head = make_phantom(gradients, shape=(24, 28, 14), voxel_size=6.0)
dwi = Dwi.from_arrays(head.signal, head.affine, gradients)  # a scan, here a phantom's
mask = dwi.volume.with_array(head.brain_mask.astype(np.uint8))

# %% arcuate.dwi.Dwi
dwi.save("data", basename="sub-01_dwi")
same = Dwi.from_files("data/sub-01_dwi.nii.gz").load()
print(same)  # one line: grid, shells, number of volumes
b0 = same.compute_mean_b0()
shell = same.select(shells="0,1000")  # a scan of its own

# %% arcuate.dwi.subsample_dwi
coarse = subsample_dwi(dwi, 2)  # every second voxel along each axis
assert coarse.volume.shape[:3] == (12, 14, 7)

# %% arcuate.files.write_dwi_fsl, arcuate.files.read_dwi_fsl
on_disk = write_dwi_fsl(dwi, "fsl/dwi.nii.gz")  # and fsl/dwi.bval, fsl/dwi.bvec
scan = read_dwi_fsl("fsl/dwi.nii.gz")

# %% arcuate.files.write_volume, arcuate.files.read_volume
on_disk = write_volume(mask, "masks/brain.nii.gz")
volume = read_volume("masks/brain.nii.gz")  # nothing is read yet

# %% arcuate.files.read_structural, arcuate.files.write_structural
write_volume(dwi.compute_mean_b0(), "T1w.nii.gz")
t1 = read_structural("T1w.nii.gz")
write_structural(t1, "copies/T1w.nii.gz")

# %% arcuate.external.temporary_volume_file, arcuate.external.temporary_dwi_files, arcuate.external.TemporaryDwiFiles, arcuate.external.temporary_structural_file
import shutil

with temporary_volume_file(mask) as path:  # for a tool that knows files only
    shutil.copy(path, "for_the_tool.nii.gz")
with temporary_dwi_files(dwi) as files:
    print(files.volume.name, files.bval.name, files.bvec.name)
    assert isinstance(files, TemporaryDwiFiles)
with temporary_structural_file(t1) as path:
    print(path.name)

# %% arcuate.dti.check_noise
noise = dwi.volume.with_array(np.full(dwi.volume.shape[:3], 20.0, np.float32))
check_noise(dwi.volume, noise, rician=True)  # says at once what estimate_dti would refuse

# %% arcuate.io.NiftiVolumeResource
fa, md = dwi.estimate_dti(mask=mask).get_fa_md()
NiftiVolumeResource.save(fa, "fa.nii.gz")
again = NiftiVolumeResource("fa.nii.gz")  # nothing is read yet
values = again.get_array()  # (x, y, z)

# %% arcuate.io.MifVolumeResource
MifVolumeResource.save(dwi.volume, "dwi.mif", gradients)
image = MifVolumeResource("dwi.mif")
rows = image.gradient_rows  # x y z b of each volume, from the header

# %% arcuate.io.open_volume, arcuate.io.save_volume
save_volume(mask, "mask.mif")  # the name tells the format
inside = open_volume("mask.mif").load()

# %% arcuate.io.FslBvalResource, arcuate.io.FslBvecResource
bvals = FslBvalResource("data/sub-01_dwi.bval").get()  # as the file has them, s/mm²
bvecs = FslBvecResource("data/sub-01_dwi.bvec").load()
FslBvecResource.save(bvecs, "copy.bvec")

# %% arcuate.io.read_mrtrix_table, arcuate.io.write_mrtrix_table, arcuate.io.MrtrixBvalResource, arcuate.io.MrtrixBvecResource
write_mrtrix_table(gradients, "grad.b")
table = read_mrtrix_table("grad.b")  # (n_meas, 4): x y z in the scanner frame, b
scan = Dwi(dwi.volume, MrtrixBvalResource("grad.b"), MrtrixBvecResource("grad.b", dwi.volume))

# %% arcuate.io.find_gradients, arcuate.io.find_gradients_of_parts, arcuate.io.find_images
volume, bval, bvec = find_gradients("data/sub-01_dwi.nii.gz")  # beside the image, or as in BIDS
images = find_images(["data"])  # those in a folder
((volume, bval, bvec),) = find_gradients_of_parts(images)

# %% arcuate.io.image_stem, arcuate.io.common_name, arcuate.io.beside_image
from pathlib import Path

assert image_stem("data/sub-01_dwi.nii.gz") == "sub-01_dwi"
assert beside_image("data/sub-01_dwi.nii.gz", ".bval").name == "sub-01_dwi.bval"
common_name([Path("sub-01_run-1_dwi.nii.gz"), Path("sub-01_run-2_dwi.nii.gz")])

# %% arcuate.io.atomic_path, arcuate.io.write_text_atomically, arcuate.io.written_together
write_text_atomically("note.txt", "whole or not at all\n")
with atomic_path("values.npy") as path:  # moved to its name when the block ends well
    np.save(path.open("wb"), np.arange(3))
with written_together():  # both take their names when the block ends well
    write_text_atomically("map.json", "{}\n")
    write_text_atomically("map.txt", "of these values\n")

# %% arcuate.volumes.scale_steps.ScanPart, arcuate.volumes.scale_steps.find_parts, arcuate.volumes.scale_steps.scale_doubts, arcuate.volumes.scale_steps.check_parts, arcuate.volumes.scale_steps.factors_of, arcuate.volumes.scale_steps.with_one_scale
half = len(gradients.bvals)
twice = Dwi.concatenate([dwi, Dwi.from_arrays(0.5 * head.signal, head.affine, gradients)])
check_parts(twice.gradients, (half, half))
parts = find_parts(np.asarray(twice.volume.get_array()), twice.gradients, (half, half))
print(scale_doubts(parts))  # the second part has half the scale
factors = factors_of(parts, twice.gradients, are_known=True)  # of each volume
array, origin = with_one_scale(np.asarray(twice.volume.get_array()), twice.gradients, twice.origin)
assert isinstance(parts[0], ScanPart)

# %% arcuate.volumes.resource.Resource, arcuate.volumes.resource.VolumeResource, arcuate.volumes.resource.InMemoryVolumeResource, arcuate.volumes.resource.from_nibabel, arcuate.volumes.resource.describe_grid
volume = InMemoryVolumeResource(np.zeros((4, 5, 6), np.float32), np.diag([2.0, 2, 2, 1]))
image = volume.to_nibabel()  # what nilearn and DIPY take
back = from_nibabel(image)
assert isinstance(back, VolumeResource) and isinstance(back, Resource)
print(describe_grid(back), np.asarray(back).shape)

# %% arcuate.volumes.resource.VectorResource, arcuate.volumes.resource.InMemoryBvalResource, arcuate.volumes.resource.InMemoryBvecResource
affine = dwi.volume.get_affine()
bvals, bvecs = gradients.to_fsl(affine)
scan = Dwi(dwi.volume, InMemoryBvalResource(bvals), InMemoryBvecResource(bvecs))
assert isinstance(scan.bval, VectorResource)

# %% arcuate.gradients.GradientTable, arcuate.gradients.Shell
table = GradientTable.from_fsl(bvals, bvecs, affine)  # directions in the scanner frame
for shell in table.shells:
    print(shell.b, len(shell.indices))
lowest = table.subset(np.flatnonzero(table.bvals < 1500))

# %% arcuate.gradients.in_s_per_mm2, arcuate.gradients.bvecs_as_rows, arcuate.gradients.image_to_scanner
assert in_s_per_mm2(np.array([1.0, 2.0]), "ms/um2").tolist() == [1000.0, 2000.0]
rows = bvecs_as_rows(bvecs.T, len(bvals))  # from three long rows or three columns
turn = image_to_scanner(affine)  # (3, 3), what brings FSL's vectors to the scanner

# %% arcuate.denoise.run_denoising, arcuate.denoise.Denoising
cleaner = dwi.denoise(method="mppca")
denoising = run_denoising(dwi, method="mppca")  # with the noise and what was done
print(denoising.parameters["MedianNoise"], denoising.noise)

# %% arcuate.denoise.shell_residuals, arcuate.denoise.residual_facts, arcuate.denoise.residual_doubts
structures = shell_residuals(dwi, denoising.dwi, mask)
facts = residual_facts(structures)  # a row per shell: how much of what was taken away follows the anatomy
print(residual_doubts(facts))

# %% arcuate.denoise.choose_denoising, arcuate.denoise.DenoisingChoice, arcuate.denoise.denoised_before, arcuate.denoise.patch2self_doubt
choice = choose_denoising(gradients, [{"Interpolated": False}])
assert isinstance(choice, DenoisingChoice)
print(choice.method, choice.reason)
assert denoised_before({"Denoised": "mppca"})
print(patch2self_doubt(gradients))  # why Patch2Self would harm this scan, or None

# %% arcuate.masks.extract_brain, arcuate.masks.find_brain, arcuate.masks.BrainMask, arcuate.masks.brain_mask
inside = dwi.extract_brain(method="otsu")  # or extract_brain(dwi, method="otsu")
found = find_brain(dwi, method="otsu")  # with method, volume, doubts
print(found.parameters["VolumeMl"])

# %% arcuate.masks.find_brains, arcuate.masks.resolve_method
masks = find_brains([dwi, dwi], method="otsu")  # a network is loaded once for all
assert resolve_method("otsu", dwi) == "otsu"

# %% arcuate.masks.brain_extract_dwi_batch
written = brain_extract_dwi_batch([(dwi, "first_mask.nii.gz"), (dwi, "second_mask.nii.gz")], method="otsu")

# %% arcuate.masks.brain_extract, arcuate.masks.brain_extract_structural_batch, arcuate.masks.structural_mask
written = brain_extract(t1.volume, "t1_mask.nii.gz", method="otsu")
several = brain_extract_structural_batch([(t1, "t1_again.nii.gz")], method="otsu")
inside = structural_mask(t1.volume, method="otsu")

# %% not run: arcuate.masks.network_mask
inside = dwi.extract_brain(method="hdbet")  # asks for the extra [hdbet]

# %% arcuate.masks.describe_mask, arcuate.masks.mask_quality, arcuate.masks.MaskQuality
print(describe_mask(mask).parameters)
quality = mask_quality(head.brain_mask, (6.0, 6.0, 6.0))
assert isinstance(quality, MaskQuality)
print(quality.volume_ml, quality.doubts)

# %% arcuate.masks.otsu_mask, arcuate.masks.thin_axis, arcuate.masks.can_hold_a_human_head
inside = otsu_mask(np.asarray(dwi.compute_mean_b0().get_array()), (6.0, 6.0, 6.0))
assert thin_axis((104, 104, 2), (2.0, 2.0, 2.0)) == 2  # a slab of two slices
assert can_hold_a_human_head((96, 96, 60), (2.0, 2.0, 2.0))

# %% arcuate.dti.Dti
dti = dwi.estimate_dti(mask=mask)
fa, md = dti.get_fa_md()
evals, evecs = dti.get_eig()
dti.save("tensor.nii.gz")

# %% arcuate.dti.in_tensor_order
for_mrtrix = in_tensor_order(dti.volume, "mrtrix")  # xx yy zz xy xz yz

# %% arcuate.dti.fit_facts, arcuate.dti.facts_of_volumes
lowest = np.flatnonzero(gradients.bvals < 1500)
print(fit_facts(gradients, lowest, b_max=1500, n_reweight=1, nonnegative=False))
print(facts_of_volumes(gradients, lowest, b_max=1500, nonnegative=False))

# %% arcuate.kurtosis.Dki, arcuate.kurtosis.estimate_dki
dki = dwi.estimate_dki(mask=mask)  # or estimate_dki(dwi, mask)
mk = dki.mk  # mean kurtosis
fa, md = dki.get_fa_md()  # freed of its bias

# %% arcuate.freewater.FreeWater, arcuate.freewater.estimate_free_water
water = dwi.estimate_free_water(mask=mask)  # or estimate_free_water(dwi, mask)
share = water.fwf
fa, md = water.get_fa_md()  # of the tissue

# %% arcuate.noddi.Noddi
noddi = dwi.estimate_noddi(mask=mask)
ndi, odi, fwf = noddi.ndi, noddi.odi, noddi.fwf
weighted_ndi, weighted_odi = noddi.get_modulated_ndi_odi()  # for means over regions
noddi.save("noddi.nii.gz")

# %% arcuate.csd.estimate_response_function, arcuate.csd.responses.estimate_response_function
response = estimate_response_function(dwi, mask, algorithm="dhollander")
print(response.tissues, response.shells)

# %% arcuate.csd.compute_csd_fods, arcuate.csd.estimate_fods, arcuate.csd.Fods
fods = estimate_fods(dwi, mask, response)  # all tissues, with status and parameters
white = compute_csd_fods(dwi, mask, response)  # white matter alone: (x, y, z, 45)
assert isinstance(fods, Fods)

# %% arcuate.csd.compute_tissue_fractions, arcuate.csd.compute_fibre_density
fractions = compute_tissue_fractions(fods)  # (x, y, z, n_tissues), a sum of 1
afd = compute_fibre_density(white)  # total over all directions

# %% arcuate.csd.compute_csd_peaks, arcuate.csd.combine_csd_peaks_to_vector_volume, arcuate.csd.split_vector_volume
directions, amplitudes = compute_csd_peaks(dwi, mask, response, n_peaks=3)
vectors = combine_csd_peaks_to_vector_volume(directions, amplitudes)  # as sh2peaks writes them
directions, amplitudes = split_vector_volume(vectors)

# %% arcuate.csd.find_fod_peaks, arcuate.csd.locate_fod_peaks, arcuate.csd.FodPeaks
directions, amplitudes = find_fod_peaks(white, mask, n_peaks=3)
peaks = locate_fod_peaks(white, mask, n_peaks=3)  # with the rule that decided
assert isinstance(peaks, FodPeaks)

# %% arcuate.csd.segment_fods, arcuate.csd.Fixels
fixels = segment_fods(white, mask)
print(fixels.directions.shape, list(fixels.values))  # a row per lobe
density = fixels.as_volume("afd")

# %% arcuate.csd.responses.tissues_of, arcuate.csd.responses.check_response_gradients, arcuate.csd.responses.erode, arcuate.csd.responses.resolve_algorithm
print(tissues_of(dwi))  # that responses can be told for
check_response_gradients(gradients, "dhollander")  # raises where the scan cannot give it
print(resolve_algorithm("auto", gradients))
smaller, steps = erode(head.brain_mask, 1)

# %% arcuate.csd.responses.estimate_tournier, arcuate.csd.responses.estimate_dhollander
wm = estimate_tournier(dwi, head.brain_mask, shell=2000)
three = estimate_dhollander(dwi, head.brain_mask)

# %% arcuate.mtnormalise.mtnormalise, arcuate.mtnormalise.NormalisedTissues
normalised = mtnormalise(fods.volumes, mask)
assert isinstance(normalised, NormalisedTissues)
print(normalised.field)

# %% arcuate.tractseg.get_bundle_names, arcuate.tractseg.tract_names
assert len(get_bundle_names()) == 73  # the background first
print(tract_names("tract_segmentation")[:3])

# %% not run: arcuate.tractseg.extract_tractseg, not run: arcuate.tractseg.find_tracts, not run: arcuate.tractseg.locate_tracts, not run: arcuate.tractseg.find_fod_tracts, not run: arcuate.tractseg.locate_fod_tracts
# extra [tractseg], and `arcuate fetch tractseg-tract-segmentation`
tracts = extract_tractseg(dwi, mask, response)  # (x, y, z, 72)
tracts = find_tracts(vectors, mask=mask)  # from peaks, MRtrix3's too
tracts = find_fod_tracts(white, mask)
found = locate_fod_tracts(white, mask)  # with the parameters used

# %% not run: arcuate.tractseg.mask_orientation_maps
maps = find_tracts(vectors, "TOM", mask=mask)
masked = mask_orientation_maps(maps, tracts)

# %% not run: arcuate.structural.read_structural, not run: arcuate.structural.StructuralImage, not run: arcuate.structural.Tissues, not run: arcuate.structural.correct_bias, not run: arcuate.structural.estimate_tissues, not run: arcuate.structural.structural_mask
t1 = read_structural("T1w.nii.gz").correct_bias()  # extra [ants]
inside = t1.extract_brain()
tissues = t1.estimate_tissues(inside)
gm = tissues.probability("gm")
t1.save("T1w_corrected.nii.gz")

# %% not run: arcuate.registration.register_volumes, not run: arcuate.registration.register_volumes_multimetric, not run: arcuate.registration.register_dwi_to_structural
warped, transform = register_volumes(template, fa)  # extra [ants]; SyN
to_t1 = register_dwi_to_structural(dwi, t1)
labels_in_scan = to_t1.inverse.apply(labels, fa, "label")

# %% arcuate.registration.TransformResource, arcuate.registration.InverseTransform
shift = np.eye(4)
shift[0, 3] = 6.0  # mm to the right
transform = TransformResource(shift[None])
moved = transform.apply(fa, fa)
transform.save("shift")
back = TransformResource.load("shift").inverse
assert isinstance(back, InverseTransform)

# %% arcuate.templates.average_volumes
mean = average_volumes([fa, fa], normalize=False)

# %% not run: arcuate.templates.build_template, not run: arcuate.templates.build_multi_metric_template, not run: arcuate.templates.template_and_transforms, not run: arcuate.templates.build_fod_template
template = build_template([fa_of_one, fa_of_two])  # extra [ants]
both = build_multi_metric_template([{"fa": fa_of_one, "md": md_of_one}, {"fa": fa_of_two, "md": md_of_two}])
found, transforms = template_and_transforms([{"fa": fa_of_one}, {"fa": fa_of_two}])
fod_template = build_fod_template([fods_of_one, fods_of_two], transforms, found["fa"])

# %% arcuate.regions.region_table, arcuate.regions.join_tables
labels = dwi.volume.with_array(head.label_image)
table = region_table({"fa": fa, "md": md}, labels)
everyone = join_tables({"sub-01": table, "sub-02": table})

# %% arcuate.io.tables.Table, arcuate.io.tables.read_table
assert isinstance(table, Table)
table.save("regions.tsv")  # and regions.json, what the columns say
print(read_table("regions.tsv").columns.keys())

# %% arcuate.io.labels.read_image, arcuate.io.labels.read_label_names, arcuate.io.labels.find_label_names, arcuate.io.labels.as_labels
Path("atlas.tsv").write_text("index\tname\n1\tgenu\n2\tsplenium\n")
names = read_label_names("atlas.tsv")  # {1: "genu", 2: "splenium"}
save_volume(labels, "atlas.nii.gz")
print(find_label_names(Path("atlas.nii.gz")))  # the table beside the image
whole = as_labels(read_image("atlas.nii.gz"))  # (x, y, z) int

# %% arcuate.harmonize.harmonize_values, arcuate.harmonize.CombatEstimates, arcuate.harmonize.Covariates
rng = np.random.default_rng(0)
people = {"site": ["a"] * 10 + ["b"] * 10, "age": list(rng.uniform(20, 60, 20))}
values = rng.normal(size=(20, 5)) + np.repeat([0.0, 2.0], 10)[:, None]  # subjects by features
even, estimates = harmonize_values(values, people, "site", continuous_cols=["age"])
assert isinstance(estimates, CombatEstimates) and isinstance(estimates.covariates, Covariates)
print(estimates.covariates.sites)  # .apply_volumes() brings maps of more subjects of these sites over

# %% arcuate.harmonize.harmonize_table, arcuate.harmonize.harmonize_volumes
cohort = join_tables({f"sub-{i}": table for i in range(6)})
about = {"participant_id": [f"sub-{i}" for i in range(6)], "site": ["a", "b"] * 3}
noisy = cohort.with_column("mean", [v + 0.01 * i for i, v in enumerate(cohort.numbers("mean"))])
even, estimates = harmonize_table(noisy, about, "site")
volumes = [fa.with_array(np.asarray(fa.get_array()) + rng.normal(0, 0.01, fa.shape)) for _ in range(6)]
maps, estimates = harmonize_volumes(volumes, about, "site", mask)

# %% arcuate.cache.Cache, arcuate.cache.StepCall, arcuate.cache.CacheWarning
with Cache("kept") as cache:
    dti = dwi.estimate_dti(mask=mask)  # computed
    dti = dwi.estimate_dti(mask=mask)  # read back
print(cache.status([Dti.estimate_dti]))

# %% arcuate.cache.cacheable, arcuate.cache.storable
from dataclasses import dataclass

from arcuate.cache import cacheable, storable


@cacheable(version=1)
def smooth(values: np.ndarray, width: float) -> np.ndarray:
    """A step of your own: computed once inside a Cache."""
    return np.exp(-values / width)


@storable
@dataclass(frozen=True)
class Pair:
    """A result of your own that the cache can keep."""

    low: np.ndarray
    high: np.ndarray


with Cache("kept"):
    smooth(np.arange(3.0), 2.0)


# %% arcuate.cache.CacheSpec
def write_text(result: str, folder: Path) -> None:
    (folder / "words.txt").write_text(result)


def read_text(folder: Path) -> str:
    return (folder / "words.txt").read_text()


@cacheable(CacheSpec(files=["words.txt"], save=write_text, load=read_text))
def spell(count: int) -> str:
    """A step whose result the cache does not know by itself."""
    return " ".join(["word"] * count)


with Cache("kept"):
    assert spell(2) == "word word"

# %% arcuate.cache.fingerprint, arcuate.cache.file_sha256, arcuate.cache.UnknownValueError
assert fingerprint(np.arange(3)) == fingerprint(np.arange(3))
try:
    fingerprint(lambda: None)
except UnknownValueError as error:
    print(error)
print(file_sha256(Path("note.txt")))

# %% arcuate.errors.InputError, arcuate.errors.NotApplicable, arcuate.errors.InputWarning, arcuate.errors.MissingExtraError
from arcuate.errors import InputError, MissingExtraError, NotApplicable

try:
    Dwi.from_files("nowhere.nii.gz")
except InputError as error:  # a ValueError; what was found, expected, and what to do
    print(error)
assert issubclass(NotApplicable, InputError)
print(MissingExtraError("pyvista", "viz", "drawing tracts"))

# %% arcuate.errors.warn, arcuate.errors.did_you_mean, arcuate.errors.how_to_install
assert did_you_mean("dholander", ["dhollander", "tournier"]) == " Did you mean dhollander?"
print(how_to_install("viz"))

# %% arcuate.errors.of_one_cause
from arcuate.errors import of_one_cause

doubts = of_one_cause(["there is no b=0 volume: NODDI is left out", "there is no b=0 volume: no SNR can be had"])
print(doubts)  # one sentence with all that follows

# %% arcuate.errors.noted_warnings, arcuate.errors.silenced_warnings
with silenced_warnings(), noted_warnings() as texts:
    warn("the scan has no b=0 volume")
print(texts)  # what a report may list, though nobody was warned

# %% arcuate.figures.plotting.Panel, arcuate.figures.plotting.plot_maps, arcuate.figures.plotting.png_of
figure = plot_maps([Panel(fa.get_array(), "FA", "gray", (0, 1))], fa.get_affine(), paper="white", scale_bar=50)
figure.savefig("fa.pdf")  # or .svg
picture = png_of(figure, dpi=150)

# %% arcuate.figures.plotting.plot_volume, arcuate.figures.plotting.plot_mask, arcuate.figures.plotting.robust_limits
figure = plot_volume(np.asarray(md.get_array()), md.get_affine(), label="MD", slices=3)
low, high = robust_limits(np.asarray(md.get_array()))  # of a colour bar
figure = plot_mask(np.asarray(b0.get_array()), head.brain_mask, b0.get_affine())

# %% arcuate.figures.plotting.plot_residuals, arcuate.figures.plotting.plot_histograms, arcuate.figures.plotting.html_of
first = {"b=1000": np.asarray(dwi.volume.get_array())[..., 3]}
after = {"b=1000": np.asarray(denoising.dwi.volume.get_array())[..., 3]}
figure = plot_residuals(first, after, dwi.volume.get_affine())
figure = plot_histograms({"FA": np.asarray(fa.get_array())[head.brain_mask]})
html = html_of({"voxels": 400}, figure, "histogram of FA")

# %% arcuate.figures.views.View, arcuate.figures.views.Canonical, arcuate.figures.views.flat_plane
frame = Canonical(fa.get_affine())
slice_ = View("coronal", 14).take(frame.reorder(np.asarray(fa.get_array())))
assert flat_plane((104, 104, 2)) == "axial"

# %% arcuate.figures.render_fods, arcuate.figures.render_glyphs, arcuate.figures.render_response
from arcuate.numerics.sphere import get_sphere

region = ((6, 14), (8, 16))
picture = render_fods(white, path="fods.png", mask=mask, background=fa, size=(300, 300), region=region, paper="white")
sphere = get_sphere("symmetric362")
odf = np.ones((2, 2, 1, len(sphere.vertices)), np.float32)
picture = render_glyphs(odf, sphere=sphere, size=(100, 100))
picture = render_response(response, size=(300, 100))

# %% arcuate.figures.render_peaks, arcuate.figures.render_glyphs_and_peaks
vectors, values = np.asarray(directions.get_array()), np.asarray(amplitudes.get_array())
picture = render_peaks(vectors, values, size=(300, 300), affine=fa.get_affine())
picture = render_glyphs_and_peaks(odf, vectors[:2, :2, :1], values[:2, :2, :1], sphere=sphere, size=(100, 100))

# %% not run: arcuate.figures.render_tracts
picture = render_tracts(tracts, names=["CST_left", "CST_right"], path="tracts.png")  # extra [viz]
