# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Decorrelated back-propagation of a model, whatever trains it."""
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Optional, Union

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.model import BaseAveragedModel
from mmengine.optim import OptimWrapper
from torch import Tensor, distributed, nn

from mmeffmae.models.layers.decorrelated import (
    RowSampler,
    can_decorrelate,
    decorrelated,
    is_decorrelated,
)
from mmeffmae.models.layers.decorrelated_update import (
    decorrelation_monitors,
    gather_is_cheaper,
    second_moments,
    update_from_moments_,
    update_from_rows_,
)
from mmeffmae.randomness import mix_key

#: Query, key and value, projection of the attention, and first layer of the FFN
#: in the encoders of this package and in most of mmpretrain's.
DEFAULT_LAYERS = ('backbone.*.qkv', 'backbone.*.q', 'backbone.*.kv',
                  'backbone.*.attn.k', 'backbone.*.attn.v',
                  'backbone.*attn*.proj', 'backbone.*.ffn.layers.0.0',
                  'backbone.*.ffn.fc1', 'backbone.*.ffn.w12',
                  'backbone.*.mlp.fc1', 'backbone.*.mlp.w12',
                  'backbone.*_mix.layers.0.0', 'backbone.*.pointwise_conv1')
FC2_LAYERS = ('backbone.*.ffn.layers.1', 'backbone.*.ffn.fc2', 'backbone.*.ffn.w3',
              'backbone.*.mlp.fc2', 'backbone.*.mlp.w3', 'backbone.*_mix.layers.1',
              'backbone.*.pointwise_conv2')
PATCH_LAYERS = ('backbone.patch_embed*', )


@dataclass(frozen=True)
class DecorrelationSettings:
    """Which layers are decorrelated, and how.

    Attributes:
        eta: Learning rate η of the matrices R.
        kappa: Weight κ, in [0, 1], of unit variance against no correlation.
        include: Patterns (:mod:`fnmatch`) of names in the model; each has to
            match a layer. None means :data:`DEFAULT_LAYERS`.
        exclude: Patterns of names that are left out.
        fc2_blocks: Diagonal blocks of the R of the second layer of each FFN
            of the encoder: 0 for none at all, 1 for a dense R.
        patch_embed: Whether the encoder's patch embedding takes part.
        num_samples: Rows of a layer's input in an update, of all ranks.
        update_interval: Optimizer steps between two updates of R.
        step_guard: Largest ``η ‖G‖_F``.
    """

    eta: float = 1e-4
    kappa: float = 0.01
    include: Optional[Sequence[str]] = None
    exclude: Sequence[str] = ()
    fc2_blocks: int = 0
    patch_embed: bool = False
    num_samples: int = 128
    update_interval: int = 1
    step_guard: float = 0.5

    def __post_init__(self) -> None:
        wrong = [
            f'{name}={getattr(self, name)} has to be {meaning}'
            for name, fits, meaning in (
                ('eta', self.eta >= 0, '0 or more'),
                ('kappa', 0 <= self.kappa <= 1, 'in 0 to 1'),
                ('fc2_blocks', self.fc2_blocks >= 0, '0 or more'),
                ('num_samples', self.num_samples >= 2, '2 or more'),
                ('update_interval', self.update_interval >= 1, '1 or more'),
                ('step_guard', self.step_guard > 0, 'above 0'),
                ('include', not isinstance(self.include, str), 'a list of patterns'),
                ('exclude', not isinstance(self.exclude, str), 'a list of patterns'),
            ) if not fits
        ]
        if wrong:
            raise ValueError(f'decorrelation: {"; ".join(wrong)}')


class DecorrelationError(RuntimeError):
    """A model or a run that cannot be decorrelated as asked."""


def choose_layers(
    names: Sequence[str], settings: DecorrelationSettings
) -> dict[str, int]:
    """Names of the layers to decorrelate, and the blocks of their R.

    Args:
        names: Of :func:`candidates`.
        settings: Say which.

    Raises:
        DecorrelationError: A pattern matches none of them.
    """
    wanted: list[tuple[Sequence[str], int]] = [(DEFAULT_LAYERS, 1)]
    if settings.include is not None:
        wanted = [((pattern, ), 1) for pattern in settings.include]
    if settings.fc2_blocks:
        wanted.append((FC2_LAYERS, settings.fc2_blocks))
    if settings.patch_embed:
        wanted.append((PATCH_LAYERS, 1))
    chosen: dict[str, int] = {}
    for patterns, blocks in wanted:
        found = _matching(patterns, names, 'include')
        chosen.update(dict.fromkeys(found, blocks))
    for pattern in settings.exclude:
        for name in _matching((pattern, ), names, 'exclude'):
            chosen.pop(name, None)
    if not chosen:
        raise DecorrelationError(
            'no layer is left to decorrelate: ' + _choice(names))
    return {name: chosen[name] for name in names if name in chosen}


