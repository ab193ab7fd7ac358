"""A multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU, and dropout after each ReLU (Stable SGD, section 5). PyTorch's initial weights.

    forward: images (n, ...) float, flattened -> logits (n, outputs).
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        width = inputs
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
            width = size
        layers.append(nn.Linear(width, outputs))
        # Named, so that a checkpoint reads the same with and without dropout.
        self.layers = nn.ModuleDict({_name(index, layers): layer for index, layer in enumerate(layers)})

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        for layer in self.layers.values():
            images = layer(images)
        return images


def _name(index: int, layers: Sequence[nn.Module]) -> str:
    kind = type(layers[index]).__name__.lower()
    return f"{kind}{sum(isinstance(layer, type(layers[index])) for layer in layers[: index + 1])}"
