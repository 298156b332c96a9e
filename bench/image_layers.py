"""Layers that are the same on every machine, and about as large and as compressible as those of real software."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

POOL = 8 << 20
PIECE = 4096
PER_DIRECTORY = 40


@dataclass(frozen=True)
class Layer:
    """``files`` regular files of ``size`` bytes together; layers with different seeds have nothing in common."""

    seed: int
    files: int
    size: int


@dataclass(frozen=True)
class Written:
    """A layer's tar in a file."""

    path: Path
    diff_id: str


def text_pool(chance: random.Random) -> bytes:
    """Words of which some are much more frequent than others, in lines: gzip makes about a quarter of it."""
    letters = "etaoinshrdlucmfwypvbgkjqxz_"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 11))) for _ in range(4000)]
    weights = [1 / (rank + 2) for rank in range(len(words))]
    count = POOL // 6
    picked = chance.choices(words, weights, k=count)
    return " ".join(
        word if number % 11 else f"{word}\n{' ' * (number % 3 * 4)}" for number, word in enumerate(picked)
    ).encode()[:POOL]


def program_pool(chance: random.Random) -> bytes:
    """Instructions of a fixed set with operands, as in a library: gzip makes about a half of it."""
    instructions = [chance.randbytes(chance.randint(1, 4)) for _ in range(300)]
    weights = [1 / (rank + 3) for rank in range(len(instructions))]
    picked = chance.choices(instructions, weights, k=POOL // 3)
    out = bytearray()
    for number, instruction in enumerate(picked):
        out += instruction
        if number % 4 == 0:
            out += bytes((chance.randrange(256), 0 if number % 8 else 255))
    return bytes(out[:POOL])


def write_layer(layer: Layer, path: Path, program: bytes = b"") -> Written:
    """Write the tar; ``program`` becomes ``/true``."""
    chance = random.Random(layer.seed)
    pools = (text_pool(chance), program_pool(chance))
    digest = hashlib.sha256()
    with path.open("wb") as file:
        sink = _Hashing(file, digest)
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
            if program:
                _add(tar, "true", program, 0o755)
            for name, size in _names(layer, chance):
                if size < 0:
                    directory = tarfile.TarInfo(name)
                    directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
                    tar.addfile(directory)
                else:
                    pool = pools[chance.random() < 0.4]
                    _add(tar, name, _content(chance, pool, size), 0o644)
    return Written(path, f"sha256:{digest.hexdigest()}")


def _names(layer: Layer, chance: random.Random) -> Iterator[tuple[str, int]]:
    """Names in order with their sizes, -1 for directories; sizes are spread as file sizes are (log-normal)."""
    raw = [chance.lognormvariate(0, 1.6) for _ in range(layer.files)]
    scale = layer.size / sum(raw)
    top = f"usr/lib/part{layer.seed}"
    yield from ((name, -1) for name in ("usr", "usr/lib", top) if name)
    for number, weight in enumerate(raw):
        directory = f"{top}/d{number // PER_DIRECTORY:04}"
        if number % PER_DIRECTORY == 0:
            yield directory, -1
        yield f"{directory}/file{number:05}.so", int(weight * scale)


def _content(chance: random.Random, pool: bytes, size: int) -> bytes:
    pieces = []
    left = size
    while left > 0:
        start = chance.randrange(len(pool) - PIECE)
        pieces.append(pool[start : start + min(PIECE, left)])
        left -= PIECE
    return b"".join(pieces)


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), mode, 1_700_000_000
    tar.addfile(entry, io.BytesIO(data))


class _Hashing(io.RawIOBase):
    def __init__(self, file: BinaryIO, digest: hashlib._Hash) -> None:
        super().__init__()
        self._file = file
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self._digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()


def write_archive(layers: list[Written], name: str, path: Path) -> None:
    """An image of these layers, as ``docker save`` writes it."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-01T00:00:00Z",
            "config": {"Cmd": ["/true"]},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "bench"} for _ in layers],
        }
    ).encode()
    image = hashlib.sha256(config).hexdigest()
    places = [f"{layer.diff_id.partition(':')[2]}/layer.tar" for layer in layers]
    manifest = json.dumps([{"Config": f"{image}.json", "RepoTags": [name], "Layers": places}]).encode()
    with tarfile.open(path, "w") as tar:
        _add(tar, f"{image}.json", config, 0o644)
        for layer, place in zip(layers, places, strict=True):
            tar.add(layer.path, arcname=place)
        _add(tar, "manifest.json", manifest, 0o644)
