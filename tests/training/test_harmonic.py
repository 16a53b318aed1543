"""Trainings with harmonic convolutions: what is saved is plain, what is resumed is the same to the last bit."""

import json

import pytest
import timm
import torch
from safetensors.torch import load_file

from hf_vipriors import StudentArguments, StudentTrainer, VipriorsForImageClassification, VipriorsModel
from hf_vipriors.backbones import is_harmonic, make_harmonic
from hf_vipriors.cli import student as train_student
from hf_vipriors.cli import teacher as train_teacher
from hf_vipriors.errors import InputError
from hf_vipriors.evaluation.predictions import read_predictions
from hf_vipriors.hub.native_export import export_native, load_native
from hf_vipriors.training import DataArguments
from hf_vipriors.training.checkpoints import checkpoint_state, read_method_state
from hf_vipriors.training.load_images import load_images
from hf_vipriors.training.setup import set_up

HARMONIC = ["--harmonic", "batch_norm", "--harmonic_level", "2"]


@pytest.fixture(scope="module")
def options(student_options):
    return [*student_options, "--method", "supervised", *HARMONIC, "--max_steps", "6", "--save_steps", "3"]


@pytest.fixture(scope="module")
def folder(options, tmp_path_factory):
    """A finished harmonic student."""
    folder = tmp_path_factory.mktemp("harmonic") / "student"
    train_student.main([*options, "--output_dir", str(folder)])
    return folder


def test_a_student_is_native_and_was_measured_as_it_is_saved(folder, photos):
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert not is_harmonic(network) and set(network.state_dict()) == set(load_file(folder / "model.safetensors"))
    data = DataArguments("imagefolder", data_dir=str(photos))
    args = StudentArguments(str(folder), method="supervised", use_cpu=True, report_to="none")
    setup = set_up(args, data, load_images(data), network=load_native(folder))
    found = StudentTrainer(setup=setup).predictions(setup.stores["test"]).values.softmax(dim=1)
    torch.testing.assert_close(found, read_predictions(folder).values, atol=3e-4, rtol=0)  # kept as float16


def test_a_card_says_that_it_was_harmonic_and_cites_the_papers(folder, card_settings):
    card = (folder / "README.md").read_text()
    assert "trained as harmonic ones and folded into plain ones\n" in card and "\n- Data: " in card
    assert "arxiv.org/abs/1905.00135" in card and "arxiv.org/abs/2001.06570" in card
    assert card_settings(folder)["harmonic"] == "batch_norm" and card_settings(folder)["harmonic_level"] == "2"
    parameters = sum(p.numel() for p in load_native(folder).parameters())
    assert f"{parameters:,} parameters" in card, "of the plain network"


def test_a_resumed_run_is_the_whole_run_to_the_last_bit(options, folder, tmp_path):
    resumed = tmp_path / "resumed"
    train_student.main(
        [*options, "--resume_from_checkpoint", str(folder / "checkpoint-3"), "--output_dir", str(resumed)]
    )
    states = [checkpoint_state(each / "checkpoint-6") for each in (folder, resumed)]
    states += [load_file(each / "model.safetensors") for each in (folder, resumed)]
    for first, second in (states[:2], states[2:]):
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert "student.backbone.conv1.0.coefficients" in states[0] and "conv1.0.weight" in states[2]


def test_a_checkpoint_holds_the_plain_model_of_its_state(folder, photos):
    args = StudentArguments(
        "unused", method="supervised", harmonic="batch_norm", harmonic_level=2, use_cpu=True, report_to="none",
        backbone_args=load_native(folder).config.backbone_args, image_size=32,
    )  # fmt: skip
    data = DataArguments("imagefolder", data_dir=str(photos))
    method = set_up(args, data, load_images(data)).method
    read_method_state(method, str(folder / "checkpoint-3"))
    image = torch.rand(2, 3, 32, 32)
    trained, saved = method.deployable().eval(), load_native(folder / "checkpoint-3")
    torch.testing.assert_close(saved(image).logits, trained(image).logits, atol=1e-5, rtol=1e-5)


def test_other_harmonic_options_are_another_run(options, folder, tmp_path, capsys):
    again = ["--resume_from_checkpoint", str(folder / "checkpoint-3"), "--harmonic_level", "3"]
    with pytest.raises(SystemExit):
        train_student.main([*options, *again, "--output_dir", str(tmp_path / "other")])
    assert "--harmonic_level 2 -> 3" in capsys.readouterr().err


def test_a_teacher_is_plain_and_students_start_from_it(teacher_options, student_options, tmp_path, capsys):
    teacher = tmp_path / "teacher"
    level = ["--harmonic", "weights", "--harmonic_level", "2", "--max_steps", "3"]
    train_teacher.main([*teacher_options, *level, "--output_dir", str(teacher)])
    assert not is_harmonic(VipriorsModel.from_pretrained(teacher).backbone)
    assert "harmonic" not in json.loads((teacher / "config.json").read_text())
    student = [*student_options, "--method", "overhaul", "--teacher", str(teacher), "--max_steps", "3"]
    for name, harmonic in {"plain": [], "harmonic": level}.items():
        train_student.main([*student, *harmonic, "--output_dir", str(tmp_path / name)])
        assert (tmp_path / name / "metrics.json").is_file()
    with pytest.raises(SystemExit):
        train_student.main([*student, *HARMONIC, "--output_dir", str(tmp_path / "refused")])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "--harmonic batch_norm" in line and "--student_init scratch" in line
    assert not (tmp_path / "refused").exists()


def test_a_harmonic_model_is_saved_and_exported_as_a_plain_one(tiny_config, tmp_path):
    model = VipriorsForImageClassification(tiny_config(image_size=32))
    make_harmonic(model.backbone, image_size=32, batch_norm=True)
    model(torch.rand(4, 3, 32, 32))
    image, drawn = torch.rand(2, 3, 32, 32), torch.get_rng_state()
    expected = model.eval()(image).logits
    model.save_pretrained(tmp_path / "ours")
    export_native(model, tmp_path / "native")
    again = VipriorsForImageClassification.from_pretrained(tmp_path / "ours").eval(), load_native(tmp_path / "native")
    for saved in again:
        torch.testing.assert_close(saved(image).logits, expected, atol=1e-5, rtol=1e-5)
    assert is_harmonic(model.backbone) and not is_harmonic(model.plain().backbone)
    torch.set_rng_state(drawn)
    model.plain()
    assert torch.equal(torch.get_rng_state(), drawn), "an evaluation must not change what is drawn after it"


def test_a_model_that_is_harmonic_already_is_refused(tiny_config, photos):
    model = VipriorsForImageClassification(tiny_config(image_size=32, classes=3))
    make_harmonic(model.backbone, image_size=32)
    data = DataArguments("imagefolder", data_dir=str(photos))
    args = StudentArguments("unused", method="supervised", use_cpu=True, report_to="none")
    with pytest.raises(InputError, match="harmonic already"):
        set_up(args, data, load_images(data), network=model)
