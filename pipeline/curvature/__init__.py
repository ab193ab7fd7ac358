"""Curvature of a loss: Hessian-vector products and eigenspectra.

This package imports torch alone: it can be lifted out.
"""

from pipeline.curvature.operator import HessianOperator, SymmetricOperator
from pipeline.curvature.power import deflated_power_iteration
from pipeline.curvature.result import EigenResult

__all__ = ["EigenResult", "HessianOperator", "SymmetricOperator", "deflated_power_iteration"]
