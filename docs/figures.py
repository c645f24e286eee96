# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Figures of the method pages, from the code that trains.

    python docs/figures.py docs/_generated

Masks and models are those of the package, on a built-in scene, with fixed
seeds; nothing is trained.
"""
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from mmeffmae.datasets.mini_scenes import MiniSceneSettings, draw_crowd
from mmeffmae.masking import (
    ComplementaryMasking,
    MaskPlan,
    ParallelMasking,
    RandomMasking,
    UniformMasking,
    scatter_tokens,
)
from mmeffmae.models import MomentumTeacher
from mmeffmae.models.layers import drop_placement
from mmeffmae.models.layers.decorrelated_update import update_from_rows_
from mmeffmae.models.selfsup.pcae import teacher_plan
from mmeffmae.registry import MODELS

#: Patches a side; of 16 px, as in the ImageNet configs.
GRID, PATCH = 14, 16
GREY = 0.75
#: A token that is in place of a patch.
TOKEN = torch.tensor([0.13, 0.40, 0.75])


def _scene() -> Tensor:
    """``(3, 224, 224)`` in 0 to 1."""
    size = GRID * PATCH
    image = draw_crowd(MiniSceneSettings(scene_size=size), 0, 3).image
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def _noise() -> Tensor:
    return torch.rand(1, GRID, GRID, generator=torch.Generator().manual_seed(0))


def _shown(image: Tensor, visible: Tensor) -> Tensor:
    """The image, grey where no patch of ``visible`` ``(N,)`` is."""
    keep = visible.view(1, 1, GRID, GRID).float()
    keep = F.interpolate(keep, image.shape[1:], mode='nearest')[0].bool()
    return torch.where(keep, image, GREY)


def _row(panels: list[tuple[str, Tensor]], **options) -> Figure:
    """Panels side by side: images ``(3, H, W)`` or maps ``(H, W)``."""
    figure = Figure(figsize=(2.1 * len(panels), 2.4), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    for axes, (title, panel) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels):
        picture = panel.permute(1, 2, 0) if panel.dim() == 3 else panel
        axes.imshow(picture.numpy(), interpolation='nearest', **options)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    return figure


def mae() -> Figure:
    """A quarter of the patches, and a tenth."""
    image = _scene()
    panels = [('image, 196 patches', image)]
    for name, ratio in (('MAE', 0.75), ('MAE-fast', 0.9)):
        plan = RandomMasking(ratio)(_noise())
        panels.append((f'{name}: {plan.ids_keep.size(-1)} visible',
                       _shown(image, plan.visible[0, 0])))
    return _row(panels)


def emae() -> Figure:
    """Four parts of one permutation, and what two of them both predict."""
    image = _scene()
    plan = ParallelMasking(num_parts=4)(_noise())
    panels = [(f'part {k + 1}: {plan.ids_keep.size(-1)} visible',
               _shown(image, visible))
              for k, visible in enumerate(plan.visible[0])]
    both = plan.mask[0, 0] & plan.mask[0, 1]
    return _row([*panels, (f'both 1 and 2 predict: {int(both.sum())}',
                           _shown(image, both))])


def um_mae() -> Figure:
    """One patch of every cell, the tokens over some, and the smaller image."""
    image = _scene()
    plan = UniformMasking()(_noise())
    covered = _covered(plan)
    compact = _compact(image, plan)
    seen = _shown(image, plan.visible[0, 0])
    return _row([
        ('image, 49 cells of 2×2', image),
        (f'uniform sampling: {plan.ids_keep.size(-1)} kept', seen),
        (f'secondary masking: {int(plan.hidden.sum())} covered',
         _painted(seen, covered, GRID)),
        ('what the encoder gets: half the side',
         _painted(compact, plan.hidden[0, 0], GRID // 2))])


def _covered(plan: MaskPlan) -> Tensor:
    """``(N,)``, bool: patches whose place a learnable token takes."""
    return scatter_tokens(plan.hidden[0].unsqueeze(-1), plan.ids_keep[0],
                          plan.num_patches)[0, :, 0]


def _painted(image: Tensor, patches: Tensor, grid: int) -> Tensor:
    cover = F.interpolate(patches.view(1, 1, grid, grid).float(), image.shape[1:],
                          mode='nearest')[0].bool()
    return torch.where(cover, TOKEN[:, None, None], image)


def _compact(image: Tensor, plan: MaskPlan) -> Tensor:
    """The kept patches side by side, ``(3, 112, 112)``."""
    patches = image.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten(1, 2)
    kept = patches[:, plan.ids_keep[0, 0]].unflatten(1, (GRID // 2, GRID // 2))
    return kept.transpose(2, 3).flatten(3).flatten(1, 2)


def pcae() -> Figure:
    """What the student sees, and the teacher's tokens after each drop."""
    image = _scene()
    torch.manual_seed(0)
    plan = ComplementaryMasking()(_noise())
    encoder = MODELS.build(
        dict(type='mmeffmae.MaskedViT', arch='t', img_size=GRID * PATCH))
    rest = teacher_plan(plan)
    panels = [(f'student: {plan.ids_keep.size(-1)} visible',
               _shown(image, plan.visible[0, 0])),
              (f'teacher: {rest.ids_keep.size(-1)}', _shown(image, rest.visible[0, 0]))]
    layers = drop_placement(encoder.num_layers)
    for count, layer in enumerate(layers, start=1):
        teacher = MomentumTeacher(encoder, drop_indices=layers[:count])
        _, ids = teacher(2 * image[None] - 1, rest)
        left = torch.zeros(GRID**2, dtype=torch.bool).scatter(0, ids[0], True)
        panels.append((f'after layer {layer}: {ids.size(1)}', _shown(image, left)))
    return _row(panels)


