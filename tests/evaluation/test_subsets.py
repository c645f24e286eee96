# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
from collections import Counter

import pytest

from mmeffmae.evaluation.subsets import describe_subset, label_subset

LABELS = [0] * 200 + [1] * 120 + [2] * 4


def counts(indices):
    return Counter(LABELS[index] for index in indices)


def test_subsets_are_stratified_nested_and_repeatable():
    few = label_subset(LABELS, per_class=10)
    tenth = label_subset(LABELS, share=0.1)
    assert counts(few) == {0: 10, 1: 10, 2: 4}
    assert counts(tenth) == {0: 20, 1: 12, 2: 1}
    for label in (0, 1):
        of_class = {i for i in few if LABELS[i] == label}
        assert of_class < set(tenth)
    assert label_subset(LABELS, share=1.0) == list(range(324))
    assert few == label_subset(LABELS, per_class=10)
    assert few != label_subset(LABELS, per_class=10, seed=1)
    assert few[:10] != list(range(10))


def test_record_names_the_choice():
    few = label_subset(LABELS, per_class=10)
    record = describe_subset(LABELS, few)
    assert record['images'] == 24 and record['per_class'] == [4, 10]
    other = describe_subset(LABELS, label_subset(LABELS, per_class=10, seed=1))
    assert record['indices_hash'] != other['indices_hash']


@pytest.mark.parametrize('options, message', [
    (dict(), 'give one'),
    (dict(share=0.1, per_class=10), 'give one'),
    (dict(share=10), 'share 10'),
    (dict(per_class=0), 'per_class 0'),
])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        label_subset(LABELS, **options)
