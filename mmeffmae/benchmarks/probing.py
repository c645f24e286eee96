# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Probe encoders of a study."""
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from mmengine.config import Config
from mmengine.device import get_device

from mmeffmae.evaluation.building import build_model, load_for_probes, probe_task
from mmeffmae.evaluation.finetune import SCHEDULES
from mmeffmae.evaluation.probes import PROBES


def probe_encoder(
    config: Config,
    seed: int,
    checkpoint: Optional[Path],
    probes: Sequence[str],
    split: str = 'monitor',
) -> dict[str, float]:
    """Percent of each probe.

    Args:
        config: As :meth:`mmeffmae.benchmarks.study.Study.config` makes it.
        seed: Seed of the untrained encoder, and of what probes learn.
        checkpoint: Weights; None measures the untrained encoder.
        probes: Names of probes.
        split: ``'monitor'``, held out of training, or ``'final'``, see
            :func:`mmeffmae.evaluation.building.probe_settings`.

    Raises:
        ValueError: A probe is unknown, or the config names no datasets.
    """
    if unknown := sorted(set(probes) - set(PROBES)):
        raise ValueError(
            f'probe {", ".join(unknown)} is unknown: use {", ".join(PROBES)}')
    device = get_device()
    finetuned = any(name.startswith('finetune') for name in probes)
    schedule = SCHEDULES['c' if device == 'cpu' else 'g'] if finetuned else None
    model = build_model(config, seed, device)
    task = probe_task(config, model, split, device, schedule, seed=seed)
    if checkpoint is None:
        task = task.untrained()
    else:
        load_for_probes(model, checkpoint, probes)
    return {name: round(PROBES[name](task), 3) for name in probes}
