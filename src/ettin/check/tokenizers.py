"""Tokenizers, wherever they lie: each loads, and is what the manifest says of it."""

from collections.abc import Iterator
from pathlib import Path

from ettin.files import Json, fingerprint_file
from ettin.tokenizer import Tokenizer, describe, library_version, load_tokenizer

_COMPARED = ("size", "padded_size", "special", "names", "lossless", "ordinary_ranges")
_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class Tokenizers:
    """Loads tokenizers, each content once: every run and export of a suite holds the same."""

    def __init__(self) -> None:
        self._described: dict[tuple[str, ...], Json] = {}

    def describe(self, directory: Path) -> Json:
        """What a manifest would say of it; see `tokenizer.describe`.

        Raises:
            InputError: it is no tokenizer.
        """
        paths = [directory / name for name in _FILES]
        content = tuple(fingerprint_file(path) if path.is_file() else "" for path in paths)
        if content not in self._described:
            loaded: Tokenizer = load_tokenizer(directory)
            self._described[content] = describe(loaded)
        return self._described[content]

    def differences(self, directory: Path, stated: Json) -> Iterator[str]:
        """How a tokenizer differs from what was stated of it.

        Raises:
            InputError: it is no tokenizer.
        """
        found = self.describe(directory)
        for name in _COMPARED:
            if stated[name] != found[name]:
                yield (
                    f"{directory}: its {name} is {found[name]!r}, the manifest says "
                    f"{stated[name]!r}"
                )
        # Another release of the library may give other ids to the same files.
        same_library = stated["library"] == f"tokenizers {library_version()}"
        if same_library and stated["fingerprint"] != found["fingerprint"]:
            yield (
                f"{directory}: its fingerprint is {found['fingerprint']}, the manifest says "
                f"{stated['fingerprint']}"
            )
