"""Demo of a classifier that learnt from few images: its answer, why, and the training images most like yours.

``python app.py`` starts it. ``settings.json`` says which model on the Hub answers and what the page tells of it;
``neighbours.safetensors`` and ``thumbnails.png`` hold the training images it compares with. Another place of the
model, such as a folder on this machine, is given by the environment variable ``SPACE_MODEL``.

References:
    [0] SmoothGrad: removing noise by adding noise, https://arxiv.org/abs/1706.03825
"""

import base64
import html
import io
import json
import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torch.nn.functional import normalize
from torchvision.transforms.functional import gaussian_blur
from transformers import AutoImageProcessor, AutoModelForImageClassification

HERE = Path(__file__).parent
CLASSES_SHOWN = 5
NEIGHBOURS_SHOWN = 8
PANEL_HEIGHT = 340
MAP_SIDE = 448  # pixels of the saliency image on the page
LONGEST = 100  # times the shorter side: resized for the network, a longer strip would not fit into memory
# SmoothGrad: noisy copies, their noise as a share of the image's range, the blur as a share of its side, and the
# share of the sorted gradients that is shown below full strength.
COPIES, NOISE, BLUR, FULL_STRENGTH = 25, 0.15, 0.03, 0.99
COPIES_AT_ONCE = 5
ORANGE = (255.0, 140.0, 0.0)
CONTROLS = {code: 0x2400 + code for code in range(32)}  # a line end in the name of a class is shown as a sign
MAP_LABEL = "Pixels that speak for or against"
# Small images are drawn as large as their frame, and the page never wider than a line can be read.
CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto; }
#image img, #pixels img { width: 100%; height: 100%; object-fit: contain; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(84px, 1fr)); gap: 12px; padding-top: 28px; }
.cards figure { margin: 0; text-align: center; line-height: 1.35; overflow-wrap: anywhere; }
.cards figcaption { white-space: pre-wrap; }
.cards img { width: 100%; max-width: 160px; border-radius: 6px; }
"""


class Refused(ValueError):
    """An image that cannot be answered; the message is one line for whoever brought it."""


def read(path: str, full_scale: float | None = None) -> Image.Image:
    """Any image that Pillow knows, upright and as RGB.

    Args:
        path: of the file.
        full_scale: the value of gray images of more than 8 bits that becomes 255, as in the model's training; None:
            it was trained on images of 8 bits, and gets no others here.

    Raises:
        Refused: no image, too many pixels, too narrow, or gray values that do not fit 8 bits.
    """
    try:
        with Image.open(path) as opened:
            wide = opened.mode in ("I", "F") or opened.mode.startswith("I;")
            image = ImageOps.exif_transpose(opened)
        image = (to_8_bits(image, full_scale) if wide else image).convert("RGB")
    except Image.DecompressionBombError:
        most = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise Refused(f"This image has more than {most} million pixels: please make it smaller.") from None
    except Refused:
        raise
    except Exception:  # Pillow's plugins raise many types: OSError, SyntaxError, struct.error, ...
        raise Refused("This file is no image that can be read here: please try a JPEG or a PNG.") from None
    if max(image.size) > LONGEST * min(image.size):
        width, height = image.size
        raise Refused(f"A strip of {width} x {height} pixels shows too little: please choose a wider image.")
    return image


def to_8_bits(image: Image.Image, full_scale: float | None) -> Image.Image:
    """Scale a gray image of 16 or 32 bits or floats as :func:`read` says; pixels that are no number count as 0."""
    values = np.asarray(image, dtype=np.float64)
    if full_scale is not None:
        values = np.nan_to_num(values, nan=0.0, posinf=full_scale, neginf=0.0)
        return Image.fromarray(np.clip(np.rint(values * (255 / full_scale)), 0, 255).astype(np.uint8))
    finite = values[np.isfinite(values)]
    high = finite.max(initial=0)
    if finite.min(initial=0) < 0 or high > 255 or (image.mode == "F" and high <= 1 and (finite % 1).any()):
        raise Refused("The gray values of this image do not fit 8 bits, which the model knows: please convert it.")
    return image


class Classifier:
    """The model, its own preprocessing, and the training images.

    Args:
        folder: of this Space.
        model: where the model is, a Hub id or a folder; None (default): what the settings say.

    Raises:
        ValueError: the model is not the one whose features lie here.
    """

    def __init__(self, folder: Path, model: str | None = None) -> None:
        self.settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        place = model or self.settings["model"]
        self.processor = AutoImageProcessor.from_pretrained(place)
        self.model = AutoModelForImageClassification.from_pretrained(place).eval().requires_grad_(False)
        self.full_scale = self.model.config.to_dict().get("full_scale")
        labels = self.model.config.id2label
        self.names = [labels[number].translate(CONTROLS) for number in range(len(labels))]
        self.examples = [str(folder / name) for name in self.settings["examples"]]
        bank = load_file(folder / "neighbours.safetensors")
        self.bank, self.labels = bank["features"].float(), bank["labels"].tolist()
        with Image.open(folder / "thumbnails.png") as sheet:
            self.sheet = sheet.convert("RGB")
        # Features of another training would be compared without an error, and mean nothing.
        probe = self.features(torch.linspace(-2, 2, 3 * self.side**2).reshape(1, 3, self.side, self.side))
        if probe.shape[1] != self.bank.shape[1] or probe[0] @ bank["probe"] < 0.999:
            raise ValueError(
                f"{place} is no longer the model of {folder}/neighbours.safetensors: write the Space anew"
            )

    @property
    def side(self) -> int:
        """Of the square that the network reads, in pixels."""
        return self.processor.data_config["input_size"][-1]

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """As the model's own preprocessing gives them: (1, 3, S, S)."""
        return self.processor(image, return_tensors="pt")["pixel_values"]

    @torch.no_grad()
    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pooled features of unit length: (B, D)."""
        network = self.model.timm_model
        return normalize(network.forward_head(network.forward_features(pixels), pre_logits=True), dim=1)

    @torch.no_grad()
    def probabilities(self, image: Image.Image) -> dict[str, float]:
        """Of every class, those of ``pipeline("image-classification")``."""
        shares = self.model(self.pixels(image)).logits[0].softmax(dim=0).tolist()
        return dict(zip(self.names, shares, strict=True))

    def neighbours(self, image: Image.Image) -> list[tuple[int, float]]:
        """The training images most like this one to the network: number and cosine similarity, best first."""
        cosines = (self.bank @ self.features(self.pixels(image))[0]).clamp(-1, 1)
        best = cosines.topk(min(NEIGHBOURS_SHOWN, len(cosines)))
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def thumbnail(self, number: int) -> Image.Image:
        """One tile of the sheet, where they lie row by row."""
        side, columns = self.settings["tile"], self.sheet.width // self.settings["tile"]
        left, top = side * (number % columns), side * (number // columns)
        return self.sheet.crop((left, top, left + side, top + side))

    def gallery(self, image: Image.Image) -> str:
        """The nearest training images as HTML, each with its class and its similarity."""
        cards = []
        for number, cosine in self.neighbours(image):
            png = io.BytesIO()
            self.thumbnail(number).save(png, "PNG")
            name, data = html.escape(self.names[self.labels[number]]), base64.b64encode(png.getvalue()).decode()
            cards.append(
                f'<figure><img src="data:image/png;base64,{data}" alt="{name}">'
                f"<figcaption>{name}<br><b>{cosine:.2f}</b></figcaption></figure>"
            )
        return f'<div class="cards">{"".join(cards)}</div>'

    def saliency(self, image: Image.Image, name: str) -> np.ndarray:
        """SmoothGrad [0]: how strongly each pixel moves the logit of one class; (S, S) within 0 and 1."""
        pixels, wanted = self.pixels(image)[0], self.names.index(name)
        width = NOISE * (pixels.amax() - pixels.amin())
        generator = torch.Generator().manual_seed(0)
        noisy = torch.stack([pixels + width * torch.randn(pixels.shape, generator=generator) for _ in range(COPIES)])
        gradients = []
        for part in noisy.split(COPIES_AT_ONCE):
            logits = self.model(part.requires_grad_()).logits[:, wanted]
            gradients.append(torch.autograd.grad(logits.sum(), part)[0])
        found = torch.cat(gradients).mean(dim=0).abs().amax(dim=0)
        blur = BLUR * self.side
        reach = min(math.ceil(3 * blur), self.side - 1)
        found = gaussian_blur(found[None], [2 * reach + 1] * 2, [blur, blur])[0].numpy()
        # Where almost all of a map is zero, its greatest value is the scale.
        full = np.quantile(found, FULL_STRENGTH) or found.max()
        return np.clip(found / full, 0, 1) if full > 0 else np.zeros_like(found)

    def seen(self, image: Image.Image) -> Image.Image:
        """The square that the preprocessing keeps, in the image's own sharpness."""
        kept = self.side / math.floor(self.side / self.processor.data_config["crop_pct"])
        return ImageOps.fit(image, (MAP_SIDE, MAP_SIDE), Image.Resampling.BICUBIC, bleed=(1 - kept) / 2)

    def overlay(self, image: Image.Image, name: str) -> Image.Image:
        """The image in gray, darker, under its saliency in orange."""
        gray = np.asarray(self.seen(image), dtype=float).mean(axis=2, keepdims=True)
        small = Image.fromarray(self.saliency(image, name).astype(np.float32))
        share = np.asarray(small.resize((MAP_SIDE, MAP_SIDE), Image.Resampling.BILINEAR))[..., None]
        return Image.fromarray(((1 - share) * 0.6 * gray + share * np.array(ORANGE)).round().astype(np.uint8))


