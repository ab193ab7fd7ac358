"""A multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them, and dropout after each ReLU (Stable SGD, section 5).

    The initial weights are PyTorch's.

    Args:
        inputs: Number of values per image.
        hidden: Widths of the hidden layers.
        outputs: Number of outputs.
        dropout: Probability of dropout; with 0 there are no dropout layers.

    Attributes:
        layers: All layers in order, by name ("flatten1", "linear1", "relu1", ...).
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
        # Numbered by kind, so that dropout layers do not change the names of the weights in a checkpoint.
        self.layers = nn.ModuleDict({_name(index, layers): layer for index, layer in enumerate(layers)})

    def forward(self, images: Tensor) -> Tensor:
        """Logits.

        Args:
            images: (n, ...) floating point; flattened here.

        Returns:
            (n, outputs).
        """
        for layer in self.layers.values():
            images = layer(images)
        return images


def _name(index: int, layers: Sequence[nn.Module]) -> str:
    """The name of a layer: its class and its number among the layers of that class, such as "linear2"."""
    kind = type(layers[index]).__name__.lower()
    return f"{kind}{sum(isinstance(layer, type(layers[index])) for layer in layers[: index + 1])}"
