#!/usr/bin/env python3
"""What holds of every image of the catalogue, in all its variants; as root: ``catalogue_proof.py [IMAGE:TAG…]``.

Two engines that have nothing in common assemble it: one digest. What it weighs sums up to its size by every listing,
and to what Python's own reader finds in its layer. Its bills of materials are valid: SPDX by its schema's rules and its
own validator, CycloneDX by its schema. `tare audit --distroless` proves it, and refuses the variants with a shell.
Prints a line for each image; exit status 1 when something does not hold.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from two_engines import digests, two_engines

from engine_process import EngineProcess
from spdx_documents import valid_spdx
from tare.distroless.recipes import RECIPES

VARIANTS = ("12", "12-nonroot", "12-debug", "12-debug-nonroot")
LISTINGS = ("layer", "stage", "instruction", "package", "directory")


def answer(engine: EngineProcess, *arguments: str) -> Any:
    """The JSON that a command prints."""
    return json.loads(engine.tare(*arguments).stdout)


def wrong_weights(engine: EngineProcess, name: str) -> list[str]:
    """Which sums are not exact."""
    found = answer(engine, "weigh", name, "--json")
    (image,) = answer(engine, "image", "inspect", name)
    shipped = 0
    for layer in image["RootFS"]["Layers"]:
        with tarfile.open(engine.data_root / "layers" / f"{layer.removeprefix('sha256:')}.tar") as archive:
            shipped += sum(member.size for member in archive if member.isreg())
    sums = {listing: sum(row["bytes"] for row in found["by"][listing]) for listing in LISTINGS}
    sums |= {"tree": found["tree"]["bytes"], "shipped": found["shipped"], "size": image["Size"] - found["headers"]}
    return [f"{listing} has {total} bytes, the layers {shipped}" for listing, total in sums.items() if total != shipped]


def wrong_bills(engine: EngineProcess, name: str) -> list[str]:
    """Which bills of materials are not valid."""
    wrong = []
    try:
        valid_spdx(engine.tare("sbom", name, "--format", "spdx-json").stdout)
    except AssertionError as error:
        wrong.append(f"SPDX: {str(error)[:300]}")
    text = engine.tare("sbom", name, "--format", "cyclonedx-json").stdout.decode()
    if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        wrong.append(f"CycloneDX: {str(error)[:300]}")
    return wrong


def wrong_proof(engine: EngineProcess, name: str) -> list[str]:
    """Whether the audit says what it should."""
    done = engine.tare("audit", "--distroless", name, check=False)
    expected = 1 if "debug" in name.rpartition(":")[2].split("-") else 0
    return [] if done.returncode == expected else [f"audit: status {done.returncode}: {done.stdout.decode()[:600]}"]


def main() -> None:
    """Print what holds and what does not."""
    every = [f"tare.local/distroless/{name}:{variant}" for name in RECIPES for variant in VARIANTS]
    names = sys.argv[1:] or every
    failed = 0
    with two_engines() as engines:
        for name, made in digests(engines, names):
            wrong = [] if len(set(made)) == 1 else [f"differs: {' '.join(made)}"]
            wrong += [*wrong_weights(engines[0], name), *wrong_bills(engines[0], name), *wrong_proof(engines[0], name)]
            failed += bool(wrong)
            print(f"{name}: {'; '.join(wrong) or made[0]}", flush=True)
    print(f"{len(names)} images: one digest, exact weights, valid bills, the proof for {len(names) - failed}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
