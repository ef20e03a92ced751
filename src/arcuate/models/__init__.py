"""Models of the signal: rows of voxels in, arrays out; knows no images."""

import arcuate.numerics  # noqa: F401  # settles the place of kernels before one is decorated
