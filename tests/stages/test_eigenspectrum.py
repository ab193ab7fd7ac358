from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.clones import Clone


def test_saved_eigenvectors_are_rows_beside_their_values_in_the_precision_of_a_polish(clone: Clone) -> None:
    clone.edit("params.yaml", "save_vectors: false", "save_vectors: true")
    clone.edit("params.yaml", "polish: false", "polish: true")
    clone.stage("eigenspectrum", "naive", "1")
    spectra = json.loads((clone.folder / "metrics/runs/naive/1.eigenspectrum.json").read_text(encoding="utf-8"))
    assert spectra["dtype"] == "float64"
    for task, spectrum in enumerate(spectra["tasks"], start=1):
        held = load_file(clone.folder / f"eigenvectors/naive/1/task-{task:02d}.safetensors")
        vectors = held["eigenvectors"]
        assert vectors.shape == (3, spectrum["parameters"])
        assert vectors.dtype == np.float64
        assert held["eigenvalues"].tolist() == spectrum["eigenvalues"]
        assert vectors @ vectors.T == pytest.approx(np.eye(3), abs=1e-6)
