"""Models of the signal: rows of voxels in, arrays out; knows no images."""
