# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Bring an official UM-MAE checkpoint into a model of ours.

    import_um_mae.py CONFIG CHECKPOINT --out FILE

For fine-tuning and dense tasks this is not needed: ``--init CHECKPOINT`` and
``init_cfg`` take the official files of Swin, PVT and ViT as they are. It is
for whole pre-training checkpoints, decoder included: FILE can be drawn by
tools/analysis/visualize_reconstruction.py, exported, and trained on with
``load_from``. Swin's and PVT's decoders were trained with the official order
of positions: give ``model.neck.legacy_visible_pe_order=True`` to what uses them.
"""
import argparse
import io
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmeffmae.checkpoint import (
    CheckpointError,
    load_checkpoint_safely,
    load_with_report,
)
from mmeffmae.checkpoint.um_mae_layout import decoder_from_official, is_official
from mmeffmae.engine.storage import AtomicLocalBackend
from mmeffmae.evaluation.building import build_model


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='pre-training config of this encoder')
    parser.add_argument('checkpoint', help='official pre-training checkpoint')
    parser.add_argument('--out', help='default CHECKPOINT_mmeffmae.pth')
    return parser.parse_args(argv)


def convert(config: Config, path: Path, out: Path) -> None:
    """Write ``out``, or raise CheckpointError; prints the load reports."""
    content = load_checkpoint_safely(path)
    tensors = content.get('state_dict', content)
    if not is_official(tensors):
        raise CheckpointError(
            f'{path} has not the names of an official UM-MAE checkpoint: our own '
            'need no import')
    if config.model.neck.type.endswith('PixelShuffleDecoder'):
        config.model.neck.legacy_visible_pe_order = True
    model = build_model(config)
    print(load_with_report(model.backbone, tensors, source=str(path)))
    decoder = decoder_from_official(tensors)
    if not decoder:
        raise CheckpointError(
            f'{path} has no decoder: for an encoder alone use --init, see '
            'tools/train.py')
    print(load_with_report(model.neck, decoder, source=str(path)))
    buffer = io.BytesIO()
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(cfg=config.pretty_text)),
        buffer)
    AtomicLocalBackend().put(buffer.getvalue(), out)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    MMLogger.get_instance('import').setLevel('ERROR')
    path = Path(args.checkpoint)
    out = Path(args.out or path.with_name(f'{path.stem}_mmeffmae.pth'))
    try:
        convert(Config.fromfile(args.config), path, out)
    except (CheckpointError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print(f'written to {out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