def clmae() -> Figure:
    """Which pixels one token of the stem reads, with a mask and without."""
    image = _scene()
    torch.manual_seed(0)
    stem = MODELS.build(
        dict(type='mmeffmae.ConvStem', patch_size=PATCH, embed_dims=192,
             input_size=GRID * PATCH))
    plan = RandomMasking(0.75)(_noise())
    visible = plan.visible[0].view(1, GRID, GRID).float()
    # A patch with visible neighbours, but not at the border.
    near = (F.avg_pool2d(visible, 3, 1, 1) * visible)[0, 1:-1, 1:-1]
    row, column = (1 + int(i) for i in divmod(int(near.argmax()), GRID - 2))
    patch = row * GRID + column
    place = int((plan.ids_keep[0, 0] == patch).nonzero())

    def read(embed: Callable[[Tensor], Tensor]) -> Tensor:
        pixels = image[None].clone().requires_grad_()
        embed(pixels).square().sum().backward()
        assert pixels.grad is not None
        size = pixels.grad[0].abs().sum(0).sqrt()
        return around(size / size.max())

    def around(picture: Tensor) -> Tensor:
        top, left = (PATCH * (i - 1) for i in (row, column))
        return picture[..., top:top + 3 * PATCH, left:left + 3 * PATCH]

    seen = _shown(image, plan.visible[0, 0])
    return _row([
        ('25 % visible', seen),
        ('a patch, its neighbours', around(seen)),
        ('read with the mask',
         read(lambda pixels: stem.embed_visible(pixels, plan)[0, place])),
        ('read in a whole image', read(lambda pixels: stem(pixels)[0][0, patch]))])


def dbp_mae() -> Figure:
    """Correlations of the pixels of patches, before and after updates of R."""
    scenes = torch.stack([
        torch.from_numpy(draw_crowd(MiniSceneSettings(), 0, i).image)
        for i in range(16)]).permute(0, 3, 1, 2).float() / 255
    rows = F.unfold(F.avg_pool2d(scenes, 4), 4, stride=4).transpose(1, 2).flatten(0, 1)
    rows = (rows - rows.mean(0)) / rows.std(0)
    matrix = torch.eye(rows.size(1)).unsqueeze(0)
    panels = [('inputs x', torch.corrcoef(rows.T).abs())]
    for done, updates in ((0, 100), (100, 2000)):
        for _ in range(done, updates):
            update_from_rows_(matrix, rows[None], eta=1e-2, kappa=0.01)
        panels.append((f'R x after {updates:,} updates',
                       torch.corrcoef((rows @ matrix[0].T).T).abs()))
    return _row(panels, vmin=0, vmax=1, cmap='magma')


FIGURES: dict[str, Callable[[], Figure]] = dict(
    mae=mae, emae=emae, um_mae=um_mae, pcae=pcae, clmae=clmae, dbp_mae=dbp_mae)


def draw_all(folder: Path) -> list[Path]:
    """Write every figure as PNG; equal code gives equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in FIGURES.items():
        written.append(folder / f'{name}.png')
        draw().savefig(written[-1], metadata={'Software': None})
    return written


if __name__ == '__main__':
    print('written:', *draw_all(Path(sys.argv[1])))
