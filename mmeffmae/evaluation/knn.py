# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Weighted k-nearest-neighbour classification of frozen features."""
import torch
import torch.nn.functional as F
from torch import Tensor


def knn_accuracy(bank: Tensor,
                 bank_labels: Tensor,
                 query: Tensor,
                 query_labels: Tensor,
                 k: int = 20,
                 temperature: float = 0.07,
                 chunk: int = 1024) -> float:
    """Top-1 accuracy of weighted k-nearest neighbours.

    The protocol of Wu et al., "Unsupervised Feature Learning via
    Non-Parametric Instance Discrimination" (CVPR 2018, arXiv:1805.01978), as
    DINO uses it (Caron et al., ICCV 2021, arXiv:2104.14294): cosine
    similarity s, each of the k nearest bank images votes for its class with
    weight exp(s / temperature).

    Args:
        bank: Features that vote, ``(N, C)`` float.
        bank_labels: Their classes, ``(N,)`` int64.
        query: Features to classify, ``(M, C)`` float.
        query_labels: Their classes, ``(M,)`` int64.
        k: Number of neighbours.
        temperature: Divides the similarities.
        chunk: Queries compared at a time; bounds the memory.

    Returns:
        Accuracy in percent.

    Raises:
        ValueError: ``k`` is not within 1 and N.
    """
    if not 1 <= k <= len(bank):
        raise ValueError(
            f'k={k} neighbours of a bank of {len(bank)} images: choose k '
            f'between 1 and {len(bank)}')
    bank = F.normalize(bank.float(), dim=1)
    query = F.normalize(query.float(), dim=1)
    num_classes = int(max(bank_labels.max(), query_labels.max())) + 1
    correct = 0
    for features, labels in zip(query.split(chunk), query_labels.split(chunk)):
        similarity, neighbours = (features @ bank.T).topk(k, dim=1)
        # Equal to exp(s / temperature) up to a factor common to a query.
        weights = (similarity / temperature).softmax(dim=1)
        votes = torch.zeros(len(features), num_classes, device=bank.device)
        votes.scatter_add_(1, bank_labels[neighbours], weights)
        correct += int((votes.argmax(dim=1) == labels).sum())
    return 100.0 * correct / len(query)
