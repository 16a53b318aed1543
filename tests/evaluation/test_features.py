import pytest
import torch

from hf_vipriors.data import ImageStore
from hf_vipriors.evaluation.features import NotFinite, features, logits, probabilities
from hf_vipriors.models import VipriorsForImageClassification


@pytest.mark.parametrize("measure", [features, probabilities, logits])
def test_numbers_that_are_not_finite_name_the_model_and_how_many_images(measure, tiny_config, monkeypatch):
    model = VipriorsForImageClassification(tiny_config())
    model.config.name_or_path = "outputs/student"
    stored = torch.zeros(5, 3, 32, 32, dtype=torch.uint8)
    stored[3] = 255
    extract = model.backbone.forward_features

    def overflows(images):  # where an image is bright
        bright = images.amax(dim=(1, 2, 3), keepdim=True) > 0
        return extract(images) + torch.where(bright, torch.inf, 0.0)

    monkeypatch.setattr(model.backbone, "forward_features", overflows)
    with pytest.raises(NotFinite, match="outputs/student gives numbers that are not finite for 1 of 5 images"):
        measure(model, ImageStore(stored, torch.arange(5) % 4))
