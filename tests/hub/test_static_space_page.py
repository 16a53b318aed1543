"""The static Space as its visitors meet it: transformers.js runs the ONNX file in a browser, as pipeline() would.

The page asks cdn.jsdelivr.net and huggingface.co; the browser is told to get what they would send from this machine.
The library comes from the npm registry, or from ``HF_VIPRIORS_NPM``, a folder with the two files of ``npm pack``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from browser import needs_chromium, open_page
from PIL import ExifTags, Image, ImageCms
from static_spaces import HOSTILE, export, splits, texture
from transformers import pipeline

from hf_vipriors.hub.space import write_space
from hf_vipriors.hub.static_space import LIBRARY

pytestmark = [pytest.mark.slow, needs_chromium]
COMMIT = "1f" * 20
CDN, HUB = "https://cdn.jsdelivr.net/npm/", "https://huggingface.co/"
ENDED = "['answer', 'refuse'].includes(document.body.dataset.state)"
CLASSES = """[...document.querySelectorAll("#classes li")].map(({children: [name, share, bar]}) =>
    [name.textContent, Number(bar.style.getPropertyValue("--share")), share.textContent])"""
ERROR = "document.querySelector('#error').textContent"
PRESSED = "[...document.querySelectorAll('#examples button')].map((each) => each.ariaPressed)"
BRING = """(async () => {
    const [name, place] = ["%s", "%s"];
    const data = new DataTransfer();
    data.items.add(new File([await (await fetch("examples/2.png")).blob()], "mine.png", { type: "image/png" }));
    document.dispatchEvent(Object.assign(new Event(name, { cancelable: true }), { [place]: data }));
})()"""


@pytest.fixture(scope="module")
def npm(tmp_path_factory) -> Path:
    """The files of transformers.js and of its onnxruntime-web, where the CDN has them."""
    given, folder = os.environ.get("HF_VIPRIORS_NPM"), tmp_path_factory.mktemp("npm")

    def unpack(package: str) -> Path:
        name = package.removeprefix("@").replace("/", "-").replace("@", "-") + ".tgz"
        if not given:
            try:
                command = ["npm", "pack", "--silent", package]
                subprocess.run(command, cwd=folder, check=True, timeout=300, capture_output=True)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"no {package} from the npm registry ({error}): put {name} into $HF_VIPRIORS_NPM")
        unpacked = folder / "unpacked" / package
        with tarfile.open(Path(given or folder) / name) as archive:
            archive.extractall(unpacked, filter="data")
        (folder / package).parent.mkdir(exist_ok=True)
        return (unpacked / "package").rename(folder / package)

    transformers = unpack(re.match(rf"{CDN}(.*?)/dist/", LIBRARY)[1])
    needed = json.loads((transformers / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    unpack(f"onnxruntime-web@{needed}")
    return folder


class Handler(SimpleHTTPRequestHandler):
    """Files that pages of other servers may read too."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return export(tmp_path_factory.mktemp("hub") / "student", HOSTILE, image_size=64)


@dataclass
class Site:
    """A server on this machine: ``root`` has the Space, the model's repository as the Hub has it, and the library."""

    root: Path
    server: str

    @property
    def address(self) -> str:
        return f"{self.server}space/"

    @property
    def examples(self) -> list[Path]:
        return sorted((self.root / "space" / "examples").iterdir())

    def route(self, instead: Mapping[str, str | None] | None = None) -> Callable[[str], str | None]:
        """From where the page gets what it asks for; ``instead``: another place of CDN or HUB, None: nowhere."""
        places = {CDN: "npm/", HUB: "hub/"} | dict(instead or {})

        def place(address: str) -> str | None:
            if address.startswith((self.server, "blob:", "data:")):
                return address
            (start,) = [each for each in places if address.startswith(each)]  # the page asks nobody else
            return None if places[start] is None else address.replace(start, self.server + places[start])

        return place


