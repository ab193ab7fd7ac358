"""The project's own configuration, which many tests ask for."""

from __future__ import annotations

from functools import cache

from pipeline.config import Configuration, read_configuration
from tests.paths import ROOT


@cache
def project() -> Configuration:
    """What params.yaml, benchmarks.yaml and methods.yaml say, read once: it takes a tenth of a second."""
    return read_configuration(ROOT)
