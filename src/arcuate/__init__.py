"""arcuate: diffusion MRI, from the scan to maps of microstructure and fibre orientation."""

__version__ = "0.1.0"