def _matching(
    patterns: Sequence[str], names: Sequence[str], option: str
) -> list[str]:
    found = [n for n in names if any(fnmatchcase(n, p) for p in patterns)]
    if not found:
        raise DecorrelationError(
            f'{option} {", ".join(patterns)} (decorrelation) matches none of the '
            'layers that can be decorrelated: ' + _choice(names))
    return found


def _choice(names: Sequence[str]) -> str:
    return ('choose from (what does not learn is left out)\n  '
            + '\n  '.join(names or ['none']))


def candidates(
    model: nn.Module, trained: Optional[Container[int]] = None
) -> list[str]:
    """Names of the layers that can be decorrelated.

    Trainable linear layers and convolutions that are called as modules,
    compute what torch's do, and are no part of an averaged model.

    Args:
        model: Whose layers.
        trained: ``id`` of the parameters that learn; None for all.
    """
    # They read the weights of their parts, or are only averaged.
    closed = {
        id(part) for module in model.modules()
        if isinstance(module, (nn.MultiheadAttention, BaseAveragedModel))
        for part in module.modules()
    }
    return [
        name for name, module in model.named_modules()
        if id(module) not in closed and _fits(module)
        and (trained is None or id(module.weight) in trained)
    ]


def _fits(module: Any) -> bool:
    return can_decorrelate(module) and module.weight.requires_grad


def _peak_rate(group: Mapping[str, Any]) -> float:
    """Highest learning rate of a parameter group's schedule."""
    return group.get('max_lr', group.get('initial_lr', group['lr']))


