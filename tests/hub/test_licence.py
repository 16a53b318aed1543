"""The licence of somebody else's weights: whoever states it, and never a guess."""

import pytest

from hf_vipriors.hub.embedded import FASHION_TEACHER
from hf_vipriors.hub.licence import NOT_READ, NOT_STATED, licence_of


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("license: mit", "mit"),
        ("license: other\nlicense_name: dinov3-license", "dinov3-license"),
        ("license: other", "other"),
        ("license: [mit, cc-by-nc-4.0]", "mit, cc-by-nc-4.0"),
        ("license: unknown", NOT_STATED),
        ("tags: [timm]", NOT_STATED),
        ("license: mit\nmodel-index: broken", "mit"),
        ('license: "a\\nb"', "a b"),
        ("license: [", NOT_STATED),
        ("- no mapping", NOT_STATED),
        ("1: number", NOT_STATED),
    ],
)
def test_of_a_folder_the_card_counts(metadata, licence, tmp_path):
    (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\n# A model\n")
    assert licence_of(str(tmp_path)) == licence


def test_of_the_teacher_that_ships_with_the_package():
    assert licence_of(FASHION_TEACHER) == "apache-2.0"


def test_no_card_and_a_published_file_state_nothing(tmp_path):
    (tmp_path / "moco.pth.tar").write_bytes(b"")
    assert licence_of(str(tmp_path)) == licence_of(str(tmp_path / "moco.pth.tar")) == NOT_STATED


def test_timm_says_it_of_its_weights():
    assert licence_of("timm:resnet50.tv_in1k") == "bsd-3-clause" and licence_of("timm/resnet18") == "apache-2.0"


def test_on_the_hub_the_card_counts_and_one_out_of_reach_is_not_called_silent(hub_here, monkeypatch):
    hub_here.add("owner/dino").push({"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n# A model\n"})
    hub_here.add("owner/bare").push({"config.json": b"{}"})
    assert licence_of("owner/dino") == "cc-by-nc-4.0" and licence_of("owner/bare") == NOT_STATED
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert licence_of("owner/dino") == "cc-by-nc-4.0" and licence_of("owner/other") == NOT_READ
