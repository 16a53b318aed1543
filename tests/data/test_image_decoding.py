"""Pixels: those of transformers' pipelines, or by a full scale where these would clip."""

import io

import numpy as np
import pytest
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from transformers.image_utils import load_image

from hf_vipriors.data import ResizeCrop, decode
from hf_vipriors.data.image_decoding import read_header, read_pixels, read_square
from hf_vipriors.errors import InputError


def photo(mode="RGB", size=(37, 23)):
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode)


def record(image, file_format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return {"bytes": buffer.getvalue(), "path": None}


CASES = {
    "rgb": (photo("RGB"), "PNG", "RGB"),
    "grey": (photo("L"), "PNG", "L"),
    "palette": (photo("RGB").quantize(16), "PNG", "RGB"),
    "palette gif": (photo("RGB").quantize(16), "GIF", "RGB"),
    "grey with alpha": (photo("LA"), "PNG", "L"),
    "colour with alpha": (photo("RGBA"), "PNG", "RGB"),
    "cmyk": (photo("CMYK"), "TIFF", "RGB"),
    "cmyk jpeg": (photo("CMYK"), "JPEG", "RGB"),
    "one bit": (photo("1"), "PNG", "L"),
    "ycbcr": (photo("YCbCr"), "JPEG", "RGB"),
}


@pytest.mark.parametrize("case", CASES)
def test_pixels_are_those_of_transformers_pipelines(case, tmp_path):
    image, file_format, mode = CASES[case]
    if image.mode in ("LA", "RGBA"):  # an alpha channel that would show if it were blended in
        image.putalpha(Image.fromarray(np.random.default_rng(2).integers(0, 256, (23, 37), dtype=np.uint8)))
    encoded = record(image, file_format)
    path = tmp_path / "image"
    path.write_bytes(encoded["bytes"])
    expected = np.asarray(load_image(str(path)))
    for source in (encoded, {"bytes": None, "path": str(path)}):
        decoded = decode(source)
        assert decoded.mode == mode
        assert np.array_equal(np.asarray(decoded.convert("RGB")), expected)
        assert read_header(source).gray == (mode == "L")


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation, mode, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = record(photo(mode), "JPEG", exif=exif)
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded["bytes"])
    decoded = decode(encoded)
    assert decoded.size == ((37, 23) if orientation < 5 else (23, 37))
    assert np.array_equal(np.asarray(decoded.convert("RGB")), np.asarray(load_image(str(path))))


def grey(values, dtype):
    return np.array([values, values], dtype=dtype)


NAN, INF = float("nan"), float("inf")
WIDE = [  # values, type, format, full scale: what they become
    ([0, 257, 32896, 65535], "uint16", "PNG", 65535, [0, 1, 128, 255]),  # mode I;16
    ([0, 257, 32896, 65535], "uint16", "TIFF", 65535, [0, 1, 128, 255]),
    ([0, 257, 32896, 65535], ">u2", "TIFF", 65535, [0, 1, 128, 255]),  # big-endian, mode I;16B
    ([0, 256, 2048, 5000], "uint16", "PNG", 4095, [0, 16, 128, 255]),  # clipped at the full scale
    ([-100, 0, 2048, 100000], "int32", "TIFF", 4095, [0, 0, 128, 255]),  # mode I
    ([NAN, 0.5, INF, -INF], "float32", "TIFF", 1, [0, 128, 255, 0]),  # mode F
]


def wide(values, dtype, file_format):
    pixels = grey(values, dtype)
    image = Image.frombytes("I;16B", (len(values), 2), pixels.tobytes()) if dtype == ">u2" else Image.fromarray(pixels)
    return image, record(image, file_format)


@pytest.mark.parametrize(("values", "dtype", "file_format", "full_scale", "expected"), WIDE)
def test_wide_gray_images_become_8_bits_by_the_full_scale_of_the_data_set(
    values, dtype, file_format, full_scale, expected
):
    image, encoded = wide(values, dtype, file_format)
    assert read_header(encoded).gray
    decoded = decode(encoded, full_scale)
    assert decoded.mode == "L" and np.asarray(decoded).tolist() == [expected, expected]
    if np.isfinite(values).all():  # as the card says
        converted = np.clip(np.rint(np.asarray(image, float) * (255 / full_scale)), 0, 255).astype("uint8")
        assert np.array_equal(np.asarray(decoded), converted)


@pytest.mark.parametrize(
    ("values", "dtype", "file_format"),
    [
        ([0, 1, 128, 255], "uint16", "PNG"),
        ([0, 1, 128, 255], ">u2", "TIFF"),
        ([0, 1, 128, 255], "int32", "TIFF"),
        ([0.0, 64.4, 128.7, 255.0], "float32", "TIFF"),
        ([0.0, 1.0, 1.0, NAN], "float32", "TIFF"),  # a mask
    ],
)
def test_8_bits_in_a_wide_file_are_decoded_as_pipelines_decode_them(values, dtype, file_format, tmp_path):
    encoded = wide(values, dtype, file_format)[1]
    (tmp_path / "image").write_bytes(encoded["bytes"])
    expected = np.asarray(load_image(str(tmp_path / "image")))[:, :, 0]
    assert np.array_equal(np.asarray(decode(encoded)), expected)


