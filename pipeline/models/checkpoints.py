"""Checkpoints: the weights of a network in safetensors files, so that no pickle is ever loaded."""

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
    """Write all weights of a network, and the running statistics of its batch normalisation, to a file.

    A tied weight is written once, under its first name: safetensors refuses tensors that share memory.

    Args:
        model: The network.
        path: A safetensors file, which is created or replaced.

    Raises:
        OSError: if the file cannot be written.
    """
    try:
        state, first_names = model.state_dict(), _first_names(model)
        save_file({name: tensor for name, tensor in state.items() if first_names[name] == name}, path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def load_checkpoint(model: TaskModel, path: Path, device: torch.device) -> None:
    """Set all weights of a network, and the running statistics of its batch normalisation, to those of a file.

    Args:
        model: The network to change.
        path: A file that `save_checkpoint` wrote.
        device: The device of the network, to which the tensors are read.

    Raises:
        UserError: if the file is missing, damaged or of another network, or if it contains NaN or infinity.
    """
    try:
        state = load_file(path, device=str(device))
        check_weights(state, model.state_dict())
        for name, first in _first_names(model).items():
            if first in state:
                state.setdefault(name, state[first])
        model.load_state_dict(state)
    except (FileNotFoundError, SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: missing, damaged or of another network ({error}); run 'dvc repro' again") from None


def _first_names(model: TaskModel) -> dict[str, str]:
    """For each name of a network's state the first name of the same tensor, another one where weights are tied."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in model.state_dict(keep_vars=True).items()}


def check_weights(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Check loaded tensors against those of a network, before PyTorch would silently convert them.

    Args:
        state: The loaded tensors, by name.
        wanted: The network's tensors, by name.

    Raises:
        ValueError: if a tensor has another dtype or shape than the network's tensor of that name, or if it contains NaN
            or infinity.
    """
    for name, tensor in state.items():
        if name in wanted and (tensor.dtype != wanted[name].dtype or tensor.shape != wanted[name].shape):
            raise ValueError(f"{name} is {tensor.dtype} of {tuple(tensor.shape)}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds NaN or infinity")