def _check_untied(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """One weight behind two matrices R would be two weights in a checkpoint."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), []).append(name)
    for name, layer in layers.items():
        if len(tied := owners[id(layer.weight)]) > 1:
            raise DecorrelationError(
                f'{" and ".join(tied)} share one weight, which cannot be '
                f'decorrelated for {name} alone: add its name to exclude')


@dataclass
class _Group:
    """Matrices of one width, in one tensor ``(L, d, d)``."""

    matrices: Tensor
    layers: list[nn.Module]

    def holds(self, layer: nn.Module) -> bool:
        """Whether the layer's R is still a part of the matrices."""
        return (layer.decorrelation.untyped_storage().data_ptr()
                == self.matrices.untyped_storage().data_ptr())

    def rows(self) -> Tensor:
        """``(L, n, d)``, blocks of a layer in its place."""
        return torch.cat([_blocks_of_rows(layer) for layer in self.layers])


def _blocks_of_rows(layer: nn.Module) -> Tensor:
    calls = layer.rows
    # A layer that is called several times gives each call an equal share.
    rows = torch.cat([rows[i::len(calls)] for i, rows in enumerate(calls)])
    blocks = len(layer.decorrelation)
    return rows.unflatten(1, (blocks, -1)).transpose(0, 1)


class Decorrelator:
    """Converts layers of a model and updates their R after optimizer steps.

    The layers keep rows of their inputs during a forward pass of the model
    in training mode that ends in a due update; they do not when a part is
    computed again in the backward pass. R is updated when the optimizer has
    stepped: not while gradients accumulate, and not when a gradient scaler
    leaves a step out (one that a fused optimizer leaves out is counted,
    though R stays).

    Args:
        model: Its layers are replaced in place; Parameter objects stay.
        optim_wrapper: Steps the parameters. η follows the learning rate of
            its first group that learns, in proportion to the highest.
        settings: What to decorrelate, and how.
        seed: Names the rows that are kept.

    Raises:
        DecorrelationError: A pattern matches nothing, no layer is left, a
            weight belongs to two layers, the model averages weights by itself,
            or there are several optimizers.
    """

    def __init__(
        self,
        model: nn.Module,
        optim_wrapper: OptimWrapper,
        settings: DecorrelationSettings,
        seed: int = 0,
    ) -> None:
        if not hasattr(optim_wrapper, 'optimizer'):
            raise DecorrelationError(
                f'{type(optim_wrapper).__name__} has several optimizers, whose '
                'steps do not go together: use one, such as mmeffmae.MuonAdamW')
        for part in model.modules():
            if hasattr(part, 'momentum_update'):
                raise DecorrelationError(
                    f'{type(part).__name__} averages weights in momentum_update, '
                    'without their matrices R: train it without decorrelation')
        self.settings = settings
        self.optim_wrapper = optim_wrapper
        self.seed = seed
        self.num_steps = 0
        self.layers: dict[str, nn.Module] = {}
        #: Names of the encoder's layers that could be decorrelated and are not.
        self.plain_layers: list[str] = []
        groups = optim_wrapper.optimizer.param_groups
        self._convert(model, {
            id(p) for group in groups if _peak_rate(group) for p in group['params']})
        _follow_averages(model)
        self._world_size = get_world_size()
        self._sampler = RowSampler(
            -(-settings.num_samples // self._world_size),
            next(iter(self.layers.values())).weight.device)
        for layer in self.layers.values():
            layer.sampler = self._sampler
        self._groups = _grouped(self.layers.values())
        self._group = next(i for i, group in enumerate(groups) if _peak_rate(group))
        self._initial_rate = groups[self._group]['lr']
        model.register_forward_pre_hook(self._open)
        model.register_forward_hook(self._close, always_call=True)
        optim_wrapper.optimizer.register_step_post_hook(self._after_step)
        self.draw()

    def _convert(self, model: nn.Module, trained: Container[int]) -> None:
        parts = dict(model.named_modules())
        modes = {part: part.training for part in parts.values()}
        # Backbones of mmdet and others freeze their first stages only now.
        model.train()
        names = candidates(model, trained)
        for part, mode in modes.items():
            part.training = mode
        chosen = choose_layers(names, self.settings)
        self.plain_layers = [
            n for n in names if n.startswith('backbone.') and n not in chosen]
        _check_untied(model, {name: parts[name] for name in chosen})
        forms = {}
        for name, blocks in chosen.items():
            try:
                self.layers[name] = decorrelated(parts[name], blocks)
            except ValueError as error:
                raise DecorrelationError(f'{name}: {error}') from error
            forms[parts[name]] = self.layers[name]
        for parent in parts.values():
            # named_children() would leave out the second name of a layer.
            for name, child in parent._modules.items():
                if child in forms:
                    setattr(parent, name, forms[child])

    def draw(self) -> None:
        """Draw the rows of the next update from seed, rank and its number."""
        number = self.num_steps // self.settings.update_interval
        self._sampler.draw(mix_key(self.seed, get_rank(), number))

    def eta(self) -> float:
        """The learning rate η of now."""
        group = self.optim_wrapper.optimizer.param_groups[self._group]
        peak = _peak_rate(dict(group, lr=self._initial_rate))
        return self.settings.eta * (group['lr'] / peak if peak else 1.)

    def _open(self, model: nn.Module, args: tuple) -> None:
        due = (self.num_steps + 1) % self.settings.update_interval == 0
        if model.training and due and self.optim_wrapper.should_sync():
            self._sampler.is_open = True
            for layer in self.layers.values():
                layer.rows.clear()

    def _close(self, model: nn.Module, args: tuple, outputs: Any) -> None:
        self._sampler.is_open = False

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.num_steps += 1
        if self.num_steps % self.settings.update_interval:
            return
        self._check_called()
        eta: Union[float, Tensor] = self.eta()
        # A fused optimizer looks at overflows itself and leaves a mark; such a
        # step counts, since to know of it here would wait for the device.
        overflow = getattr(optimizer, 'found_inf', None)
        if overflow is not None:
            eta = eta * (overflow == 0)
        with torch.autocast(self._device_type(), enabled=False):
            for group in self._groups:
                self._update(group, eta)
        self.draw()

    def _update(self, group: _Group, eta: Union[float, Tensor]) -> None:
        rows, matrices = group.rows(), group.matrices
        options = eta, self.settings.kappa, self.settings.step_guard
        world_size = self._world_size
        if world_size == 1 or gather_is_cheaper(
                world_size, rows.size(1), rows.size(2), rows.element_size()):
            update_from_rows_(matrices, _gathered(rows, world_size), *options)
            return
        moments = second_moments(matrices, rows)
        distributed.all_reduce(moments.div_(world_size))
        update_from_moments_(matrices, moments, *options)

    def _check_called(self) -> None:
        silent = [name for name, layer in self.layers.items() if not layer.rows]
        if silent:
            raise DecorrelationError(
                f'{len(silent)} of {len(self.layers)} decorrelated layers were '
                f'not called in the forward pass, first {silent[0]}: the part '
                'that owns it reads its weight itself, skips it, or calls it '
                'without input: add its name to exclude')
        for group in self._groups:
            if not all(map(group.holds, group.layers)):
                raise DecorrelationError(
                    'the model was moved or cast after its layers were '
                    'decorrelated, so their R would no longer learn: move it '
                    'before')

    def _device_type(self) -> str:
        return self._groups[0].matrices.device.type

    def synchronise(self) -> None:
        """Give all ranks W and R of the first; a collective operation."""
        if self._world_size == 1:
            return
        for group in self._groups:
            distributed.broadcast(group.matrices, src=0)
        # A runner broadcasts what state_dict() gives, which is W R, a copy.
        for layer in self.layers.values():
            distributed.broadcast(layer.weight.detach(), src=0)

    def monitors(self) -> dict[str, dict[str, float]]:
        """Monitors of every layer, on the rows of this rank's last update.

        Returns:
            dict: ``correlation``, ``variance`` and ``distance`` by layer, see
            :func:`decorrelation_monitors`; mean over the blocks of a layer.
            Empty before the first update.
        """
        if not all(layer.rows for layer in self.layers.values()):
            return {}
        values: dict[nn.Module, Tensor] = {}
        for group in self._groups:
            found = decorrelation_monitors(group.matrices, group.rows())
            table = torch.stack(list(found.values()), dim=1)
            sizes = [len(layer.decorrelation) for layer in group.layers]
            for layer, part in zip(group.layers, table.split(sizes)):
                values[layer] = part.mean(0)
        names = list(found)
        numbers = torch.stack([values[m] for m in self.layers.values()]).tolist()
        return {
            name: dict(zip(names, row))
            for name, row in zip(self.layers, numbers)
        }

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs beside the folded weights.

        Returns:
            dict: ``num_steps``, and by layer the raw ``weight`` W and
            ``decorrelation`` R, on the CPU.
        """
        return dict(
            num_steps=self.num_steps,
            layers={
                name: dict(
                    weight=layer.weight.detach().cpu().clone(),
                    decorrelation=layer.decorrelation.cpu().clone())
                for name, layer in self.layers.items()
            })

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take W and R of a run that goes on.

        Raises:
            DecorrelationError: It decorrelated other layers, or in other
                blocks.
        """
        theirs, ours = (
            {name: tuple(matrix.shape) for name, matrix in shapes.items()}
            for shapes in (
                {n: s['decorrelation'] for n, s in state['layers'].items()},
                {n: m.decorrelation for n, m in self.layers.items()}))
        if theirs != ours:
            strays = sorted(set(theirs.items()) ^ set(ours.items()))
            raise DecorrelationError(
                f'the checkpoint decorrelates {len(theirs)} layers and this run '
                f'{len(ours)}, and they differ, first in {strays[0]}: resume '
                'with the include, exclude, fc2_blocks and patch_embed of the '
                'first run, or start from its weights with load_from')
        self.num_steps = state['num_steps']
        for name, layer in self.layers.items():
            layer.weight.copy_(state['layers'][name]['weight'])
            layer.decorrelation.copy_(state['layers'][name]['decorrelation'])


def _grouped(layers: Iterable[nn.Module]) -> list[_Group]:
    """Put the matrices of one width into one tensor, of which R is a view."""
    by_width: dict[int, list[nn.Module]] = {}
    for layer in layers:
        by_width.setdefault(layer.decorrelation.size(-1), []).append(layer)
    groups = []
    for members in by_width.values():
        matrices = torch.cat([layer.decorrelation for layer in members])
        sizes = [len(layer.decorrelation) for layer in members]
        for layer, view in zip(members, matrices.split(sizes)):
            layer.decorrelation = view
        groups.append(_Group(matrices, members))
    return groups


def _gathered(rows: Tensor, world_size: int) -> Tensor:
    """The rows of all ranks, ``(L, world_size * n, d)``."""
    if world_size == 1:
        return rows
    rows = rows.contiguous()
    parts = [torch.empty_like(rows) for _ in range(world_size)]
    distributed.all_gather(parts, rows)
    return torch.cat(parts, dim=1)


class FoldedView:
    """A module as others should average it: ``W R`` for W, and no R.

    Args:
        module: The decorrelated module, or a part of it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        layers = [m for m in module.modules() if is_decorrelated(m)]
        self._layers = {id(layer.weight): layer for layer in layers}
        self._hidden = {id(layer.decorrelation) for layer in layers}

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """As the module's, folded."""
        for name, value in self._module.named_parameters():
            layer = self._layers.get(id(value))
            if layer is not None:
                value = layer.folded_weight()
            yield name, value

    def parameters(self) -> Iterator[Tensor]:
        """As the module's, folded."""
        return (value for _, value in self.named_parameters())

    def buffers(self) -> Iterator[Tensor]:
        """As the module's, without R."""
        return (b for b in self._module.buffers() if id(b) not in self._hidden)

    def state_dict(self) -> dict[str, Tensor]:
        """As the module's, which is folded."""
        return self._module.state_dict()


def _follow_averages(model: nn.Module) -> None:
    """Let averaged models inside the model, such as teachers, average W R."""
    for module in model.modules():
        if isinstance(module, BaseAveragedModel):
            update = module.update_parameters

            def folded(source: nn.Module, *args: Any, update: Any = update,
                       **kwargs: Any) -> None:
                update(FoldedView(source), *args, **kwargs)

            module.update_parameters = folded
