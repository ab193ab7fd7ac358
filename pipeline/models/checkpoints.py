"""Checkpoints: the weights of a network as safetensors, so that no pickle is ever loaded."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.models.heads import TaskModel
from pipeline.support.errors import UserError


def save_checkpoint(model: TaskModel, path: Path) -> None:
    """Write all weights. Raises OSError where the disk refuses."""
    try:
        save_file(model.state_dict(), path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def load_checkpoint(model: TaskModel, path: Path, device: torch.device) -> None:
    """Set all weights. Raises UserError for a file that is missing, damaged, of another network or not finite."""
    try:
        state = load_file(path, device=str(device))
        check_weights(state, model.state_dict())
        model.load_state_dict(state)
    except (FileNotFoundError, SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: missing, damaged or of another network ({error}); run 'dvc repro' again") from None


def check_weights(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """ValueError where a tensor has another type or shape than the network's (PyTorch would convert it), or a number that is
    NaN or infinite."""
    for name, tensor in state.items():
        if name in wanted and (tensor.dtype != wanted[name].dtype or tensor.shape != wanted[name].shape):
            raise ValueError(f"{name} is {tensor.dtype} of {tuple(tensor.shape)}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds NaN or infinity")
