# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Write a fixed share of a folder's images to a list, stratified by class.

    subset_list.py data/imagenet/train --share 0.1 \\
        --out data/imagenet/train_10percent.txt
    subset_list.py data/ade/images/training --share 0.1 --stems \\
        --out data/ade/train_10percent.txt

The classes are the sub-folders. One name a line, relative to FOLDER. The same
folder and seed give the same list everywhere; its hash is printed.
"""
import argparse
import sys
from pathlib import Path

from mmeffmae.datasets.unlabelled import find_images
from mmeffmae.evaluation.subsets import describe_subset, label_subset


def choose(folder: str, share: float, seed: int = 0) -> tuple[list[str], dict]:
    """Chosen names, and what :func:`describe_subset` says of them.

    Args:
        folder: Its sub-folders are the classes; without any it is one class.
        share: Share of every class in (0, 1].
        seed: Names the choice.

    Raises:
        FileNotFoundError: The folder does not exist or holds no image.
        ValueError: ``share`` is out of range.
    """
    names = find_images(folder, 'subset_list.py')
    folders = [str(Path(name).parent) for name in names]
    numbers = {name: number for number, name in enumerate(sorted(set(folders)))}
    labels = [numbers[name] for name in folders]
    chosen = label_subset(labels, share=share, seed=seed)
    return [names[i] for i in chosen], describe_subset(labels, chosen)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='FOLDER')
    parser.add_argument('--share', type=float, default=0.1)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--stems', action='store_true',
        help='without file extension, as ann_file of mmsegmentation wants it')
    parser.add_argument('--out', required=True, metavar='FILE')
    args = parser.parse_args(argv)
    try:
        names, about = choose(args.folder, args.share, args.seed)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    if args.stems:
        names = [str(Path(name).with_suffix('')) for name in names]
    Path(args.out).write_text(''.join(f'{name}\n' for name in names))
    least, most = about['per_class']
    print(f'{args.out}: {about["images"]} images, {least} to {most} a class, '
          f'hash {about["indices_hash"]}')


if __name__ == '__main__':
    main()
