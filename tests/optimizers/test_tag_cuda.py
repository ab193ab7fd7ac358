"""On a GPU: no step makes the host wait, and a step can be captured in a CUDA graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.optimizers import TAG
from tests.optimizers.gradients import BASES, Gradients, feed, make_gradients, make_params, run

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),  # it says so whenever it is set
]


def on_gpu(gradients: Gradients) -> Gradients:
    return [[[gradient.cuda() for gradient in step] for step in task] for task in gradients]


def params_and_gradients() -> tuple[list[Tensor], Gradients]:
    params = make_params(dtype=torch.float32)
    return [param.cuda() for param in params], on_gpu(make_gradients(params, tasks=3, steps=4))


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("bank_dtype", [None, torch.bfloat16])
def test_no_step_makes_the_host_wait(base: Any, bank_dtype: torch.dtype | None) -> None:
    params, gradients = params_and_gradients()
    expected = make_params(dtype=torch.float32)
    run(
        TAG(expected, 0.01, base, bank_dtype=bank_dtype),
        expected,
        [[[gradient.cpu() for gradient in step] for step in task] for task in gradients],
    )
    optimizer = TAG(params, 0.01, base, bank_dtype=bank_dtype)
    try:
        torch.cuda.set_sync_debug_mode("error")
        run(optimizer, params, gradients)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close([param.cpu() for param in params], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("base", BASES)
def test_a_captured_step_gives_the_same_parameters(base: Any) -> None:
    params, gradients = params_and_gradients()
    expected = [param.clone() for param in params]
    wanted = run(TAG(expected, 0.01, base), expected, gradients)[-1]

    optimizer = TAG(params, 0.01, base)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # capture wants kernels and workspaces warmed up beside the default stream
        run(optimizer, params, gradients[:2])
        optimizer.begin_task()
        feed(optimizer, params, gradients[2][0])
    torch.cuda.current_stream().wait_stream(side)

    for param, gradient in zip(params, gradients[2][1], strict=True):
        param.grad = gradient.clone()  # the graph reads its gradients here
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    for step in gradients[2][1:]:
        for param, gradient in zip(params, step, strict=True):
            assert param.grad is not None
            param.grad.copy_(gradient)
        graph.replay()
    torch.testing.assert_close(params, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(optimizer.alphas, wanted, rtol=1e-6, atol=1e-7)
