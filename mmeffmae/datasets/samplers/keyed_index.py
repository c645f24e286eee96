# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmeffmae.randomness import mix_key


class KeyedIndex(int):
    """A dataset index that carries the key of its random stream.

    It is an int everywhere; dataset wrappers that shift or wrap indices
    (concatenation, repetition) keep the key. The key depends on the draw,
    (seed, epoch, position in the epoch), not on the image, the rank or the
    worker: repeated images get new crops, and any number of processes and
    workers draws the same ones.

    Args:
        index: Index into the dataset.
        draw: The integers that name the draw.
    """

    draw: tuple[int, ...]

    def __new__(cls, index: int, draw: tuple[int, ...]) -> 'KeyedIndex':
        keyed = super().__new__(cls, index)
        keyed.draw = draw
        return keyed

    @property
    def key(self) -> int:
        """Seed of the sample's random stream, in [0, 2**63)."""
        return mix_key(*self.draw)

    def __sub__(self, other: int) -> 'KeyedIndex':
        return KeyedIndex(int(self) - other, self.draw)

    def __mod__(self, other: int) -> 'KeyedIndex':
        return KeyedIndex(int(self) % other, self.draw)

    def __reduce__(self):
        return KeyedIndex, (int(self), self.draw)
