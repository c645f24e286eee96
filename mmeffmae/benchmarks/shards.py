# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Where results lie: one JSON file for each finished piece of work."""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """Read a shard."""
    return json.loads(path.read_text())


@dataclass(frozen=True)
class Shards:
    """The folder of a study's results; a file that exists is finished work.

    Attributes:
        root: The folder.
    """
    root: Path

    @property
    def timing(self) -> Path:
        """Isolated step times of all arms, from one interleaved run."""
        return self.root / 'timing.json'

    @property
    def budget(self) -> Path:
        """Steps of every arm; stays when the timing is repeated."""
        return self.root / 'budget.json'

    @property
    def target(self) -> Path:
        """The fixed target, and the shards that it was fixed from."""
        return self.root / 'target.json'

    def untrained(self, encoder_key: str, seed: int) -> Path:
        """Probes of an untrained encoder."""
        return self.root / 'untrained' / f'{encoder_key}_seed{seed}.json'

    def trial(self, arm: str, key: str, seed: int) -> Path:
        """Probes of a learning-rate trial."""
        return self.root / arm / 'rates' / f'{key}_seed{seed}.json'

    def branch(self, arm: str, key: str, seed: int, fraction: float) -> Path:
        """Probes of a cooldown branch."""
        percent = round(100 * fraction)
        return self.root / arm / f'{key}_seed{seed}_{percent:03d}.json'

    def final(self, arm: str, key: str, seed: int) -> Path:
        """Probes of the finished encoder on the validation photographs."""
        return self.root / arm / 'final' / f'{key}_seed{seed}.json'

    def branches(self, arm: str) -> list[Path]:
        """All branch shards of an arm, in the order of their names."""
        return sorted((self.root / arm).glob('*_seed*_*.json'))
