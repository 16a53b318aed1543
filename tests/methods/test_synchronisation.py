"""A step never waits for the device: it asks for no value, and hands none over from the host.

On the meta device no tensor has values, so whatever asks for one (``.item()``, ``if tensor``, ``nonzero``, a boolean
mask) raises there; copies between devices are watched for.
"""

from contextlib import nullcontext

import pytest
import torch
from between_devices import Copies
from method_cases import CASES, build, inputs_of

from hf_vipriors.methods import Progress


def step(method, inputs, optimizer, number):
    method.begin_step(Progress(step=number, epoch=10.0 + number, share=0.1 * number))
    optimizer.zero_grad()
    method(**inputs).loss.backward()
    optimizer.step()
    method.end_step(Progress(step=number + 1, epoch=10.0 + number, share=0.1 * number))


@pytest.mark.parametrize("case", CASES)
def test_a_step_asks_the_device_for_nothing(case, tiny_config, monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())  # there is none on meta
    method, inputs = build(case, tiny_config), inputs_of(case)
    if case == "crd":  # asks once whether its normalisers are estimated
        method(**inputs)
    method = method.to("meta")
    inputs["views"] = [view.to("meta") for view in inputs["views"]]
    inputs |= {name: inputs[name].to("meta") for name in ("labels", "index")}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    with Copies() as copies:
        for number in range(2):
            step(method, inputs, optimizer, number)
    assert not copies.waited and not copies.begun


def test_what_is_looked_for_is_found(tiny_config):
    values = torch.zeros(3, device="meta")
    for ask in (lambda: values.max().item(), lambda: bool(values.any()), lambda: values.nonzero()):
        with pytest.raises((RuntimeError, NotImplementedError)):
            ask()
    with Copies() as copies:
        torch.arange(3).to("meta"), torch.zeros(2).to("meta")
    assert len(copies.waited) == 2
    with pytest.raises((RuntimeError, NotImplementedError)):
        inputs = inputs_of("fixmatch")
        inputs["labels"], inputs["labelled"] = inputs["labels"].to("meta"), None
        build("fixmatch", tiny_config)(**inputs)
