"""The gradients of single examples, of many examples in one pass through the network.

Automatic differentiation gives the sum of the gradients of a batch, which is of no use where each is needed by itself. For a
layer whose output is linear in its parameters, the gradient of each example follows from the layer's input and from the
gradient of its output, which one pass forward and one backward give for the whole batch (Goodfellow 2015, arXiv
1510.01799).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Most numbers that the gradients of one layer may hold in memory at a time, and most examples in a pass.
BUDGET, EXAMPLES = 2**24, 64

#: How far sums of the gradients of single examples may be from the gradient of the sum, relative to the sum of their
#: absolute values, and by how many roundings: far more than rounding makes, far less than a use of a weight.
TOLERANCE, ROUNDINGS = 1e-2, 16


def sums_of_absolute_gradients(
    model: nn.Module,
    parameters: list[nn.Parameter],
    value: Callable[[Tensor], Tensor],
    images: Tensor,
    together: int = 1,
) -> list[Tensor]:
    """Add up the absolute gradients of single examples, or of groups of them.

        sum over groups | d sum_{x in the group} value(x) / d theta |

    Linear layers, convolutions in two dimensions and batch normalisation take many examples at a time. A network with
    parameters in any other layer, shared between layers or computed from others (as by spectral normalisation), or with
    layers whose inputs are not one row per example, takes one after the other, which gives the same but for rounding. So
    does one that uses a weight without calling its layer, which the first examples tell: the sum of their gradients is then
    not the gradient of the sum. Inputs of a layer must have the examples along their first dimension.

    Args:
        model: The network, in eval mode, so that no example has an effect on another.
        parameters: The theta, of `model`.
        value: Maps images to one number per image, (n,), through `model`.
        images: The examples x.
        together: How many examples that follow each other make a group; the last one may have fewer.

    Returns:
        One tensor per parameter, zeros for a parameter that `value` does not use.
    """
    totals = {id(parameter): torch.zeros_like(parameter) for parameter in parameters}
    layers = [
        module for module in model.modules() if any(id(own) in totals for own in module.parameters(recurse=False))
    ]
    owners = Counter(id(own) for layer in layers for own in layer.parameters(recurse=False))
    at_once = 1
    if together == 1 and all(_known(layer) for layer in layers) and max(owners.values(), default=1) == 1:
        largest = max((parameter.numel() for parameter in parameters), default=1)
        at_once = max(1, min(EXAMPLES, BUDGET // largest))
    in_one_pass, checked = at_once > 1, parameters
    for part in images.split(at_once * together):  # type: ignore[no-untyped-call]
        in_one_pass = in_one_pass and _add_in_one_pass(layers, value, part, totals, checked)
        checked = []  # once
        if in_one_pass:
            continue
        for group in part.split(together):
            gradients = torch.autograd.grad(value(group).sum(), parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    totals[id(parameter)] += gradient.abs()
    return [totals[id(parameter)] for parameter in parameters]


def _known(layer: nn.Module) -> bool:
    """Whether `_gradients` can take the layer; subclasses may compute anything."""
    if not {name for name, _ in layer.named_parameters(recurse=False)} <= {"weight", "bias"}:
        return False
    if type(layer) is nn.Conv2d:
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None
    return type(layer) is nn.Linear


def _add_in_one_pass(
    layers: list[nn.Module],
    value: Callable[[Tensor], Tensor],
    images: Tensor,
    totals: dict[int, Tensor],
    checked: list[nn.Parameter],
) -> bool:
    """Add the absolute gradient of each image to `totals`, whose keys are the ids of the parameters.

    Args:
        layers: Those whose parameters are wanted.
        value: As for `sums_of_absolute_gradients`.
        images: The examples.
        totals: The sums so far; they stay as they are where it is not possible.
        checked: Parameters whose gradients are compared with those of automatic differentiation, which takes one more
            pass backward and makes a GPU wait.

    Returns:
        Whether it was possible: every layer has taken one row per image, and no gradient of `checked` is another one.
    """
    with _watched(layers) as calls:
        values = value(images).sum()
    if any(len(given) != len(images) for _, given, _ in calls):
        return False
    outputs = [output for _, _, output in calls]
    of_outputs = torch.autograd.grad(values, outputs, retain_graph=bool(checked), allow_unused=True) if outputs else ()
    absolute: dict[int, Tensor] = {}
    signed: dict[int, Tensor] = {}
    with torch.no_grad():
        for layer in layers:
            gradients: dict[str, Tensor] = {}
            for (called, given, _), of_output in zip(calls, of_outputs, strict=True):
                if called is layer and of_output is not None:
                    for name, gradient in _gradients(layer, given, of_output).items():
                        # A layer that is called several times has one gradient, the sum.
                        gradients[name] = gradients[name] + gradient if name in gradients else gradient
            for name, parameter in layer.named_parameters(recurse=False):
                if name in gradients and id(parameter) in totals:
                    if checked:
                        signed[id(parameter)] = gradients[name].sum(dim=0).view_as(parameter)
                    absolute[id(parameter)] = gradients[name].abs().sum(dim=0).view_as(parameter)
    if checked and values.requires_grad:
        whole = torch.autograd.grad(values, checked, allow_unused=True)
        if not _agree(zip(checked, whole, strict=True), signed, absolute):
            return False
    for key, tensor in absolute.items():
        totals[key] += tensor
    return True


def _agree(
    whole: Iterable[tuple[nn.Parameter, Tensor | None]], signed: dict[int, Tensor], absolute: dict[int, Tensor]
) -> bool:
    """Whether the gradients of single examples add up to those of the whole batch, but for rounding.

    Args:
        whole: The parameters, and the gradient of the batch for each; None where it does not depend on the parameter.
        signed: The sum of the gradients of single examples by the id of the parameter; zero where it is missing.
        absolute: The sum of their absolute values, likewise.
    """
    differences, sizes, precision = [], [], 0.0
    for parameter, gradient in whole:
        zero = torch.zeros_like(parameter)
        found = signed.get(id(parameter), zero)
        differences.append(torch.linalg.vector_norm(found - (zero if gradient is None else gradient)))
        sizes.append(torch.linalg.vector_norm(absolute.get(id(parameter), zero)))
        precision = max(precision, ROUNDINGS * torch.finfo(parameter.dtype).eps)
    # On one device, in double precision, which holds what all of them are, and which Apple's GPUs lack.
    apart, size = (torch.stack([norm.cpu().double() for norm in norms]) for norms in (differences, sizes))
    # A gradient that is zero by symmetry is all rounding, which the largest gradient bounds. NaN is left to others.
    return not bool((apart > max(TOLERANCE, precision) * size + precision * size.max()).any())


@contextmanager
def _watched(layers: list[nn.Module]) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    """Note each call of a layer within a `with` block: the layer, its input without a graph, and its output."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> Tensor:
        (first, *_) = (*given, *named.values())  # these layers take one tensor, with or without its name
        calls.append((layer, first.detach(), output))
        return output.clone()  # what follows may write over the layer's output, as an activation in place does

    handles = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _gradients(layer: nn.Module, given: Tensor, of_output: Tensor) -> dict[str, Tensor]:
    """The gradient of each example for the parameters of a layer.

    Args:
        layer: One that `_known` accepts.
        given: (n, ...) its input.
        of_output: (n, ...) the gradient of its output.

    Returns:
        For weight and bias (n, ...), in the order of the parameter's numbers.

    Raises:
        TypeError: for another layer.
    """
    if isinstance(layer, nn.Conv2d):
        patches = F.unfold(given, layer.kernel_size, layer.dilation, layer.padding, layer.stride)  # type: ignore[arg-type]
        signal = of_output.flatten(2)
        return {"weight": torch.bmm(signal, patches.transpose(1, 2)), "bias": signal.sum(dim=2)}
    if isinstance(layer, nn.Linear):
        signal, given = (tensor.reshape(len(tensor), -1, tensor.shape[-1]) for tensor in (of_output, given))
        return {"weight": torch.bmm(signal.transpose(1, 2), given), "bias": signal.sum(dim=1)}
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        normalised = F.batch_norm(given, layer.running_mean, layer.running_var, eps=layer.eps)
        signal, normalised = (tensor.reshape(*tensor.shape[:2], -1) for tensor in (of_output, normalised))
        return {"weight": (signal * normalised).sum(dim=2), "bias": signal.sum(dim=2)}
    raise TypeError(f"the gradients of single examples are not known for {type(layer).__name__}")
