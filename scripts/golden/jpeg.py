"""Small JPEGs of every kind, and the SHA-256 of the RGB bytes that Pillow decodes each to: tests/golden/jpeg/.

    python scripts/golden/jpeg.py write    # creates files and hashes; needs cjpeg of libjpeg-turbo (libjpeg-turbo-progs)
    python scripts/golden/jpeg.py check    # compares the files with the Pillow at hand

Written with Pillow 9.5.0 (libjpeg-turbo 2.1.5.1) and cjpeg 2.1.5. `check` passes under Pillow 9.5.0, which the published
code pins, and under 12.3.0 (libjpeg-turbo 3.1.4.1): the two decode every file alike. Both were wheels for x86-64, which
decode in vector instructions.
"""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import PIL
from PIL import Image, ImageFile

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests/golden/jpeg"
HASHES = FOLDER / "hashes.json"
PHOTO = ROOT / "tests/golden/images/china.jpg"

SAMPLING = {
    "444": "1x1",
    "422": "2x1",
    "440": "1x2",
    "420": "2x2",
    "411": "4x1",
    "410": "4x2",
    "441": "1x4",
    "three_to_one": "3x1",
    "one_to_three": "1x3",
    "four_to_one_both_ways": "2x4",
    "luma_coarser": "1x1,2x2,2x2",
    "luma_coarser_horizontally": "1x1,2x1,2x1",
    "mixed": "2x2,2x1,1x2",
    "unlike_chroma": "2x2,1x1,2x1",
}

FIRST_ORDER = """
0 1 2: 0-0, 0, 3; 0: 1-63, 0, 2; 1: 1-5, 0, 1; 2: 1-63, 0, 0; 1: 6-63, 0, 1;
0 1 2: 0-0, 3, 2; 0: 1-63, 2, 1; 0 1 2: 0-0, 2, 1; 0 1 2: 0-0, 1, 0; 0: 1-63, 1, 0; 1: 1-63, 1, 0;
"""

SCANS = {
    "each_alone": "0; 1; 2;",
    "chroma_first": "1 2; 0;",
    "luma_alone": "0; 1 2;",
    "progressive_own_order": FIRST_ORDER,
}

OPTIONS = {
    "progressive": ["-progressive"],
    "arithmetic": ["-arithmetic"],
    "arithmetic_progressive": ["-arithmetic", "-progressive"],
    "arithmetic_restarts": ["-arithmetic", "-restart", "2B"],
    "restarts": ["-restart", "1"],
    "restarts_by_block": ["-restart", "1B"],
    "progressive_restarts": ["-progressive", "-restart", "3B"],
    "optimized": ["-optimize"],
    "coarse": ["-quality", "1"],
    "fine": ["-quality", "100"],
    "gray": ["-grayscale"],
    "gray_sampled": ["-grayscale", "-sample", "2x2"],
    "gray_progressive": ["-grayscale", "-progressive"],
    "rgb": ["-rgb"],
    "rgb_sampled": ["-rgb", "-sample", "2x2"],
}

SIZES = [(1, 1), (2, 2), (3, 5), (4, 17), (5, 3), (8, 8), (17, 16)]


def photo(width=45, height=37):
    return Image.open(PHOTO).convert("RGB").resize((width, height), Image.BICUBIC)


def noise(width, height):
    """Pixels that no transform can hold: samples overshoot."""
    state, values = 1, bytearray()
    for _ in range(width * height * 3):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        values.append(255 * (state >> 16 & 1))
    return Image.frombytes("RGB", (width, height), bytes(values))


def cjpeg(image, options):
    ppm = io.BytesIO()
    image.save(ppm, "PPM")
    return subprocess.run(["cjpeg", *options], input=ppm.getvalue(), check=True, stdout=subprocess.PIPE).stdout


def scans(text):
    path = FOLDER / "scans.txt"
    path.write_text(text)
    try:
        return cjpeg(photo(), ["-scans", str(path)])
    finally:
        path.unlink()


def cmyk(**options):
    jpeg = io.BytesIO()
    photo().convert("CMYK").save(jpeg, "JPEG", **options)
    return jpeg.getvalue()


def with_adobe(jpeg, at, value):
    """Changes a byte of Adobe's segment, counted from its name."""
    changed = bytearray(jpeg)
    changed[jpeg.index(b"Adobe") + at] = value
    return bytes(changed)


def without_huffman_tables(jpeg):
    while (at := jpeg.find(b"\xff\xc4")) >= 0:
        jpeg = jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]
    return jpeg


def files():
    yield from ((name, cjpeg(photo(), ["-sample", factors])) for name, factors in SAMPLING.items())
    yield from ((name, scans(text)) for name, text in SCANS.items())
    yield from ((name, cjpeg(photo(), options)) for name, options in OPTIONS.items())
    yield from ((f"size_{w}x{h}", cjpeg(photo(w, h), [])) for w, h in SIZES)
    yield "noise", cjpeg(noise(24, 24), ["-quality", "1", "-sample", "1x1"])
    yield "cmyk", cmyk()
    yield "cmyk_progressive", cmyk(progressive=True)
    yield "cmyk_without_adobe", with_adobe(cmyk(), 0, ord("a"))
    yield "ycck", with_adobe(cmyk(), 11, 2)
    plain = cjpeg(photo(), [])
    yield "without_huffman_tables", without_huffman_tables(plain)
    yield "without_end", plain[:-2]
    yield "progressive_without_end", cjpeg(photo(), ["-progressive"])[:-2]
    yield "stray_bytes", plain[:-2] + b"\x12\xff\x00\x34" + plain[-2:]


# As the published code does: a file may lack its end marker.
ImageFile.LOAD_TRUNCATED_IMAGES = True


def decoded(path):
    return hashlib.sha256(Image.open(path).convert("RGB").tobytes()).hexdigest()


def hashes():
    return {path.name: decoded(path) for path in sorted(FOLDER.glob("*.jpg"))}


def write():
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.jpg"):
        old.unlink()
    for name, jpeg in files():
        (FOLDER / f"{name}.jpg").write_bytes(jpeg)
    HASHES.write_text(json.dumps(hashes(), indent=1) + "\n")


def check():
    expected, got = json.loads(HASHES.read_text()), hashes()
    different = [name for name in expected if got.get(name) != expected[name]]
    if different or got.keys() != expected.keys():
        sys.exit(f"Pillow {PIL.__version__} decodes otherwise: {different or got.keys() ^ expected.keys()}")
    print(f"Pillow {PIL.__version__} decodes all {len(got)} files alike")


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]]()
