"""Views on an accelerator never wait for it: they ask for no value, and what they hand over is not waited for.

On the meta device no tensor has values, so whatever asks for one raises there.
"""

import pytest
import torch
from between_devices import Copies

from hf_vipriors.views import ClassificationViews, ConsistencyViews, ContrastiveViews, RotationViews

STATS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
VIEWS = {
    "contrastive": lambda: ContrastiveViews(32, **STATS, patches=2, blur=1.0),
    "classification": lambda: ClassificationViews(32, **STATS),
    "consistency": lambda: ConsistencyViews(32, **STATS, erase=1.0),
    "randaugment": lambda: ConsistencyViews(32, **STATS, strong="randaugment"),
    "labels, imagenet": lambda: ClassificationViews(32, **STATS, auto_augment="imagenet"),
    "labels, randaugment": lambda: ClassificationViews(32, **STATS, auto_augment="randaugment"),
    "rotation": lambda: RotationViews(32, **STATS, auto_augment="cifar10"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", VIEWS)
def test_views_do_not_wait_for_the_device(kind, channels):
    views = VIEWS[kind]().to("meta")
    images = torch.zeros(8, channels, 40, 40, dtype=torch.uint8, device="meta")
    with Copies() as copies:
        made = views(images, torch.Generator().manual_seed(0))
    assert not copies.waited and copies.begun
    assert all(view.device.type == "meta" and view.shape[1] == 3 for view in made)


def test_what_is_looked_for_is_found():
    with Copies() as copies:
        torch.zeros(2).to("meta"), torch.zeros(2).to("meta", non_blocking=True)
    assert len(copies.waited) == 1 and len(copies.begun) == 1
