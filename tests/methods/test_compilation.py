"""``torch.compile`` of a step: one graph, compiled once, that computes what the step does."""

import copy

import pytest
import torch
from method_cases import CASES, build, inputs_of
from torch._dynamo.testing import CompileCounter

from hf_vipriors.methods import Progress

# A graph takes seconds: these two have a queue, splits, a schedule and a moving average; the others are slow tests.
FAST = ("moco", "fixmatch")


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def train(method, run, case):
    """Loss of four steps, each with images and a place in the schedule of its own; the weights move in between."""
    found = []
    for number in range(4):
        torch.manual_seed(number)
        method.begin_step(Progress(step=number, epoch=10 + 0.3 * number, share=0.05 * number))
        loss = run(**inputs_of(case, seed=number)).loss
        method.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in method.parameters():
                if parameter.grad is not None:
                    parameter.sub_(0.01 * parameter.grad)
        share = 0.05 * (number + 1)
        method.end_step(Progress(step=number + 1, epoch=10.3 + 0.3 * number, share=share))
        found.append(loss.detach())
    return torch.stack(found)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case in FAST else [pytest.mark.slow]) for case in CASES if case != "mixup"],
)
def test_a_step_is_one_graph_compiled_once(case, tiny_config):
    method = build(case, tiny_config)
    if case == "crd":  # the first step estimates its normalisers, outside of the graph
        method(**inputs_of(case))
    other, counter = copy.deepcopy(method), CompileCounter()
    losses = train(method, torch.compile(method, backend=counter, fullgraph=True), case)
    assert counter.frame_count == 1
    torch.testing.assert_close(losses, train(other, other, case), rtol=1e-4, atol=1e-5)
    assert losses.std() > 0


@pytest.mark.slow
def test_mixing_breaks_the_graph_and_is_not_compiled_again(tiny_config):
    """timm draws with NumPy."""
    method, counter = build("mixup", tiny_config), CompileCounter()
    compiled = torch.compile(method, backend=counter)
    counts = []
    for seed in range(4):
        compiled(**inputs_of("mixup", seed=seed)).loss.backward()
        counts.append(counter.frame_count)
    assert counts[0] <= 4 and len(set(counts)) == 1
