"""LwF: learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282)."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.strategies import LwFSettings
from pipeline.models import TaskModel, TaskTensors, evaluating
from pipeline.models.heads import MASKED, holding_masked
from pipeline.strategies.batch import Batch, Stream, cross_entropy_of
from pipeline.strategies.strategy import Strategy


class LwF(Strategy):
    """The new images shall give the outputs of earlier tasks the values that the network gave them before the task.

        L + lambda sum_k mean_x [ - sum_{o of task k} p_o(x) log q_o(x) ]     k the earlier tasks     (LwF, eqs. 2 and 3)
        p = softmax(z_old / T),  q = softmax(z / T)                           z the logits of task k

    x are the images of the batch, z_old the logits of the network as it was after the task learnt last, in eval mode, and
    T is `temperature`. Where all tasks share the outputs, there is one sum over all outputs of earlier tasks together. The
    earlier tasks are all that ended before, but the present one where it is visited again. No past example is kept, but a
    copy of the network is. A step takes one more forward pass, however many tasks there are.

    Args:
        plan: The settings.
        stream: What the strategy needs to know of the stream.

    Attributes:
        teacher: Parameters and buffers of the network after the task learnt last, by name, a tied weight by its first
            one; empty before the first task ends.
        learnt: The numbers of all tasks that ended so far, in ascending order.
        hidden: (k, outputs) bool, for each group of their outputs True at all others; (0, 0) before the first task ends.
    """

    plan: LwFSettings

    def __init__(self, plan: LwFSettings, stream: Stream) -> None:
        super().__init__(plan, stream)
        self.teacher: dict[str, Tensor] = {}
        self.learnt: list[int] = []
        self.hidden = torch.zeros((0, 0), dtype=torch.bool)
        # On a second visit, the number of the task and what `hidden` is without it; made anew by a run that resumes.
        self._again: tuple[int, Tensor] | None = None

    def backward(self, model: TaskModel, batch: Batch) -> Tensor:
        """Leave the gradient of the batch's loss and of the distillation in `.grad`.

        Args:
            model: The network.
            batch: The examples of this step.

        Returns:
            The loss of the batch, without the distillation, detached.
        """
        images = model.scaled(batch.images)
        logits = model.network(images)
        loss = cross_entropy_of(model.masked(logits, batch.task), batch)
        total = loss
        hidden = self._hidden_on(batch.task, model)
        if len(hidden):
            distance = distillation(logits, self._old_logits(model, images), hidden, self.plan.temperature)
            total = loss + self.plan.lwf_lambda * distance
        torch.autograd.backward(total)
        return loss.detach()

    @torch.no_grad()
    def _old_logits(self, model: TaskModel, images: Tensor) -> Tensor:
        """What the network gave before the task: the same modules with the weights and statistics of the teacher."""
        with evaluating(model):
            old: Tensor = torch.func.functional_call(model.network, self.teacher, (images,))
        return old

    def end_task(self, model: TaskModel, task: TaskTensors) -> None:
        """Keep a copy of the network as the teacher, of the outputs of this task too.

        Args:
            model: The network.
            task: The training data of the task.
        """
        # These name a tied weight once, as `functional_call` wants it; the state dict has each of its names.
        named = (*model.network.named_parameters(), *model.network.named_buffers())
        self.teacher = {name: tensor.detach().clone() for name, tensor in named}
        self.learnt = sorted({*self.learnt, task.task})
        self.hidden = self._hidden_but(self.learnt, model).to(task.labels.device)
        self._again = None

    def _hidden_on(self, task: int | Tensor, model: TaskModel) -> Tensor:
        """`hidden` for a batch of a task: without the task itself, if it was learnt before."""
        if isinstance(task, Tensor) or task not in self.learnt:
            return self.hidden
        if self._again is None or self._again[0] != task:
            others = [number for number in self.learnt if number != task]
            self._again = task, self._hidden_but(others, model).to(self.hidden.device)
        return self._again[1]

    def _hidden_but(self, tasks: list[int], model: TaskModel) -> Tensor:
        """(k, outputs) bool: for each task, or for all together if they share the outputs, True at all other outputs."""
        rows = [self.stream.classes[task] for task in tasks]
        outputs = 1 + max(max(row) for row in self.stream.classes)
        groups = [sorted({output for row in rows for output in row})] if model.mask is None and rows else rows
        hidden = torch.ones((len(groups), outputs), dtype=torch.bool)
        for row, group in zip(hidden, groups, strict=True):
            row[group] = False
        return hidden

    def state_dict(self) -> dict[str, Any]:
        """The teacher, the tasks that it has learnt, and their outputs."""
        return {"teacher": self.teacher, "hidden": self.hidden, "learnt": list(self.learnt)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.teacher = {name: tensor.clone() for name, tensor in state["teacher"].items()}
        self.hidden = state["hidden"].clone()
        # States of earlier versions lack it; there the tasks went 0, 1, 2, ..., and the outputs of those learnt are shown.
        shown = set((~self.hidden).any(dim=0).nonzero().flatten().tolist())
        first = takewhile(lambda task: shown.issuperset(self.stream.classes[task]), range(len(self.stream.classes)))
        self.learnt = list(state.get("learnt", first))
        self._again = None


def distillation(logits: Tensor, old: Tensor, hidden: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between old and new probabilities of each group of outputs, at a temperature, in nats.

        sum_k mean_x [ - sum_{o in group k} p_o log q_o ]     p = softmax(old / T),  q = softmax(logits / T) in the group

    It is least, and its gradient is zero, where the new probabilities are the old ones.

    Args:
        logits: (n, outputs), with a graph.
        old: (n, outputs), without.
        hidden: (k, outputs) bool, for each group True at the outputs that do not belong to it.
        temperature: T, above 0.

    Returns:
        A scalar with a graph.
    """
    old, logits = holding_masked(old), holding_masked(logits)
    probabilities = F.softmax(old[:, None].masked_fill(hidden, MASKED) / temperature, dim=2)
    logs = F.log_softmax(logits[:, None].masked_fill(hidden, MASKED) / temperature, dim=2)
    return -(probabilities * logs).sum() / len(logits)
