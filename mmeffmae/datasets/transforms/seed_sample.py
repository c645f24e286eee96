# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from mmcv.transforms import BaseTransform

from mmeffmae.randomness import seed_cpu
from mmeffmae.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SeedSample(BaseTransform):
    """Seed all generators from the sample's key; first in a pipeline.

    The transforms that follow then draw the same numbers in any worker and
    after any resume. The key comes from ``KeyedSampler`` through
    ``results['sample_idx']``; an index without one leaves the generators
    alone.

    Required Keys: sample_idx
    """

    def transform(self, results: dict) -> dict:
        """Seed python, numpy and torch; the results stay as they are."""
        key = getattr(results.get('sample_idx'), 'key', None)
        if key is not None:
            seed_cpu(key)
        return results
