from __future__ import annotations

import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def as_trained():
    """``as_trained(model)``: batch norms with statistics and parameters that are not those of a fresh network."""

    def train(model: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
                nn.init.uniform_(module.bias, -0.5, 0.5, generator=generator)
        with torch.no_grad():
            model.train()(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        return model.eval()

    return train