def hand_on(field) -> None:
    """Let a ``gradio.Image`` hand on every file, also one that it cannot open: :func:`read` says what is wrong.

    A method of its own and not a subclass, for which gradio would write ``app.pyi`` beside this program.
    """
    opened = field.preprocess

    def preprocess(payload):
        try:
            return opened(payload)
        except Exception:  # whatever Pillow raises
            return payload.path

    field.preprocess = preprocess


def build_page(classifier: Classifier):
    """The page, a ``gradio.Blocks``."""
    import gradio as gr  # here, for all above can be used and tested without it

    def answer(path: str | None):
        """Class probabilities, the nearest training images, and a line where there is no answer."""
        nothing_wrong = gr.Markdown("", visible=False)
        if path is None:
            return nothing_wrong, {}, ""
        try:
            image = read(path, classifier.full_scale)
        except Refused as reason:
            return gr.Markdown(f"⚠️ {reason}", visible=True), {}, ""
        return nothing_wrong, classifier.probabilities(image), classifier.gallery(image)

    def explain(path: str | None, name: str | None = None):
        """The saliency of one class laid over the image; without a name, of the most probable one."""
        try:
            image = None if path is None else read(path, classifier.full_scale)
        except Refused:  # answer() has said why
            image = None
        if image is None:
            return gr.Image(None, label=MAP_LABEL)
        shares = classifier.probabilities(image)
        name = name if name in shares else max(shares, key=shares.get)
        return gr.Image(classifier.overlay(image, name), label=f"{MAP_LABEL} “{name}”")

    def explain_chosen(path: str | None, chosen: gr.SelectData):
        return explain(path, chosen.value)

    settings = classifier.settings
    with gr.Blocks(title=settings["title"], analytics_enabled=False) as page:
        gr.Markdown(settings["description"])
        with gr.Row(equal_height=True):
            with gr.Column():
                image = gr.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "webcam", "clipboard"],
                    label="Your image",
                    height=PANEL_HEIGHT,
                    elem_id="image",
                )
                hand_on(image)
                note = gr.Markdown(visible=False, elem_id="note")
            with gr.Column():
                classes = gr.Label(
                    num_top_classes=CLASSES_SHOWN,
                    label="Answer (choose a class to see its pixels)",
                    elem_id="classes",
                )
            with gr.Column():
                pixels = gr.Image(
                    label=MAP_LABEL,
                    interactive=False,
                    buttons=["fullscreen"],
                    height=PANEL_HEIGHT,
                    elem_id="pixels",
                )
        if classifier.examples:
            gr.Examples(classifier.examples, image, label="Or try one of these; none of them was used for training")
        gallery = gr.HTML(label="Nearest training images", show_label=True, container=True, elem_id="neighbours")
        gr.Markdown(settings["how_to_read"])
        asked = image.change(answer, image, [note, classes, gallery], trigger_mode="always_last")
        asked.then(explain, image, pixels)
        classes.select(explain_chosen, image, pixels, api_visibility="private")
        if classifier.examples:  # the page opens with an answer, so that its visitors see what to expect
            page.load(lambda: classifier.examples[0], None, image, api_visibility="private")
    return page


def main() -> None:
    """Start the page."""
    import gradio as gr

    page = build_page(Classifier(HERE, os.environ.get("SPACE_MODEL")))
    # The visitor's own fonts: nothing is fetched from elsewhere.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    page.launch(theme=theme, css=CSS, footer_links=["api", "gradio", "settings"])


if __name__ == "__main__":
    main()
