"""Curvature of a loss: Hessian-vector products, eigenspectra, spectral densities.

This package imports torch and numpy alone (`lanczos` SciPy too, when it is called): it can be lifted out.
"""

from pipeline.curvature.adapters import DenseOperator, as_operator
from pipeline.curvature.density import SpectralDensity, spectral_density
from pipeline.curvature.lanczos import lanczos
from pipeline.curvature.operator import HessianOperator, SymmetricOperator
from pipeline.curvature.power import deflated_power_iteration
from pipeline.curvature.published import published_power_iteration
from pipeline.curvature.result import EigenResult

__all__ = [
    "DenseOperator",
    "EigenResult",
    "HessianOperator",
    "SpectralDensity",
    "SymmetricOperator",
    "as_operator",
    "deflated_power_iteration",
    "lanczos",
    "published_power_iteration",
    "spectral_density",
]
