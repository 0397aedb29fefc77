"""Datasets of the Hugging Face hub, or folders laid out like them, streamed: nothing but what is read is downloaded.

Their own validation split is held out where they have one; a test split is never read unless it is all there is. The
package `datasets` is imported where it is used.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wikirl.errors import CorpusError
from wikirl.text.parts import BY_NUMBER, Part, part_of
from wikirl.text.readers import missing_extra, text_of

SHORT_NAMES = {
    "wikitext-103": "hf:Salesforce/wikitext:wikitext-103-raw-v1",
    "wikipedia": "hf:wikimedia/wikipedia:20231101.en",
}
_WIKIPEDIA = "articles of the English Wikipedia by its contributors, licensed CC BY-SA"
# What the two say of themselves, so that it stands in the card whatever the hub answers.
NOTICES = {
    "Salesforce/wikitext": f"WikiText (Merity et al. 2016): verified {_WIKIPEDIA}.",
    "wikimedia/wikipedia": f"Wikipedia: {_WIKIPEDIA} and GFDL; other languages likewise.",
}
VALIDATION = ("validation", "valid", "val", "dev")


@dataclass(frozen=True)
class HubCorpus:
    """A dataset of the hub; one record is one document.

    Attributes:
        identifier: As `owner/name`, or a folder.
        config: Which of its configurations; None for the only one.
        text_field: Field of a record that holds its text.
    """

    identifier: str
    config: str | None = None
    text_field: str = "text"

    @property
    def name(self) -> str:
        """The name that opens it again."""
        field = f"#{self.text_field}" if self.text_field != "text" else ""
        return ":".join(filter(None, ("hf", self.identifier, self.config))) + field

    @cached_property
    def fingerprint(self) -> str:
        """Hash of name, files and their revision on the hub (of files here: their times)."""
        files = getattr(self._builder.config, "data_files", None) or {}
        described = [
            (str(split), list(map(str, paths)), str(getattr(paths, "origin_metadata", "")))
            for split, paths in sorted(files.items(), key=lambda item: str(item[0]))
        ]
        return hashlib.sha256(repr((self.name, self._builder.hash, described)).encode()).hexdigest()[:16]

    @cached_property
    def attribution(self) -> str:
        """What the dataset's card says of its licence, or what is known of it here."""
        if self.identifier in NOTICES:
            return NOTICES[self.identifier]
        info = self._builder.info
        licence = info.license or self._card_licence()
        return f"Dataset {self.identifier}, licence: {licence}. {info.homepage}".strip() if licence else ""

    @property
    def held_out_name(self) -> str:
        """Which documents are held out."""
        return f"its {self._validation} split" if self._validation else BY_NUMBER

    def documents(self, part: Part = "whole") -> Iterator[str]:
        """The records of a part; those without text are left out.

        Raises:
            CorpusError: the hub cannot be reached, there is no such dataset, or a record holds no such field.
        """
        if self._validation:
            yield from self._read(self._validation if part == "held-out" else self._training)
        else:
            yield from part_of(self._read(self._training), part, self.name)

    def num_bytes(self, part: Part = "whole") -> int | None:
        """What the dataset says of itself, if it does."""
        if part == "held-out" and not self._validation:
            return None
        split = (self._builder.info.splits or {}).get(self._validation if part == "held-out" else self._training)
        return int(split.num_bytes) or None if split else None

    def check(self) -> None:
        """Ask the hub for it, so that a mistake shows at once.

        Raises:
            CorpusError: there is no such dataset, or no split to train on.
        """
        assert self.fingerprint
        assert self._training

    @cached_property
    def _builder(self) -> Any:
        with _in_one_line(self.name):
            return _datasets(self.name).load_dataset_builder(self.identifier, self.config)

    @cached_property
    def _splits(self) -> dict[str, Any]:
        with _in_one_line(self.name):
            return {str(split): rows for split, rows in self._builder.as_streaming_dataset().items()}

    @property
    def _training(self) -> str:
        if "train" in self._splits or len(self._splits) == 1:
            return "train" if "train" in self._splits else next(iter(self._splits))
        raise CorpusError(f"expected a split named train in {self.name}; found {', '.join(self._splits)}")

    @property
    def _validation(self) -> str | None:
        return next((name for name in VALIDATION if name in self._splits and name != self._training), None)

    def _read(self, split: str) -> Iterator[str]:
        rows, number = iter(self._splits[split]), 0
        while True:
            with _in_one_line(self.name):
                row = next(rows, None)
            if row is None:
                return
            number += 1
            if text := text_of(row, self.text_field, f"row {number} of {split} of {self.name}").strip():
                yield text

    def _card_licence(self) -> str:
        """The licence in the dataset's README.md; empty if it has none."""
        from huggingface_hub import DatasetCard
        from huggingface_hub.errors import EntryNotFoundError

        folder, source = Path(self.identifier), self.identifier
        if folder.exists():
            source = str(folder / "README.md")
            if not Path(source).exists():
                return ""
        with _in_one_line(self.name):
            try:
                card = DatasetCard.load(source, repo_type="dataset", ignore_metadata_errors=True)
            except EntryNotFoundError:  # a dataset without a card
                return ""
        licence = card.data.get("license") or card.data.get("license_name") or ""
        return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence)


def open_hub(spec: str, text_field: str) -> HubCorpus:
    """`hf:ID`, `hf:ID:CONFIG` or a short name, found on the hub.

    Raises:
        CorpusError: it is not, or the hub cannot be reached.
        MissingExtraError: the package `datasets` is not installed.
    """
    identifier, _, config = SHORT_NAMES.get(spec, spec).removeprefix("hf:").partition(":")
    if not identifier:
        raise CorpusError(f"expected hf:ID or hf:ID:CONFIG with the id of a dataset; found {spec!r}")
    corpus = HubCorpus(identifier, config or None, text_field)
    corpus.check()
    return corpus


def _datasets(name: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise missing_extra(f"reading {name}", error) from error
    return datasets


@contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    """Say in one line what the packages that talk to the hub complain of."""
    from huggingface_hub.errors import HfHubHTTPError

    # The first base is the error of the library underneath, which is another in each version.
    known: tuple[type[Exception], ...]
    known = (OSError, ValueError, HfHubHTTPError.__bases__[0], _datasets(name).exceptions.DatasetsError)
    try:
        yield
    except CorpusError:
        raise
    except known as error:
        reason = " ".join(str(error).split())[:300]
        raise CorpusError(
            f"expected to read the dataset {name} of the Hugging Face hub; found: {reason}; check the name, its "
            "configuration (hf:ID:CONFIG) and the network (HF_HUB_OFFLINE=1 forbids it), or give files"
        ) from error
