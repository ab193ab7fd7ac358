"""torchvision's ResNet-18, with random weights or with weights trained on ImageNet."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.models.checkpoints import check_weights
from pipeline.support.errors import UserError


def resnet18(outputs: int, dropout: float = 0.0, weights: Path | None = None) -> nn.Module:
    """ResNet-18 (He et al. 2016) with a new last layer of `outputs` outputs.

    The last layer has PyTorch's random initial weights. The network maps images, (n, 3, height, width) floating point,
    to logits, (n, outputs).

    Args:
        outputs: Number of outputs.
        dropout: Probability of dropout before the last layer.
        weights: The file that the download stage wrote, with the weights and running statistics of all other layers.
            None: torchvision's random initial weights.

    Raises:
        UserError: if the file is missing, damaged or not of a ResNet-18.
    """
    from torchvision.models import resnet18 as build  # imported here because it takes seconds

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
    """The last layer, with dropout before it. The names of its weights do not depend on whether there is dropout."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__(inputs, outputs)
        self.dropout = nn.Dropout(dropout)  # a module, which evaluation with `dropout_at_test` finds

    def forward(self, features: Tensor) -> Tensor:
        """Logits."""
        return super().forward(self.dropout(features))
