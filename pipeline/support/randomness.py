"""One SeedSequence a run, spawned by purpose, so that nothing random depends on anything else that is random."""

from __future__ import annotations

from typing import Literal

import numpy as np

Purpose = Literal["weights", "order", "dropout", "memory", "curvature", "evaluation"]
_PURPOSES: tuple[Purpose, ...] = ("weights", "order", "dropout", "memory", "curvature", "evaluation")


def seed_for(seed: int, purpose: Purpose) -> np.random.SeedSequence:
    """The seed of one purpose of the run `seed`. New purposes go to the end of the list: the others keep theirs."""
    return np.random.SeedSequence(seed, spawn_key=(_PURPOSES.index(purpose),))


def generator(seed: int, purpose: Purpose) -> np.random.Generator:
    """NumPy's generator for one purpose."""
    return np.random.default_rng(seed_for(seed, purpose))


def torch_seed(seed: int, purpose: Purpose) -> int:
    """A 63-bit seed for torch.manual_seed."""
    return int(seed_for(seed, purpose).generate_state(1, np.uint64)[0] >> 1)
