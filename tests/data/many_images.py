"""A data set of any number of images, written in pieces, and the memory that a process takes for its store."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, Value
from PIL import Image as PILImage

PIECE = 5_000


def pieces(count: int):
    """Tables of ``image`` and ``label``; sixteen images take turns."""
    payload = []
    for shade in range(16):
        buffer = io.BytesIO()
        PILImage.new("RGB", (8, 8), (shade * 16, 255 - shade, shade)).save(buffer, "PNG")
        payload.append(buffer.getvalue())
    for start in range(0, count, PIECE):
        rows = range(start, min(count, start + PIECE))
        images = [{"bytes": payload[row % 16], "path": None} for row in rows]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        yield pa.table({"image": pa.array(images, kind), "label": pa.array([row % 10 for row in rows], pa.int64())})


def write(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    features = Features({"image": Image(), "label": Value("int64")})
    schema = features.arrow_schema
    for split, images in {"train": count, "test": 100}.items():
        with pq.ParquetWriter(folder / f"{split}.parquet", schema) as writer:
            for table in pieces(images):
                writer.write_table(table.cast(schema))
    return folder


def own_memory() -> int:
    """Bytes of this process that no file backs: what is mapped from a file can be dropped by the system any time."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")
