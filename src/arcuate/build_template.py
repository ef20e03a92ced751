"""kwneuro's name for :mod:`arcuate.templates`: scripts that come from there keep their imports."""

from arcuate.templates import average_volumes, build_multi_metric_template, build_template

__all__ = ["average_volumes", "build_multi_metric_template", "build_template"]
