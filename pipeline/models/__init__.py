"""Networks, their inputs and outputs, and their checkpoints.

    logits = model(images, task)     (n, outputs), those that the task may not use set to -1e11

Public members:

- `build_model`: a network from the model section of a plan.
- `build_model_for`: the same for the tasks of a stream.
- `TaskModel`: a network with the scale of its pixels and the mask of each task's outputs.
- `outputs_of_tasks`: for each task, the outputs of the network that stand for its classes.
- `load_task`: one split of a task as tensors on the training device.
- `TaskTensors`: what `load_task` returns.
- `evaluating`: a `with` block in which a network is in eval mode.
- `save_checkpoint`, `load_checkpoint`: all weights of a network to and from a safetensors file.
"""

from pipeline.models.build import build_model, build_model_for
from pipeline.models.checkpoints import load_checkpoint, save_checkpoint
from pipeline.models.heads import TaskModel, outputs_of_tasks
from pipeline.models.inputs import TaskTensors, load_task
from pipeline.models.modes import evaluating

__all__ = [
    "TaskModel",
    "TaskTensors",
    "build_model",
    "build_model_for",
    "evaluating",
    "load_checkpoint",
    "load_task",
    "outputs_of_tasks",
    "save_checkpoint",
]
