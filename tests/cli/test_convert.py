"""From a published file to a teacher folder, from the command line."""

import pytest
import torch
from torchvision.models import resnet18

from hf_vipriors.cli.convert import main
from hf_vipriors.models import VipriorsModel


@pytest.fixture
def published(tmp_path):
    state = {f"backbone.{name}": tensor for name, tensor in resnet18(num_classes=8).state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "simclr.pth.tar")
    return tmp_path / "simclr.pth.tar"


def refused(capsys, *options: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*options])
    assert stop.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    return line


def test_a_teacher_folder(published, tmp_path, capsys):
    folder = tmp_path / "teachers" / "simclr"
    main(["--checkpoint", str(published), "--output_dir", str(folder), "--image_size", "48"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    teacher = VipriorsModel.from_pretrained(folder)
    assert teacher.config.image_size == 48 and teacher.config.projector_dim == 8
    state = torch.load(published, weights_only=True)["state_dict"]
    assert torch.equal(teacher.backbone.conv1.weight, state["backbone.conv1.weight"])
    assert "exists" in refused(capsys, "--checkpoint", str(published), "--output_dir", str(folder))


def test_mistakes_leave_nothing_behind(published, tmp_path, capsys):
    folder = str(tmp_path / "out")
    assert "needed" in refused(capsys, "--output_dir", folder)
    assert "nothing.pth" in refused(capsys, "--checkpoint", str(tmp_path / "nothing.pth"), "--output_dir", folder)
    published.write_bytes(published.read_bytes()[:999])
    assert "damaged" in refused(capsys, "--checkpoint", str(published), "--output_dir", folder)
    bad = ["--checkpoint", str(published), "--output_dir", folder, "--image_size", "0"]
    assert "image_size" in refused(capsys, *bad)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["simclr.pth.tar"]
