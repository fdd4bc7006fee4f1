"""Writes the Parquet files of the import's tests: a few rows each in the published columns of a set, with drawn images.

    pip install pyarrow==26.0.1 pillow==13.0.0
    python runtime/cli/tests/parquet/write.py

The rows are made up; the columns are those that the sets' dataset cards list.
"""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).parent
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def drawn(number, kind="png"):
    """A small image that no other number has."""
    image = Image.new("RGB", (16, 12), (40 * number % 256, 90, 200 - 30 * number % 200))
    image.putpixel((number % 16, 3), (255, 255, 255))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def embedded(number, kind="png"):
    return {"bytes": drawn(number, kind), "path": f"{number}.{kind}"}


def write(name, rows, schema, **options):
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, HERE / f"{name}.parquet", **options)


def rlhf_v():
    text = {"question": "What is in the image?", "chosen": "A line.", "rejected": "A dog."}
    rows = [
        {
            "ds_name": "RLHF-V",
            "image": embedded(number % 3),
            "text": json.dumps(text),
            "origin_dataset": "LCS-558K",
            "origin_split": json.dumps({"model": "Muffin", "type": "detailed_description"}),
            "idx": number,
            "image_path": f"unavailable/{number}.jpg",
        }
        for number in range(6)
    ]
    rows[3]["text"] = "no JSON"
    rows[4]["image"] = {"bytes": b"no image", "path": "4.png"}
    schema = [
        ("ds_name", pa.string()), ("image", IMAGE), ("text", pa.string()), ("origin_dataset", pa.string()),
        ("origin_split", pa.string()), ("idx", pa.int64()), ("image_path", pa.string()),
    ]
    write("rlhf-v", rows, pa.schema(schema), compression="snappy", row_group_size=4)


def rlaif_v():
    rows = [
        {
            "ds_name": "RLAIF-V", "image": embedded(number, "jpeg"), "question": f"How many lines, {number}?",
            "chosen": "One.", "rejected": "Two.", "origin_dataset": "OK-VQA", "origin_split": "{}", "idx": number,
            "image_path": f"{number}.jpg",
        }
        for number in range(7)
    ]
    schema = [
        ("ds_name", pa.string()), ("image", IMAGE), ("question", pa.string()), ("chosen", pa.string()),
        ("rejected", pa.string()), ("origin_dataset", pa.string()), ("origin_split", pa.string()), ("idx", pa.int64()),
        ("image_path", pa.string()),
    ]
    write("rlaif-v", rows, pa.schema(schema), compression="gzip", row_group_size=2)


def vlfeedback():
    rating = pa.struct([("Rating", pa.string()), ("Rationale", pa.string())])
    aspects = ["Ethical Considerations", "Helpfulness", "Visual Faithfulness"]
    completion = pa.struct([
        ("annotations", pa.struct([(aspect, rating) for aspect in aspects])), ("model", pa.string()),
        ("response", pa.string()),
    ])

    def rated(number):
        annotations = {aspect: {"Rating": str(number), "Rationale": "drawn"} for aspect in aspects}
        return {"annotations": annotations, "model": f"model {number}", "response": f"Response {number}."}

    rows = [
        {
            "id": f"{number}", "image": embedded(number), "prompt": "Describe the image.", "models": ["a", "b", "c"],
            "completions": [rated(rating) for rating in (5, 3, 3)],
        }
        for number in range(3)
    ]
    schema = [
        ("id", pa.string()), ("image", IMAGE), ("prompt", pa.string()), ("models", pa.list_(pa.string())),
        ("completions", pa.list_(completion)),
    ]
    write("vlfeedback", rows, pa.schema(schema), compression="zstd")


def vl_rewardbench():
    rows = [
        {
            "id": f"RLAIF-V-{number}", "query": "Is there a line?", "response": ["Yes.", "No."],
            "image": embedded(number), "human_ranking": [number % 2, 1 - number % 2], "models": ["a", "b"],
            "judge": "", "rationale": "", "query_source": "RLAIF-V", "ground_truth": "Yes.",
        }
        for number in range(4)
    ]
    schema = [
        ("id", pa.string()), ("query", pa.string()), ("response", pa.list_(pa.string())), ("image", IMAGE),
        ("human_ranking", pa.list_(pa.int64())), ("models", pa.list_(pa.string())), ("judge", pa.string()),
        ("rationale", pa.string()), ("query_source", pa.string()), ("ground_truth", pa.string()),
    ]
    write("vl-rewardbench", rows, pa.schema(schema), compression="zstd", data_page_version="2.0")


def mm_rlhf():
    rows = [
        {
            "id": "7", "prompt": "Which side is longer?", "chosen": "The width.", "rejected": rejected,
            "chosen_reason": "It is.", "rejected_reason": "It is not.", "image": "mcq/7.png", "video": None,
        }
        for rejected in ("The height.", "Neither.")
    ]
    rows.append({**rows[0], "id": "8", "image": None, "video": "video/8.mp4"})
    rows.append({**rows[0], "id": "9", "image": "mcq/absent.png"})
    (HERE / "mcq").mkdir(exist_ok=True)
    (HERE / "mcq/7.png").write_bytes(drawn(7))
    names = ["id", "prompt", "chosen", "rejected", "chosen_reason", "rejected_reason", "image", "video"]
    write("mm-rlhf", rows, pa.schema([(name, pa.string()) for name in names]), compression="none")


def multimodal_rewardbench():
    rows = [
        {
            "ID": f"math-{number}", "Text": "Is one side longer?", "Image": embedded(number), "Output1": "Yes.",
            "Output2": "No.", "Better": "Output1", "Category": "reasoning",
        }
        for number in range(2)
    ]
    names = ["ID", "Text", "Image", "Output1", "Output2", "Better", "Category"]
    schema = [(name, IMAGE if name == "Image" else pa.string()) for name in names]
    write("multimodal-rewardbench", rows, pa.schema(schema), compression="snappy", data_page_version="2.0")


def of_no_set():
    rows = [{"prompt": "Two images?", "images": [embedded(1), embedded(2)], "responses": ["Yes.", "No."], "weight": 0.5}]
    schema = [
        ("prompt", pa.string()), ("images", pa.list_(IMAGE)), ("responses", pa.list_(pa.string())),
        ("weight", pa.float64()),
    ]
    write("rows", rows, pa.schema(schema))


for each in (rlhf_v, rlaif_v, vlfeedback, vl_rewardbench, mm_rlhf, multimodal_rewardbench, of_no_set):
    each()
