"""Update rules by name: TAG, RMSprop, and PyTorch's own SGD, Adagrad and Adam.

On a CPU each gives the same bits on every processor, if the gradients do. This package imports torch and numpy alone: it can
be lifted out.
"""

from pipeline.optimizers.build import build_optimizer
from pipeline.optimizers.rmsprop import RMSprop
from pipeline.optimizers.tag import TAG
from pipeline.optimizers.tasks import begin_task

__all__ = ["TAG", "RMSprop", "begin_task", "build_optimizer"]
