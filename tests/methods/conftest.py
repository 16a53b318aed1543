from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hf_vipriors.methods import Method
from hf_vipriors.models import VipriorsForImageClassification, VipriorsModel


@torch.no_grad()
def awake(model: torch.nn.Module) -> torch.nn.Module:
    """timm starts the last batch norm of each residual block at zero. Such a block passes on its input, no gradient
    comes to its layers, and in front of its ReLU nothing is negative: half of what is tested would not show."""
    for name, parameter in model.named_parameters():
        if name.endswith("weight") and not parameter.any():
            parameter.fill_(1.0)
    return model


@pytest.fixture
def classifiers(tiny_config):
    """``student, teacher = classifiers()``: two different small classifiers of the same four classes."""

    def make(student: str = "resnet18", teacher: str = "resnet18", **options):
        torch.manual_seed(0)
        models = [VipriorsForImageClassification(tiny_config(name, **options)) for name in (teacher, student)]
        return awake(models[1]), awake(models[0])

    return make


@pytest.fixture
def watched():
    """``untouched = watched(teacher)`` before a training, ``untouched(method)`` after it."""

    def watch(teacher: torch.nn.Module) -> Callable[[Method], None]:
        # Statistics that are still those of the initialisation could not show that they moved.
        with torch.no_grad():
            for name, buffer in teacher.named_buffers():
                if name.endswith("running_mean"):
                    buffer.add_(0.1)
        before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}

        def untouched(method: Method) -> None:
            for name, tensor in teacher.state_dict().items():
                assert torch.equal(tensor, before[name]), f"{name} of the teacher has moved"
            assert not any(module.training for module in teacher.modules())
            assert not any(p.requires_grad for p in teacher.parameters())
            storages = {tensor.data_ptr() for tensor in teacher.state_dict().values()}
            assert not storages & {p.data_ptr() for p in method.parameters()}, "the optimizer sees the teacher"
            assert not storages & {t.data_ptr() for t in method.state_dict().values()}, "checkpoints hold the teacher"

        return untouched

    return watch


@pytest.fixture
def embedder(tiny_config):
    """``embedder(projector_dim=8)``: a small network with a projector."""

    def make(seed: int = 0, backbone: str = "resnet18", **options) -> VipriorsModel:
        torch.manual_seed(seed)
        return awake(VipriorsModel(tiny_config(backbone, **options)))

    return make


@pytest.fixture
def assert_resumes():
    """``assert_resumes(method, other, inputs)``: what ``other`` reads from a checkpoint of ``method`` is enough to go
    on exactly as ``method`` does, for two more steps of loss, gradients and state."""

    def check(method: Method, other: Method, inputs: dict) -> None:
        other.load_state_dict({name: tensor.clone() for name, tensor in method.state_dict().items()})
        method.train(), other.train()
        for step in range(2):
            found = []
            for each in (method, other):
                torch.manual_seed(step)
                each.zero_grad()
                output = each(**inputs)
                output.loss.backward()
                with torch.no_grad():
                    for parameter in each.parameters():
                        if parameter.grad is not None:
                            parameter.sub_(0.01 * parameter.grad)
                found.append(output)
            assert torch.equal(found[0].loss, found[1].loss)
            for name, part in found[0].parts.items():
                assert torch.equal(part, found[1].parts[name]), name
        for name, tensor in method.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name

    return check
