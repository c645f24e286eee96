# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Redundant tokens leave the sequence between the layers of a transformer.

PCAE, ICLR 2023, https://openreview.net/forum?id=8T4qmZbTkW7.
"""
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mmeffmae.masking import gather_views

from .layout import TokenLayout

METRICS = ('redundancy', 'random')


def drop_placement(
    num_layers: int, num_stages: int = 3, placement: str = 'start'
) -> tuple[int, ...]:
    """Layers after which tokens are dropped, counted from 0.

    Args:
        num_layers (int): Layers N.
        num_stages (int): G drops.
        placement (str): ``'start'`` or ``'end'`` of each of G equal shares of
            the layers, ``'even'`` from the first layer to the last,
            ``'first'`` G layers (the public code's drop cases 0 to 3), or
            ``'inner'``, the inner borders of G + 1 equal shares (ours). Of 12
            layers, G = 3: 0 4 8, 3 7 11, 0 5 11, 0 1 2 and 2 5 8.

    Raises:
        ValueError: The placement is unknown or the layers are too few.
    """
    share = num_layers // max(num_stages, 1)
    rules = dict(
        start=lambda stage: stage * share,
        end=lambda stage: (stage + 1) * share - 1,
        even=lambda stage: stage * (num_layers - 1) // max(num_stages - 1, 1),
        first=lambda stage: stage,
        inner=lambda stage: max(
            0, (stage + 1) * num_layers // (num_stages + 1) - 1))
    if placement not in rules:
        raise ValueError(
            f'placement {placement!r} is unknown (drop_placement): choose from '
            f'{", ".join(rules)}')
    indices = tuple(rules[placement](stage) for stage in range(num_stages))
    _check_indices(indices, num_layers, f'placement {placement!r}')
    return indices


def _check_indices(indices: Sequence[int], num_layers: int, owner: str) -> None:
    fits = indices and indices[0] >= 0 and indices[-1] < num_layers
    if not fits or any(a >= b for a, b in zip(indices, indices[1:])):
        raise ValueError(
            f'{owner}: tokens cannot be dropped after the layers '
            f'{tuple(indices)} of {num_layers}: name rising layers from 0 to '
            f'{num_layers - 1} in drop_indices')


@torch.no_grad()
def redundancy(tokens: Tensor) -> Tensor:
    """How alike each token is to the mean of its sequence.

    The product of the normalised token with the mean of the normalised
    tokens, which is not normalised again; in fp32, without gradient. The
    paper's figure of the method scores ``1 - similarity``, which ranks alike.

    Args:
        tokens (Tensor): ``(R, n, C)``.

    Returns:
        Tensor: ``(R, n)``, fp32, high for tokens that tell little.
    """
    unit = F.normalize(tokens.float(), dim=-1)
    # No matrix product, which autocast would take in half precision.
    return (unit * unit.mean(dim=1, keepdim=True)).sum(dim=-1)


class TokenDrop:
    """Which share of the patch tokens leaves, and after which layers.

    Class tokens are neither scored nor dropped. Tokens that stay are in the
    order of their scores, and keep their patch ids in the layout.

    Args:
        indices (Sequence[int]): Layers after which tokens are dropped.
        num_layers (int): Layers of the encoder.
        ratio (float): Share that is dropped each time, in [0, 1); of n tokens
            ``floor(n · (1 - ratio))`` stay.
        metric (str): ``'redundancy'``, the most redundant leave, or
            ``'random'``, a control.

    Raises:
        ValueError: An argument is out of range or unknown.
    """

    def __init__(
        self,
        indices: Sequence[int],
        num_layers: int,
        ratio: float,
        metric: str = 'redundancy',
    ) -> None:
        _check_indices(indices, num_layers, 'TokenDrop')
        if not 0 <= ratio < 1:
            raise ValueError(
                f'a drop ratio of {ratio} (TokenDrop): use a share from 0 to '
                'below 1')
        if metric not in METRICS:
            raise ValueError(
                f'drop metric {metric!r} is unknown (TokenDrop): choose from '
                f'{METRICS}')
        self.indices = tuple(indices)
        self.num_layers = num_layers
        self.ratio = ratio
        self.metric = metric

    def with_ratio(self, ratio: float) -> 'TokenDrop':
        """The same drops of another share."""
        return TokenDrop(self.indices, self.num_layers, ratio, self.metric)

    def counts(self, num_tokens: int) -> list[int]:
        """Patch tokens that enter the encoder and stay after each drop.

        Raises:
            ValueError: No token would stay.
        """
        counts = [num_tokens]
        for _ in self.indices:
            counts.append(self._kept(counts[-1]))
        return counts

    def _kept(self, num_tokens: int) -> int:
        # Forgives the rounding of floats, as visible_count does.
        kept = math.floor(num_tokens * (1 - self.ratio) + 1e-6)
        if kept < 1:
            raise ValueError(
                f'a drop ratio of {self.ratio} leaves none of {num_tokens} tokens '
                '(TokenDrop): use a lower ratio, fewer drops or larger images')
        return kept

    def __call__(
        self, index: int, x: Tensor, layout: TokenLayout
    ) -> tuple[Tensor, TokenLayout]:
        """Drop tokens, if some leave after the layer ``index``.

        Args:
            index (int): The layer that made ``x``.
            x (Tensor): ``(R, [extra +] n, C)``.
            layout (TokenLayout): Where the tokens stand.

        Returns:
            tuple[Tensor, TokenLayout]: ``(R, [extra +] kept, C)``, and where
            these stand.
        """
        if not self.ratio or index not in self.indices:
            return x, layout
        extra = layout.num_extra_tokens
        tokens = x[:, extra:]
        if self.metric == 'random':
            scores = torch.rand(tokens.shape[:2], device=x.device)
        else:
            scores = redundancy(tokens)
        kept = scores.topk(self._kept(tokens.size(1)), largest=False).indices
        ids = kept if layout.ids is None else layout.ids.gather(1, kept)
        if extra:
            first = torch.arange(extra, device=x.device).expand(len(x), -1)
            kept = torch.cat([first, kept + extra], dim=1)
        return gather_views(x, kept.unsqueeze(1)), layout._replace(ids=ids)
