"""torchvision's ResNet-18, from random weights or from those trained on ImageNet."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.models.checkpoints import check_weights
from pipeline.support.errors import UserError


def resnet18(outputs: int, dropout: float = 0.0, weights: Path | None = None) -> nn.Module:
    """ResNet-18 (He et al. 2016) with `outputs` outputs; its last layer is new, with PyTorch's random weights.

    dropout: probability, before the last layer. weights: the file that the download stage wrote, for all other layers and
    their running statistics; None: torchvision's random initial weights. Raises UserError where the file is missing or
    damaged.

    forward: images (n, 3, height, width) float -> logits (n, outputs).
    """
    from torchvision.models import resnet18 as build  # costs seconds

    network: nn.Module = build(weights=None)
    if weights is not None:
        try:
            loaded = load_file(weights)
            check_weights(loaded, network.state_dict())
        except (FileNotFoundError, SafetensorError, ValueError) as error:
            raise UserError(f"{weights}: missing or damaged ({error}); run 'dvc repro -f download'") from None
        missing, unexpected = network.load_state_dict(loaded, strict=False)
        if unexpected or any(not name.startswith("fc.") for name in missing):
            raise UserError(f"{weights}: not the weights of a ResNet-18; run 'dvc repro -f download'")
    network.fc = _Head(512, outputs, dropout)
    return network


class _Head(nn.Linear):
    """The last layer, with dropout before it; its weights have the same names with and without."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__(inputs, outputs)
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        """Logits."""
        return super().forward(F.dropout(features, self.dropout, self.training))