@pytest.mark.parametrize(
    ("values", "dtype", "file_format"),
    [
        ([0, 1, 128, 256], "uint16", "PNG"),
        ([0, 1, 128, 256], ">u2", "TIFF"),
        ([-1, 1, 128, 255], "int32", "TIFF"),
        ([0.0, 64.0, 128.0, 255.5], "float32", "TIFF"),
        ([0.0, 0.25, 0.5, 1.0], "float32", "TIFF"),  # as pipelines convert them: black
    ],
)
def test_values_that_8_bits_cannot_hold_are_refused_without_a_full_scale(values, dtype, file_format):
    with pytest.raises(InputError, match=r"^image 'bytes': its gray values, .* do not fit 8 bits: give full_scale N"):
        decode(wide(values, dtype, file_format)[1])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
@pytest.mark.parametrize("size", [(37, 23), (23, 37), (40, 40), (9, 80), (8, 8)])
def test_geometry_is_that_of_timms_evaluation(size, interpolation, mode):
    image = photo(mode, size)
    resize, crop = transforms_imagenet_eval(img_size=21, crop_pct=0.875, interpolation=interpolation).transforms[:2]
    expected = crop(resize(image.convert("RGB")))
    ours = ResizeCrop(resize=24, crop=21, interpolation=interpolation)(image)
    assert ours.mode == mode
    assert np.array_equal(np.asarray(ours.convert("RGB")), np.asarray(expected))


def test_a_crop_larger_than_the_image_is_padded_with_black():
    image = ResizeCrop(resize=8, crop=10)(Image.new("L", (8, 8), 200))
    assert np.asarray(image)[0].tolist() == [0] * 10
    assert np.asarray(image)[5].tolist() == [0, *[200] * 8, 0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image at all", "not an image that Pillow knows"),
        (b"", "the file is empty"),
        (b"no image", "not an image that Pillow knows"),
        (record(photo("RGB"), "JPEG")["bytes"][:-200], "truncated"),
        (record(photo("RGB"), "PNG")["bytes"][:60], "unreadable image"),
    ],
)
def test_an_unreadable_image_is_named_in_one_line(content, reason, tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason) as raised:
        decode({"bytes": None, "path": str(path)})
    assert repr(str(path)) in raised.value.on_command_line and "\n" not in raised.value.on_command_line


@pytest.mark.parametrize("missing", [None, {"bytes": None, "path": None}, {"bytes": None, "path": "nowhere.png"}])
def test_a_missing_image_is_an_input_error(missing):
    with pytest.raises(InputError, match="holds no image|no such file"):
        decode(missing)


def test_a_link_to_itself_is_named_without_the_words_of_the_system(tmp_path):
    (tmp_path / "link.png").symlink_to("link.png")
    with pytest.raises(InputError, match=r"link.png'.*too many levels of symbolic links; mend"):
        decode({"bytes": None, "path": str(tmp_path / "link.png")})


def test_the_guard_against_decompression_bombs_stays_on(monkeypatch):
    encoded = record(photo("L"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(InputError, match="decompression bomb"):
        decode(encoded)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 8), "at least 1"), ((8, -1), "at least 1"), ((8, 8, "bicubik"), "did you mean 'bicubic'")],
)
def test_impossible_geometry_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        ResizeCrop(*arguments)


def scenery(size, orientation=1):
    """A large JPEG with broad shapes and fine grain."""
    y, x = np.mgrid[: size[1], : size[0]]
    waves = [np.sin(x / period) * np.cos(y / (period + 7)) for period in (9, 60, 350)]
    grain = np.random.default_rng(0).normal(0, 12, (size[1], size[0], 3))
    pixels = 128 + 40 * np.stack([waves[0] + waves[1], waves[1] - waves[2], waves[2]], axis=2) + grain
    exif = Image.Exif()
    exif[0x0112] = orientation
    return record(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), "JPEG", quality=90, exif=exif)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("kept", "fraction"), [(91, 2), (90, 4), (46, 4), (45, 8), (20, 8), (181, 1)], ids=lambda value: str(value)
)
def test_a_large_jpeg_is_decoded_at_a_fraction_that_leaves_twice_what_is_kept(kept, fraction, orientation):
    image = scenery((960, 720), orientation)
    size = (960 // fraction, 720 // fraction)
    assert read_pixels(image, 2 * kept).size == (size if orientation == 1 else size[::-1])
    assert read_pixels(image).size == decode(image).size == ((960, 720) if orientation == 1 else (720, 960))


def test_pixels_of_a_fraction_differ_little_and_only_where_asked_for():
    image, geometry = scenery((960, 720)), ResizeCrop(80, 64)
    whole, fraction = (read_square(image, geometry, 3, reduced=reduced).astype(int) for reduced in (False, True))
    assert np.array_equal(whole.transpose(1, 2, 0), np.asarray(geometry(decode(image))))
    difference = np.abs(whole - fraction)
    assert 0 < difference.mean() < 1 and difference.max() <= 12


def test_a_small_jpeg_and_a_png_are_decoded_whole():
    for image in (scenery((150, 140)), record(photo("RGB", (960, 720)))):
        whole, asked = (read_square(image, ResizeCrop(80, 64), 3, reduced=reduced) for reduced in (False, True))
        assert np.array_equal(whole, asked)


def test_a_truncated_jpeg_is_found_at_an_eighth_too():
    whole = scenery((960, 720))["bytes"]
    with pytest.raises(OSError, match="truncated"):
        read_pixels({"bytes": whole[:-2000], "path": None}, at_least=1)
