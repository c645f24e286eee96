# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Pack a folder of images into one tar file that data sets read directly.

    pack_folder.py FOLDER FILE.tar

Then data_root=tar://FILE.tar in a config; sub-folders keep their names, so a
data_prefix stays as it is. One large file spares network file systems a
million small ones. webdataset reads it too.
"""
import argparse
import sys
from pathlib import Path

from mmeffmae.datasets.tar_archive import TarArchive, pack
from mmeffmae.datasets.unlabelled import find_images


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('file', type=Path, metavar='FILE.tar')
    args = parser.parse_args(argv)
    if args.file.suffix != '.tar':
        parser.error(f'{args.file}: the name must end with .tar')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        pack(args.folder, find_images(str(args.folder), 'pack_folder.py'), args.file)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    number = len(TarArchive(str(args.file)).names)
    print(f'written: {args.file}, {number:,} images; read it with '
          f'data_root=tar://{args.file}')


if __name__ == '__main__':
    main()
