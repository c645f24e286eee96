# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Make COCO instance annotations from the class maps of CamVid.

The instances are the connected components of the countable classes; objects
that touch are one. ROOT holds images/SPLIT/*.jpg and annotations/SPLIT/*.png;
instances_SPLIT.json is written beside them.
"""
import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

#: Value in the class maps of each countable class.
THINGS = {'sign symbol': 6, 'car': 8, 'pedestrian': 9, 'bicyclist': 10}
MIN_AREA = 100
SPLITS = ('train', 'val', 'test')


def components(class_map: np.ndarray, value: int,
               min_area: int = MIN_AREA) -> list[np.ndarray]:
    """Connected components of a class, neighbours in four directions.

    Args:
        class_map: ``(H, W)`` uint8.
        value: The class.
        min_area: Smaller ones are left out, in pixels.

    Returns:
        Masks ``(H, W)`` bool.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (class_map == value).astype(np.uint8), connectivity=4)
    return [
        labels == i for i in range(1, count)
        if stats[i, cv2.CC_STAT_AREA] >= min_area
    ]


def annotation(mask: np.ndarray) -> dict:
    """Run lengths, area and box of a mask ``(H, W)`` bool, as COCO has them."""
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(
        segmentation=dict(
            size=list(mask.shape), counts=encoded['counts'].decode()),
        area=int(coco_mask.area(encoded)),
        bbox=coco_mask.toBbox(encoded).tolist(),
        iscrowd=0)


def make_split(root: Path, split: str) -> dict:
    """The instances of a split, in COCO's format.

    Raises:
        FileNotFoundError: There are no class maps, or a photograph is
            missing.
    """
    maps = sorted((root / 'annotations' / split).glob('*.png'))
    if not maps:
        raise FileNotFoundError(
            f'{root}/annotations/{split} holds no class maps (*.png): give '
            'the folder that holds images and annotations of CamVid')
    images, annotations = [], []
    for number, path in enumerate(maps):
        photograph = root / 'images' / split / f'{path.stem}.jpg'
        if not photograph.is_file():
            raise FileNotFoundError(f'{photograph} is missing, but {path} '
                                    'is there: unpack CamVid again')
        class_map = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        height, width = class_map.shape
        images.append(dict(id=number, file_name=photograph.name,
                           height=height, width=width))
        for category, value in enumerate(THINGS.values(), start=1):
            for mask in components(class_map, value):
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=number,
                    category_id=category, **annotation(mask)))
    categories = [dict(id=i, name=name) for i, name in enumerate(THINGS, 1)]
    return dict(
        images=images, annotations=annotations, categories=categories)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, help='folder of CamVid')
    root = parser.parse_args().root
    names = list(THINGS)
    for split in SPLITS:
        try:
            content = make_split(root, split)
        except FileNotFoundError as error:
            sys.exit(f'error: {error}')
        (root / f'instances_{split}.json').write_text(json.dumps(content))
        counts = Counter(
            names[a['category_id'] - 1] for a in content['annotations'])
        print(f'{split}: {len(content["images"])} images, ' + ', '.join(
            f'{counts[name]} {name}' for name in names))


if __name__ == '__main__':
    main()
