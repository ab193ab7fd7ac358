"""Independent random streams of a run: its seed is spawned by purpose, so that no stream depends on another."""

from __future__ import annotations

from typing import Literal

import numpy as np

Purpose = Literal["weights", "order", "dropout", "memory", "curvature", "evaluation", "classes"]
_PURPOSES: tuple[Purpose, ...] = ("weights", "order", "dropout", "memory", "curvature", "evaluation", "classes")


def seed_for(seed: int, purpose: Purpose) -> np.random.SeedSequence:
    """Derive the seed sequence of one purpose from the seed of a run.

    It depends on the position of the purpose in `_PURPOSES`, so new purposes must be appended at the end.
    """
    return np.random.SeedSequence(seed, spawn_key=(_PURPOSES.index(purpose),))


def generator(seed: int, purpose: Purpose) -> np.random.Generator:
    """Create the NumPy generator for one purpose of a run."""
    return np.random.default_rng(seed_for(seed, purpose))


def torch_seed(seed: int, purpose: Purpose) -> int:
    """Derive a 63-bit seed for `torch.manual_seed` for one purpose of a run."""
    return int(seed_for(seed, purpose).generate_state(1, np.uint64)[0] >> 1)
