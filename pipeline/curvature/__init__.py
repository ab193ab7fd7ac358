"""Curvature of a loss: Hessian-vector products, the largest eigenvalues, and spectral densities.

    H = d^2 L / d theta^2                  the Hessian, known only by its products H v (Pearlmutter 1994)
    H v = lambda v                         an eigenpair, judged by its relative residual |H v - lambda v| / |lambda|
    density(x) = mean over probes of sum_j weight_j delta(x - node_j)     (stochastic Lanczos quadrature)

An example that runs as it stands:

    import torch
    from torch import nn
    from pipeline.curvature import HessianOperator, lanczos, spectral_density

    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).eval()  # dropout would make the Hessian random
    inputs, labels = torch.randn(100, 5), torch.randint(3, (100,))

    def loss(inputs, labels):
        return nn.functional.cross_entropy(model(inputs), labels)

    operator = HessianOperator(loss, model.parameters(), [(inputs, labels)])
    result = lanczos(operator, k=3)
    print(result.eigenvalues, result.relative_residuals, result.converged)
    density = spectral_density(operator, probes=4, steps=20)
    print(density.nodes.shape, density.weights.sum(dim=1))

The public members are, first, operators:

- `HessianOperator`: the Hessian of a mean loss over batches, as a linear operator; over one layer's parameters, the
  block of that layer.
- `GaussNewtonOperator`: the generalised Gauss-Newton matrix of the same loss.
- `FisherOperator`: its empirical Fisher information.
- `DenseOperator`: a symmetric matrix as an operator.
- `SymmetricOperator`: the interface of an operator: shape, dtype, device and matvec.
- `as_operator`: turns a matrix, a SciPy LinearOperator or any object with shape and matvec into an operator.

Second, methods, which accept whatever `as_operator` does:

- `lanczos`: the k largest eigenpairs by ARPACK, which usually needs fewer products than the next.
- `deflated_power_iteration`: the k largest eigenpairs by a power iteration with Rayleigh-Ritz steps.
- `published_power_iteration`: the procedure of the Stable SGD paper's code, for comparison.
- `spectral_density`: the whole spectrum, by stochastic Lanczos quadrature.
- `hutchinson`: trace and Frobenius norm from random vectors, with standard errors.
- `density_moments`: the same from a spectral density, without a further product.

Third, results:

- `EigenResult`: eigenvalues and eigenvectors with their residuals.
- `SpectralDensity`: nodes and weights of the quadrature.
- `Moments`: trace and Frobenius norm with their standard errors.

The package imports only torch and numpy (`lanczos` also SciPy, when it is called), so it can be copied into another
project.
"""

from .adapters import DenseOperator, as_operator
from .density import SpectralDensity, spectral_density
from .gauss_newton import FisherOperator, GaussNewtonOperator
from .lanczos import lanczos
from .operator import HessianOperator, SymmetricOperator
from .power import deflated_power_iteration
from .published import published_power_iteration
from .result import EigenResult
from .trace import Moments, density_moments, hutchinson

__all__ = [
    "DenseOperator",
    "EigenResult",
    "FisherOperator",
    "GaussNewtonOperator",
    "HessianOperator",
    "Moments",
    "SpectralDensity",
    "SymmetricOperator",
    "as_operator",
    "deflated_power_iteration",
    "density_moments",
    "hutchinson",
    "lanczos",
    "published_power_iteration",
    "spectral_density",
]
