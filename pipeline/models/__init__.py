"""Networks, and which of their outputs a task may use."""

from pipeline.models.build import build_model
from pipeline.models.checkpoints import load_checkpoint, save_checkpoint
from pipeline.models.heads import TaskModel, outputs_of_tasks
from pipeline.models.inputs import TaskTensors, load_task

__all__ = [
    "TaskModel",
    "TaskTensors",
    "build_model",
    "load_checkpoint",
    "load_task",
    "outputs_of_tasks",
    "save_checkpoint",
]