@pytest.fixture(scope="module")
def site(student, npm, tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    space = write_space(student, root / "space", repo_id="me/x", data=splits(HOSTILE), kind="static", licence="mit")
    settings = json.loads((space / "settings.json").read_text())
    (space / "settings.json").write_text(json.dumps(settings | {"revision": COMMIT}))
    shutil.copytree(student, root / "hub" / "me" / "x" / "resolve" / COMMIT)
    (root / "npm").symlink_to(npm)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Site(root, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    server.server_close()


def odd_images(folder: Path) -> list[Path]:
    """Of every kind that a browser can open, sizes from 1 x 1 to 20 million pixels; the network reads 64 x 64."""
    sizes = [(64, 64), (73, 73), (70, 50), (31, 90), (333, 500), (1024, 768), (29, 28), (100, 99), (1, 1), (2, 3)]
    images = {f"{w} x {h}.png": texture(w, (w, h)) for w, h in [*sizes, (900, 12), (12, 1000), (400, 1000)]}
    images |= {
        "gray.png": texture(20, (131, 90)).convert("L"),
        "black and white.png": texture(21, (70, 50)).convert("1"),
        "gray alpha.png": texture(22, (70, 50), 4).convert("LA"),
        "palette.png": texture(23, (150, 83)).quantize(16),
        "transparent.png": texture(24, (177, 128), 4),
        "transparent, large.png": texture(25, (700, 900), 4),
        "transparent.webp": texture(26, (300, 200), 4),
        "animation.gif": texture(27, (120, 90)).quantize(64),
        "bitmap.bmp": texture(28, (120, 90)),
        "photograph.jpg": texture(29, (5000, 4000)),
        "photograph.webp": texture(30, (300, 200)),
        "gray.jpg": texture(31, (200, 150)).convert("L"),
        "print.jpg": texture(32, (200, 200)).convert("CMYK"),
    }
    invisible = texture(33, (90, 120))
    invisible.putalpha(0)
    for name, image in (images | {"invisible.png": invisible}).items():
        image.save(folder / name, **({"lossless": True, "exact": True} if name == "transparent.webp" else {}))
    for number, subsampling in enumerate((0, 1, 2)):
        image = texture(40 + number, (400 + 37 * number, 300))
        image.save(
            folder / f"{number}.jpg", quality=90 - 20 * number, subsampling=subsampling, progressive=number == 1
        )
    for orientation in range(2, 9):
        turned = Image.Exif()
        turned[ExifTags.Base.Orientation] = orientation
        texture(50 + orientation, (200, 130)).save(folder / f"turned {orientation}.jpg", exif=turned)
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = (profile.find(name) + 4 for name in (b"rXYZ", b"gXYZ"))
    profile[red : red + 8], profile[green : green + 8] = profile[green : green + 8], profile[red : red + 8]
    for name in ("other colours.png", "other colours.jpg"):
        texture(60, (150, 150)).save(folder / name, icc_profile=bytes(profile))
    return sorted(folder.iterdir())


async def choose(page, path: Path) -> dict[str, float]:
    """The classes on the page once it has answered for a file."""
    await page.value("document.body.dataset.state = ''")
    await page.choose_file("#file", path)
    await page.until(ENDED)
    return {name: share for name, share, _ in await page.value(CLASSES)}


def test_the_page_gives_the_probabilities_of_the_pipeline(site, student, tmp_path):
    (tmp_path / "images").mkdir()
    files = odd_images(tmp_path / "images")
    classify = pipeline("image-classification", model=str(student), top_k=99)
    signs = {name: name.replace("\n", "␊") for name in HOSTILE}
    expected = [{signs[each["label"]]: each["score"] for each in classify(str(path))} for path in files]

    async def visit() -> list[dict[str, float]]:
        async with open_page(site.address, tmp_path / "profile", route=site.route()) as page:
            await page.until(ENDED)
            found = [await choose(page, path) for path in files]
            assert page.errors == []
            assert {each for each in page.requests if each.startswith(HUB)} >= {
                f"{HUB}me/x/resolve/{COMMIT}/onnx/{name}"
                for name in ("config.json", "preprocessor_config.json", "model.onnx")
            }
            return found

    for path, wanted, found in zip(files, expected, asyncio.run(visit()), strict=True):
        assert found == pytest.approx(wanted, abs=1e-5), path.name
    assert len(files) >= 30 and len({max(each, key=each.get) for each in expected}) > 1, "images must differ"


def test_a_visitor_finds_an_answer_and_tries_others(site, student, tmp_path):
    classify = pipeline("image-classification", model=str(student))
    expected = [[each["label"].replace("\n", "␊") for each in classify(str(path))] for path in site.examples]

    async def visit() -> None:
        async with open_page(site.address, tmp_path / "profile", size=(390, 844), route=site.route()) as page:
            await page.until(ENDED)
            shown = await page.value(CLASSES)
            assert [name for name, _, _ in shown] == expected[0], "the page opens with an answer, in order"
            assert [text for _, _, text in shown] == [f"{100 * share:.1f}%" for _, share, _ in shown]
            assert await page.value("document.title") == f"x, trained on {2 * len(HOSTILE)} images"
            assert await page.value("document.querySelectorAll('img[src=x]').length") == 0
            assert await page.value("document.documentElement.scrollWidth") <= 390, "wider than the screen"
            # By keys alone: from the field of the file to the third example.
            await page.value("document.querySelector('#file').focus()")
            for _ in range(3):
                await page.press("Tab")
            await page.value("document.body.dataset.state = ''")
            await page.press("Enter")
            await page.until(ENDED)
            assert await page.value(PRESSED) == ["false", "false", "true", "false", "false", "false"]
            assert [name for name, _, _ in await page.value(CLASSES)] == expected[2]
            for event, place in (("drop", "dataTransfer"), ("paste", "clipboardData")):
                await page.value("document.body.dataset.state = ''")
                await page.value(BRING % (event, place))
                await page.until(ENDED)
                assert [name for name, _, _ in await page.value(CLASSES)] == expected[1], event
                assert await page.value(PRESSED) == ["false"] * 6
            assert page.errors == []

    asyncio.run(visit())


def test_an_example_that_comes_late_does_not_replace_what_the_visitor_chose_meanwhile(site, student, tmp_path):
    texture(3, (90, 70)).save(tmp_path / "mine.png")
    classify = pipeline("image-classification", model=str(student), top_k=1)
    expected = [classify(str(path))[0]["score"] for path in (tmp_path / "mine.png", site.examples[0])]
    slow = """
        const [get, sent] = [fetch, new Promise((send) => (window.send = send))];
        window.fetch = async (what, ...more) => {
            if (String(what).endsWith(".png")) await sent;
            return get(what, ...more);
        };"""

    async def visit() -> float:
        async with open_page(site.address, tmp_path / "profile", route=site.route(), before=slow) as page:
            await page.until("document.body.dataset.state === 'wait'")
            shares = list((await choose(page, tmp_path / "mine.png")).values())
            await page.value("send()")
            await asyncio.sleep(1)
            assert [share for _, share, _ in await page.value(CLASSES)] == shares
            return shares[0]

    assert asyncio.run(visit()) == pytest.approx(expected[0], abs=1e-5) != pytest.approx(expected[1], abs=1e-5)


def test_an_image_that_will_not_do_gets_a_sentence_and_the_next_an_answer(site, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    texture(0, (2000, 3)).save(tmp_path / "strip.png")
    Image.fromarray(np.arange(1300, dtype=np.uint16).reshape(26, 50)).save(tmp_path / "wide.png")
    texture(0, (90, 70)).save(tmp_path / "good.png")

    async def visit() -> None:
        async with open_page(site.address, tmp_path / "profile", route=site.route()) as page:
            await page.until(ENDED)
            for name, words in (
                ("text.png", "This file is no image"), ("strip.png", "A strip of 2000 x 3"), ("wide.png", "16 bits"),
            ):  # fmt: skip
                assert await choose(page, tmp_path / name) == {}
                assert words in await page.value(ERROR), name
                assert len(await choose(page, tmp_path / "good.png")) == 5 and await page.value(ERROR) == ""
            assert page.errors == []

    asyncio.run(visit())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instead": {CDN: None}}, "The program that runs the model did not come from cdn.jsdelivr.net."),
        ({"instead": {HUB: None}}, "The model me/x did not come from the Hub"),
        ({"instead": {HUB: "nothing/"}}, "The Hub does not give out me/x: it is private, or no longer there"),
        ({"before": "delete globalThis.WebAssembly"}, "This browser cannot run the model"),
    ],
    ids=["no library", "no Hub", "no model", "no WebAssembly"],
)
def test_what_is_missing_is_said(changes, words, site, tmp_path):
    async def visit() -> str:
        places = site.route(changes.get("instead", {}))
        before = changes.get("before", "")
        async with open_page(site.address, tmp_path / "profile", route=places, before=before) as page:
            await page.until(ENDED)
            assert page.errors == [] and await page.value(CLASSES) == []
            return await page.value(ERROR)

    assert asyncio.run(visit()).startswith(words)
