"""All forms of an image give the same rewards."""

import base64
import io
import pathlib

import numpy
import pytest
from conftest import GOLDEN, IMAGE
from PIL import Image

from seeward import errors

CONTENT = IMAGE.read_bytes()
PIXELS = numpy.asarray(Image.open(IMAGE).convert("RGB"))


@pytest.mark.parametrize(
    "image",
    [
        str(IMAGE),
        IMAGE.as_uri(),
        "data:image/png;base64," + base64.b64encode(CONTENT).decode(),
        CONTENT,
        bytearray(CONTENT),
        memoryview(CONTENT),
        numpy.frombuffer(CONTENT, numpy.uint8),
        Image.open(IMAGE),
        PIXELS,
        numpy.asfortranarray(PIXELS),
        numpy.repeat(PIXELS, 2, axis=0)[::2],
        PIXELS[::-1].copy()[::-1],
        memoryview(numpy.ascontiguousarray(PIXELS)),
        {"bytes": CONTENT, "path": None},
        {"bytes": None, "path": str(IMAGE)},
        {"bytes": None, "path": pathlib.Path(IMAGE)},
        (IMAGE,),
    ],
    ids=lambda image: type(image).__name__,
)
def test_every_form_is_the_same_image(model, image):
    assert model.score("q", ["a", "b"], image) == model.score("q", ["a", "b"], IMAGE)


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK", "I;16", "1"])
def test_modes_are_converted_as_pillow_does(model, mode, tmp_path):
    image = Image.open(GOLDEN / "images" / "vqa1.png").convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(numpy.asarray(image).astype(numpy.uint16) * 200)
    assert image.mode == mode
    pixels = numpy.asarray(image.convert("RGB"))
    assert model.score("q", ["a"], image) == model.score("q", ["a"], pixels)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (7, TypeError, "image: expected a path, bytes, a PIL image, a uint8 array .* got int"),
        (PIXELS.astype(float), TypeError, "image: expected values of type uint8"),
        (PIXELS[:, :, 0], ValueError, r"image: expected the shape \[height, width, 3\], got \[\d+, \d+\]"),
        (numpy.moveaxis(PIXELS, 2, 0), ValueError, "image: expected the shape"),
        (PIXELS[:0], ValueError, "image: "),
        ({"url": "a.png"}, ValueError, "image: expected bytes or path, got a dictionary with neither"),
        ("https://x.org/a.png", ValueError, "images: .*expected a file, got an address"),
        ("", ValueError, "images: expected a path, got an empty"),
        ("data:image/png,x", ValueError, "images: .*expected a data URL in base64"),
        (b"no image", errors.ImageError, "image 1: "),
        ("no.png", errors.ImageError, "image no.png: "),
        ([IMAGE, b""], errors.ImageError, "image 2: "),
    ],
    ids=repr,
)
def test_what_is_no_image_says_what_is_expected(model, image, error, message):
    with pytest.raises(error, match=message):
        model.score("q", ["a"], image)


def test_arrays_of_other_libraries_are_named_with_the_cure(model):
    class Tensor:
        def numpy(self):
            return PIXELS

    with pytest.raises(TypeError, match=r"got Tensor: give image.numpy\(\)"):
        model.score("q", ["a"], Tensor())


def test_an_image_that_pillow_cannot_decode_is_its_requests_error(model):
    cut = Image.open(io.BytesIO(CONTENT[: len(CONTENT) // 2]))
    good = {"prompt": "q", "responses": ["a"]}
    bad, scored = model.score_batch([{**good, "images": cut}, good])
    assert isinstance(bad, errors.RequestError) and isinstance(bad.__cause__, OSError), bad
    assert scored.rewards == model.score("q", ["a"])


def test_jpegs_have_the_pixels_of_pillow(model):
    path = GOLDEN / "images" / "china.jpg"
    assert model.score("q", ["a", "b"], Image.open(path)) == model.score("q", ["a", "b"], path)
