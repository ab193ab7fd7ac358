from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipeline.curvature import spectral_density
from tests.curvature import SPECTRA, with_spectrum


@pytest.mark.parametrize("name", SPECTRA)
def test_the_quadrature_has_the_moments_of_the_spectrum_as_each_probe_sees_it(name: str) -> None:
    operator = with_spectrum(SPECTRA[name])
    density = spectral_density(operator, probes=3, steps=6, seed=5)
    assert torch.allclose(density.weights.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert density.matvecs == operator.count == 18
    scale = float(operator.matrix.abs().max()) or 1.0
    generator = torch.Generator().manual_seed(5)
    for probe in range(3):
        v = F.normalize(torch.randn(60, generator=generator, dtype=torch.float64), dim=0)
        power = v.clone()
        for moment in range(1, 12):  # m steps are exact for polynomials of degree 2 m - 1
            power = operator.matrix @ power / scale
            found = (density.weights[probe] * (density.nodes[probe] / scale) ** moment).sum()
            assert float(found) == pytest.approx(float(v @ power), rel=1e-8, abs=1e-10)


def test_float32_does_not_repeat_the_largest_eigenvalue() -> None:
    operator = with_spectrum([10.0, *[0.9**i for i in range(50)]], dtype=torch.float32)
    density = spectral_density(operator, probes=1, steps=50)
    assert int((density.nodes > 9.0).sum()) == 1


def test_a_run_that_has_seen_all_stops_with_weights_of_zero() -> None:
    density = spectral_density(with_spectrum([3.0, 1.0]), probes=2, steps=10)
    assert int((density.weights > 1e-12).sum(dim=1).max()) <= 3  # 3, 1 and 0
    assert torch.allclose(density.weights.sum(dim=1), torch.ones(2, dtype=torch.float64))


def test_many_probes_see_the_spectrum_evenly() -> None:
    density = spectral_density(with_spectrum([4.0] * 30 + [-2.0] * 15), probes=200, steps=3)
    share = [(density.weights * ((density.nodes - value).abs() < 0.1)).sum(dim=1).mean() for value in (4.0, -2.0, 0.0)]
    assert [float(value) for value in share] == pytest.approx([0.5, 0.25, 0.25], abs=0.02)


def test_a_bound_on_memory_changes_nothing() -> None:
    operator = with_spectrum(SPECTRA["gaps of five percent"])
    told: list[int] = []
    whole = spectral_density(operator, probes=5, steps=8)
    one_by_one = spectral_density(operator, probes=5, steps=8, memory=1, report=told.append)
    assert torch.allclose(whole.nodes, one_by_one.nodes)
    assert told == list(range(1, 41))


def test_more_steps_than_dimensions_are_cut() -> None:
    assert spectral_density(with_spectrum([1.0, 2.0], size=2), probes=1, steps=9).nodes.shape == (1, 2)
    with pytest.raises(ValueError, match="probes and steps must be at least 1"):
        spectral_density(with_spectrum([1.0]), probes=0, steps=9)
