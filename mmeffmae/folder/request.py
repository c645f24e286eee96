# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""What a user may ask of a pre-training on a folder."""
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional


@dataclass(frozen=True)
class Request:
    """What the user asks for; None is left to the plan.

    Attributes:
        minutes: Of all, from the survey to the report.
        method: One of ``METHODS``.
        encoder: One of ``ENCODERS``.
        init: File of weights to start from.
        img_size: Pixels a side.
        patch_size: Pixels a side.
        batch_size: Images of an update.
        epochs: Passes over the images.
        lr: Peak learning rate, for the batch there is.
        workers: Loading processes.
        precision: ``'bf16'`` or ``'fp32'``.
        progressive: Train on images of half the side first.
        images: ``'files'``, or ``'device'`` to keep the photographs there.
        seed: Of the run.
        options: Changes of the config, merged last.
    """
    minutes: Optional[float] = None
    method: Optional[str] = None
    encoder: Optional[str] = None
    init: Optional[str] = None
    img_size: Optional[int] = None
    patch_size: Optional[int] = None
    batch_size: Optional[int] = None
    epochs: Optional[int] = None
    lr: Optional[float] = None
    workers: Optional[int] = None
    precision: Optional[str] = None
    progressive: Optional[bool] = None
    images: Optional[str] = None
    seed: int = 0
    options: Optional[Mapping[str, Any]] = None
