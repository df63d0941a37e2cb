"""MosaicML Streaming: its data set in process, and its shard reader driven by a permutation."""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.loaders.packer import Batch, packed

LIBRARY = "mosaicml-streaming"


def _stand_in_for_torchvision() -> None:
    """Its import asks for torchvision, which no text needs, and which may not be installed."""
    try:
        import_module("torchvision")
    except ImportError:
        contents: dict[str, dict[str, Any]] = {
            "torchvision": {},
            "torchvision.datasets": {"VisionDataset": object},
            "torchvision.transforms": {},
            "torchvision.transforms.functional": {"to_tensor": None},
        }
        for name, attributes in contents.items():
            module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            module.__path__ = []
            vars(module).update(attributes)
            sys.modules[name] = module


def _streaming() -> Any:
    _stand_in_for_torchvision()
    streaming = import_module("streaming")
    streaming.base.util.clean_stale_shared_memory()
    return streaming


def data_set(folder: Path) -> Iterator[Batch]:
    """`StreamingDataset`, shuffled as it does unless told otherwise, iterated without workers."""
    streaming = _streaming()
    samples = streaming.StreamingDataset(local=str(folder / "mds"), shuffle=True, batch_size=8)

    def chunks() -> Iterator[npt.NDArray[np.uint16]]:
        while True:
            for sample in samples:
                yield sample["input_ids"]

    return packed(chunks())


def reader(folder: Path) -> Iterator[Batch]:
    """Its shard reader, as the published training code used it: `get_item` of a shuffled list."""
    _streaming()
    reader_from_json = import_module("streaming.base.format").reader_from_json
    index = json.loads((folder / "mds" / "index.json").read_text())
    shards = [reader_from_json(str(folder / "mds"), "", each) for each in index["shards"]]
    samples = [(shard, number) for shard in shards for number in range(shard.samples)]

    def chunks() -> Iterator[npt.NDArray[np.uint16]]:
        epoch = 0
        while True:
            for number in np.random.default_rng(epoch).permutation(len(samples)).tolist():
                shard, place = samples[number]
                yield shard.get_item(place)["input_ids"]
            epoch += 1

    return packed(chunks())


SETTINGS = {"StreamingDataset, in process": data_set, "shard reader, permutation": reader}
