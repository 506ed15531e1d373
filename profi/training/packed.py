"""Many small things in a few arrays.

A training on MSCOCO holds hundreds of thousands of outlines and texts. As Python's objects they
take kilobytes each, and every process that reads one writes to its page (the count of references),
so that forked workers end with a copy each; arrays are small and stay shared.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Groups:
    """Consecutive items in groups: group i ends before item `ends[i]`."""

    ends: np.ndarray

    @staticmethod
    def of(sizes: Iterable[int]) -> Groups:
        """Groups of so many items."""
        return Groups(np.cumsum(np.fromiter(sizes, np.int64), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> range:
        return range(int(self.ends[i - 1]) if i else 0, int(self.ends[i]))


@dataclass(frozen=True)
class Texts:
    """Strings, by their number from 0."""

    data: np.ndarray
    groups: Groups

    @staticmethod
    def of(texts: Iterable[str]) -> Texts:
        """In this order."""
        data, sizes = bytearray(), array("q")
        for text in texts:
            encoded = text.encode()
            data += encoded
            sizes.append(len(encoded))
        return Texts(np.frombuffer(bytes(data), np.uint8), Groups.of(sizes))

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, i: int) -> str:
        place = self.groups[i]
        return self.data[place.start : place.stop].tobytes().decode()


class NumberedTexts(Mapping[int, str]):
    """Strings by numbers of any kind."""

    def __init__(self, texts: Mapping[int, str]) -> None:
        self.numbers = np.array(sorted(texts), np.int64)
        self._texts = Texts.of(texts[number] for number in self.numbers.tolist())

    def __getitem__(self, number: int) -> str:
        i = int(np.searchsorted(self.numbers, number))
        if i == len(self.numbers) or self.numbers[i] != number:
            raise KeyError(number)
        return self._texts[i]

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers.tolist())

    def __len__(self) -> int:
        return len(self.numbers)
