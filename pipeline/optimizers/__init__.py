"""Update rules by name: TAG, and PyTorch's own SGD, RMSprop, Adagrad and Adam.

This package imports torch alone: it can be lifted out.
"""

from pipeline.optimizers.build import build_optimizer
from pipeline.optimizers.tag import TAG

__all__ = ["TAG", "build_optimizer"]
