"""Volumes, their voxels and axes, and the scan as steps see it: in memory or on disk, read when asked for."""
