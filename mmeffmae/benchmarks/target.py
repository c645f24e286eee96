# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""The target of a study, fixed before any candidate is trained."""
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mmeffmae.evaluation.record import write_json

from .shards import Shards, read_json
from .statistics import target_value


class TargetError(RuntimeError):
    """The target cannot be fixed, or is not what it was fixed from."""


def fix_target(
    shards: Shards,
    baseline: str,
    probe: str,
    untrained: Sequence[Path],
    final: Sequence[Path],
    candidates: Sequence[Path],
) -> dict[str, Any]:
    """Fix the target once, or check the one that was fixed.

    Seeds that the baseline gains later are timed to the same target.

    Args:
        shards: The study's folder.
        baseline: Name of the baseline.
        probe: The probe that is compared.
        untrained: Shards of the untrained encoder, one a seed.
        final: Shards of the baseline's last branch, one a seed.
        candidates: Shards of candidates that exist already.

    Returns:
        Content of the target shard.

    Raises:
        TargetError: A shard that the target was fixed from has changed, the
            baseline is not finished, or candidates came first.
    """
    if shards.target.is_file():
        return read_target(shards)
    if missing := [path for path in (*untrained, *final) if not path.is_file()]:
        raise TargetError(
            f'the target needs {missing[0]} and {len(missing) - 1} more shards: '
            f'run the baseline {baseline!r} with all seeds of the study first')
    if candidates:
        raise TargetError(
            f'{shards.target} is missing, but candidates have been measured '
            f'({candidates[0]}, {len(candidates)} shards): restore the file; a '
            'target that is fixed now could be chosen after the result. To start '
            'over, remove the shards of all candidates')
    write_json(
        _target(shards, baseline, probe, untrained, final), shards.target)
    return read_target(shards)


def has_target(target: dict[str, Any]) -> bool:
    """Whether the baseline learned anything, so that there is a way to go.

    Args:
        target: Content of the target shard.
    """
    return target['target'] > fmean(target['untrained'].values())


def read_target(shards: Shards) -> dict[str, Any]:
    """The fixed target.

    Raises:
        TargetError: A shard that it was fixed from has changed or is gone.
    """
    target = read_json(shards.target)
    for name in ('untrained', 'final'):
        for file, value in target[name].items():
            path = shards.root / file
            now = path.is_file() and read_json(path)['values'][target['probe']]
            if now is False or now != value:
                raise TargetError(
                    f'{path} held {target["probe"]} {value} when the target '
                    f'{target["target"]:.3f} was fixed and '
                    f'{"is gone" if now is False else f"holds {now}"} now: restore '
                    f'it; or start over: remove {shards.target} and the shards of '
                    'all candidates')
    return target


def targets_of_other_probes(shards: Shards) -> list[dict[str, Any]]:
    """What the target would be by each other probe of the same shards.

    The rule is the target's own, so there is nothing to choose after a result.

    Raises:
        TargetError: See :func:`read_target`.
    """
    fixed = read_target(shards)
    final = [shards.root / file for file in fixed['final']]
    untrained = [shards.root / file for file in fixed['untrained']]
    others = [
        probe for probe in read_json(final[0])['values'] if probe != fixed['probe']]
    return [
        _target(shards, fixed['baseline'], probe, untrained, final)
        for probe in others]


def _target(shards: Shards, baseline: str, probe: str, untrained: Sequence[Path],
            final: Sequence[Path]) -> dict[str, Any]:
    values = {
        name: _values(shards.root, paths, probe)
        for name, paths in (('untrained', untrained), ('final', final))
    }
    target = target_value(*(fmean(of.values()) for of in values.values()))
    return dict(
        kind='target', baseline=baseline, probe=probe, target=target, **values)


def _values(root: Path, paths: Sequence[Path], probe: str) -> dict[str, float]:
    return {
        str(path.relative_to(root)): read_json(path)['values'][probe]
        for path in paths
    }
