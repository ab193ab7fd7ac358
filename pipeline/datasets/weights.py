"""Pretrained initial weights, fetched together with the data so that training needs no network access.

data/weights/  manifest.json  (resnet18.safetensors if the benchmark's network starts from ImageNet weights)
"""

from __future__ import annotations

import pickle
from pathlib import Path

from pipeline.config.networks import Weights
from pipeline.datasets import local
from pipeline.datasets.local import OfficialFile
from pipeline.handover.documents import write_document
from pipeline.handover.manifests import WeightsManifest
from pipeline.support.errors import UserError

#: torchvision's ResNet18_Weights.IMAGENET1K_V1. The second name is where torch.hub keeps it below TORCH_HOME.
RESNET18 = OfficialFile(
    ("https://download.pytorch.org/models/resnet18-f37072fd.pth",),
    "sha256:f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ("resnet18-f37072fd.pth", "hub/checkpoints/resnet18-f37072fd.pth"),
    repacked=False,
)
FILE = "resnet18.safetensors"


def write_weights(folder: Path, weights: Weights) -> None:
    """Write a manifest into an empty folder and, unless the weights are random, the file of weights.

    Args:
        folder: An existing, empty folder.
        weights: The initial weights that the plan names.

    Raises:
        UserError: if the weights cannot be fetched or read, or have the wrong checksum.
    """
    source = fetch_weights(folder, weights)
    write_document(WeightsManifest, {"weights": weights, "source": source}, folder / "manifest.json")


def fetch_weights(folder: Path, weights: Weights) -> str | None:
    """Fetch initial weights and write them into a folder as a safetensors file.

    Args:
        folder: An existing folder.
        weights: The initial weights that the plan names.

    Returns:
        The checksum of the published file; None, and no file, if the weights are random.

    Raises:
        UserError: if the weights cannot be fetched or read, or have the wrong checksum.
    """
    if weights == "random":
        return None
    paths = local.local_files([RESNET18]) or local.fetched_files("resnet18", [RESNET18], folders=False)
    _convert(paths[0], folder / FILE)
    return RESNET18.checksum


def _convert(path: Path, to: Path) -> None:
    """Convert a torchvision checkpoint to safetensors, without the last layer, whose 1,000 classes are ImageNet's."""
    import torch
    from safetensors.torch import save_file

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)  # tensors and plain containers only
        kept = {name: value.contiguous() for name, value in loaded.items() if not name.startswith("fc.")}
    except (RuntimeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a checkpoint of torchvision's ResNet-18 ({error}); fetch it again") from None
    save_file(kept, to)
