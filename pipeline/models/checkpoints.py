"""Checkpoints: the weights of a network as safetensors, so that no pickle is ever loaded."""

from __future__ import annotations

import errno
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline.errors import UserError
from pipeline.models.heads import TaskModel


def save_checkpoint(model: TaskModel, path: Path) -> None:
    """Write all weights. Raises OSError where the disk refuses."""
    try:
        save_file(model.state_dict(), path)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def load_checkpoint(model: TaskModel, path: Path, device: torch.device) -> None:
    """Set all weights. Raises UserError for a file that is missing, damaged or of another network."""
    try:
        model.load_state_dict(load_file(path, device=str(device)))
    except (FileNotFoundError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: missing, damaged or of another network ({error}); run 'dvc repro' again") from None
