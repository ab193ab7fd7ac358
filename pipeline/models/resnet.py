"""The reduced ResNet-18 of the continual-learning experiments on CIFAR-100 and miniImageNet.

It is narrower than ResNet-18 (20 channels instead of 64), and there are two of them, by layout:

- published: the code of Stable SGD (arXiv 2006.06958) and of TAG (arXiv 2105.05155) has one convolution per block, with
  the normalisation after the ReLU. With 100 outputs at 32x32 pixels it has 496,680 parameters in 48 tensors.
- standard: the experiments of GEM (arXiv 1706.08840) and A-GEM (arXiv 1812.00420) have the usual two convolutions per
  block, with the normalisation before the ReLU. With 100 outputs at 32x32 pixels it has 1,109,240 parameters in 62
  tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

#: Channels and stride of the four stages of two blocks each; only the first block of a stage has the stride.
STAGES = ((20, 1), (40, 2), (80, 2), (160, 2))
#: Side of the windows of the final average pooling, in pixels of the last stage's output.
POOL = 4
#: What is added to the variance in the batch normalisation of the standard layout (A-GEM's code; PyTorch's is 1e-5).
STANDARD_EPS = 1e-3


class Block(nn.Module):
    """A residual block with one convolution.

        conv 3x3 -> ReLU -> BN -> dropout -> add the shortcut -> ReLU -> BN -> dropout

    The shortcut is the identity, or a 1x1 convolution where the shape changes.

    Args:
        inputs: Number of channels that enter.
        outputs: Number of channels that leave.
        stride: Of the convolution, and of the shortcut where the shape changes.
        dropout: Probability of dropout.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(outputs)
        same_shape = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same_shape else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.outer_norm = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """The features for the next block.

        Args:
            features: (n, inputs, height, width).

        Returns:
            (n, outputs, ceil(height / stride), ceil(width / stride)).
        """
        inner = self.dropout(self.inner_norm(F.relu(self.conv(features))))
        outer: Tensor = self.dropout(self.outer_norm(F.relu(inner + self.shortcut(features))))
        return outer


class StandardBlock(nn.Module):
    """A residual block with two convolutions in the usual order (He et al. 2016).

        conv 3x3 -> BN -> ReLU -> dropout -> conv 3x3 -> BN -> add the shortcut -> ReLU

    The shortcut is the identity, or a 1x1 convolution with BN where the shape changes. Dropout is where Zagoruyko and
    Komodakis (2016) have it.

    Args:
        inputs: Number of channels that enter.
        outputs: Number of channels that leave.
        stride: Of the first convolution, and of the shortcut where the shape changes.
        dropout: Probability of dropout.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs, eps=STANDARD_EPS)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs, eps=STANDARD_EPS)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs, eps=STANDARD_EPS))
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """The features for the next block.

        Args:
            features: (n, inputs, height, width).

        Returns:
            (n, outputs, ceil(height / stride), ceil(width / stride)).
        """
        inner = self.dropout(F.relu(self.norm1(self.conv1(features))))
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(features))


class ReducedResNet18(nn.Module):
    """A first convolution, four stages of two blocks each, 4x4 average pooling and one linear layer.

    The initial weights of the published layout are PyTorch's. In the standard one those of a convolution are uniform
    within +-1 / sqrt(side of the kernel * channels in), as in A-GEM's code, which is wider than PyTorch's by the square
    root of the side; the linear layer keeps PyTorch's, whose weights and bias are both uniform within +-1 /
    sqrt(inputs), as they are there. No convolution has a bias, which the normalisation would cancel.

    Args:
        outputs: Number of outputs, for the classes of all tasks together.
        dropout: Probability of dropout; see `Block` and `StandardBlock` for where it is.
        channels: Number of channels of the images.
        image_size: Height and width of the images in pixels, which give the number of inputs of the linear layer (160
            at 32x32, 640 at 84x84).
        layout: "published", of `Block`, or "standard", of `StandardBlock`.

    Raises:
        ValueError: if the height or width is below 25 pixels, so that nothing is left to pool.
    """

    def __init__(
        self,
        outputs: int,
        dropout: float = 0.0,
        channels: int = 3,
        image_size: Sequence[int] = (32, 32),
        layout: Literal["published", "standard"] = "published",
    ) -> None:
        super().__init__()
        standard = layout == "standard"
        block = StandardBlock if standard else Block
        width = STAGES[0][0]
        height_left, width_left = image_size
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=STANDARD_EPS) if standard else nn.BatchNorm2d(width)
        self.blocks = nn.Sequential()
        for size, stride in STAGES:
            self.blocks.append(block(width, size, stride, dropout))
            self.blocks.append(block(size, size, 1, dropout))
            width, height_left, width_left = size, -(-height_left // stride), -(-width_left // stride)
        if min(height_left, width_left) < POOL:
            shape = "x".join(map(str, image_size))
            raise ValueError(f"the reduced ResNet-18 needs images of at least 25x25 pixels, not {shape}")
        self.head = nn.Linear(width * (height_left // POOL) * (width_left // POOL), outputs)
        if standard:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    bound = 1 / math.sqrt(module.kernel_size[0] * module.in_channels)
                    nn.init.uniform_(module.weight, -bound, bound)

    def forward(self, images: Tensor) -> Tensor:
        """Logits.

        Args:
            images: (n, channels, height, width) floating point.

        Returns:
            (n, outputs).
        """
        features: Tensor = self.blocks(F.relu(self.norm(self.conv(images))))
        logits: Tensor = self.head(F.avg_pool2d(features, POOL).flatten(1))
        return logits
