# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Predictions, reconstructions and embeddings of images on disk."""
from .embedding import embed_images, near_duplicates, nearest_neighbours
from .images import list_images, loader_of, loader_settings, read_images
from .predictor import Predictor

__all__ = [
    'Predictor', 'embed_images', 'list_images', 'loader_of', 'loader_settings',
    'near_duplicates', 'nearest_neighbours', 'read_images'
]
