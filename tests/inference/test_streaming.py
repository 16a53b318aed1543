import pytest
import torch
from datasets import Dataset, Image
from PIL import Image as Photo

from hf_vipriors.data.image_records import Records
from hf_vipriors.evaluation.features import NotFinite
from hf_vipriors.inference.streaming import outputs_of
from hf_vipriors.models import VipriorsModel


def test_outputs_that_are_not_finite_end_the_job(tiny_config):
    model = VipriorsModel(tiny_config(projector_dim=8)).eval()
    photos = [Photo.new("RGB", (40, 32), (value, 0, 0)) for value in (0, 200, 0)]
    records = Records(Dataset.from_dict({"image": photos}).cast_column("image", Image(decode=False)), "test")

    def overflows(model, images):  # where an image is bright
        return model.features(images) + torch.where(images[:, 0].amax(dim=(1, 2)) > 0, torch.inf, 0.0)[:, None]

    with pytest.raises(NotFinite, match="resnet18 gives numbers that are not finite for 1 of 3 images"):
        list(outputs_of([model], records, overflows))
