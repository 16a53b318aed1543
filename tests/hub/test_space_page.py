"""The demo as its visitors meet it: started as a program of its own, asked by a client, and looked at in a browser."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from browser import PATIENCE, needs_chromium, open_page
from PIL import Image
from transformers import pipeline

from hf_vipriors.data import decode, load_splits
from hf_vipriors.hub.native_export import export_native
from hf_vipriors.hub.space import write_space
from hf_vipriors.models import VipriorsConfig, VipriorsForImageClassification

gradio = pytest.importorskip("gradio", reason='gradio is missing: run with --with "gradio>=6.31,<7"')
# A program that cannot import hf_vipriors, should anything try.
STRANGER = """
import runpy, sys

sys.modules["hf_vipriors"] = None
import gradio.networking

gradio.networking.url_ok = lambda url: True  # gradio gives up where the first page takes more than three seconds
runpy.run_path("app.py", run_name="__main__")
"""
ANSWERED = "document.querySelectorAll('#neighbours figure').length && document.querySelector('#pixels img')"
SEEN = """(() => {
    const answer = document.querySelector('#classes').innerText;
    const pixels = document.querySelector('#pixels img');
    const neighbours = [...document.querySelectorAll('#neighbours figure')];
    const elsewhere = performance.getEntriesByType('resource').map((entry) => entry.name)
        .filter((name) => !name.startsWith(location.origin) && !name.startsWith('data:'));
    return {
        title: document.querySelector('h1').innerText, answer, elsewhere,
        pixels: pixels.complete && pixels.naturalWidth, label: document.querySelector('#pixels').innerText,
        captions: neighbours.map((each) => each.innerText),
        drawn: neighbours.every((each) => each.querySelector('img').naturalWidth > 0),
        width: document.documentElement.scrollWidth,
    };
})()"""


@pytest.fixture(scope="module")
def data():
    return load_splits("fashion-vipriors")


@pytest.fixture(scope="module")
def student(data, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    config = VipriorsConfig.for_backbone("test_convnext", image_size=32, class_names=data.class_names)
    return export_native(VipriorsForImageClassification(config), tmp_path_factory.mktemp("hub") / "student")


@pytest.fixture(scope="module")
def space(data, student, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spaces") / "demo"
    return write_space(student, folder, repo_id="someone/student", data=data, neighbours=50)


@pytest.fixture(scope="module")
def image(data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("images") / "boot.png"
    decode(data.splits["test"][7]["image"]).save(path)
    return path


@pytest.fixture(scope="module")
def expected(student, image) -> dict[str, float]:
    classify = pipeline("image-classification", model=str(student), top_k=99)
    return {entry["label"]: entry["score"] for entry in classify(str(image))}


def confidences(answer: dict) -> dict[str, float]:
    return {each["label"]: each["confidence"] for each in answer["confidences"]}


def test_the_page_answers_or_says_in_one_line_why_not(space, student, image, expected, tmp_path):
    spec = importlib.util.spec_from_file_location("space_app", space / "app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    page = app.build_page(app.Classifier(space, str(student)))
    functions = {each.api_name: each.fn for each in page.fns.values()}
    answer, explain = functions["answer"], functions["explain"]
    note, classes, cards = answer(str(image))
    assert not note.visible and classes == pytest.approx(expected, abs=1e-6) and cards.count("<figure>") == 8
    assert explain(str(image)).label.endswith(f"“{max(expected, key=expected.get)}”")
    assert explain(str(image), "Bag").label.endswith("“Bag”")
    note, classes, cards = answer(None)
    assert (note.visible, classes, cards, explain(None).value) == (False, {}, "", None)
    file = tmp_path / "letter.png"
    file.write_text("no image")
    note, classes, cards = answer(str(file))
    assert note.visible and "no image" in note.value and (classes, cards, explain(str(file)).value) == ({}, "", None)
    # gradio opens a file before the page's own function sees it: that may not end in an error of its own.
    (field,) = [each for each in page.blocks.values() if each.elem_id == "image"]
    payload = gradio.data_classes.ImageData(path=str(file), orig_name="letter.png")
    assert field.preprocess(payload) == str(file) and field.preprocess(None) is None


@pytest.fixture(scope="module")
def address(space, student, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("program")
    offline = {"HF_HUB_OFFLINE": "1", "SPACE_MODEL": str(student), "GRADIO_TEMP_DIR": str(folder / "files")}
    ours = {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"}
    files = sorted(space.rglob("*"))
    with (folder / "log").open("w") as log:
        program = subprocess.Popen(
            [sys.executable, "-c", STRANGER], cwd=space, env=os.environ | offline | ours, stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + PATIENCE
        while "Running on" not in (folder / "log").read_text():
            assert program.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/"
        assert "Traceback" not in (folder / "log").read_text()
        assert sorted(space.rglob("*")) == files, "the program wrote into its own folder"
    finally:
        program.terminate()
        program.wait()


@pytest.mark.slow
def test_a_client_gets_the_answers_of_the_pipeline(address, image, expected, tmp_path):
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, httpx_kwargs={"timeout": httpx.Timeout(PATIENCE)})
    _, classes, cards = client.predict(handle_file(str(image)), api_name="/answer")
    found = confidences(classes)
    assert found == pytest.approx({label: expected[label] for label in found}, abs=1e-6) and len(found) == 5
    assert cards.count("<figure>") == 8
    drawn = client.predict(handle_file(str(image)), api_name="/explain")
    drawn = drawn["value"] if isinstance(drawn, dict) else drawn
    with Image.open(drawn) as overlay:
        assert overlay.size == (448, 448)
    letter = tmp_path / "letter.png"
    letter.write_text("no image")
    note, classes, cards = client.predict(handle_file(str(letter)), api_name="/answer")
    assert "no image" in str(note) and not cards


async def look(address: str, width: int, height: int, folder: Path) -> tuple[dict, bytes]:
    """What is on the page once it has answered, and an image of it."""
    async with open_page(address, folder, size=(width, height)) as page:
        await page.until(ANSWERED)
        await asyncio.sleep(3)  # until what has arrived is drawn
        image = await page.screenshot()
        return await page.value(SEEN), image


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize(("width", "height"), [(1280, 1100), (390, 2400)], ids=["desktop", "phone"])
def test_a_browser_shows_an_answer_at_once(width, height, address, space, student, data, tmp_path):
    seen, image = asyncio.run(look(address, width, height, tmp_path / "profile"))
    classify = pipeline("image-classification", model=str(student))
    first = classify(str(space / "examples" / "1.png"))[0]["label"]
    assert seen["title"] == "student, trained on 500 images" and first in seen["answer"] and "%" in seen["answer"]
    assert seen["pixels"] == 448 and f"“{first}”" in seen["label"]
    names, cosines = zip(*(caption.split("\n") for caption in seen["captions"]), strict=True)
    assert len(names) == 8 and seen["drawn"] and set(names) <= set(data.class_names)
    assert [float(cosine) for cosine in cosines] == sorted((float(cosine) for cosine in cosines), reverse=True)
    assert seen["width"] <= width, "the page is wider than the screen"
    assert seen["elsewhere"] == [], "something is fetched from another place"
    with Image.open(io.BytesIO(image)) as drawn:
        pixels = np.asarray(drawn.convert("RGB"), dtype=int)
    orange = (pixels[..., 0] > 200) & (abs(pixels[..., 1] - 140) < 30) & (pixels[..., 2] < 60)
    assert orange.sum() > 100, "no saliency is to be seen"
