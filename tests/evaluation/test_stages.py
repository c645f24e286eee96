# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Charges worked out by hand, on a counter that the stages move themselves."""
import pytest
import torch
from torch import nn

from mmeffmae.evaluation.stages import Label, Place, StageMeter, metered

BACKWARD = [Label(name, backward=True) for name in ('loss', 'decoder', 'encoder')]


class Cost(torch.autograd.Function):
    """The identity; moves a counter forward and backward."""

    @staticmethod
    def forward(ctx, x, counter, forward, backward):
        ctx.counter, ctx.backward_cost = counter, backward
        counter[0] += forward
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        ctx.counter[0] += ctx.backward_cost
        return grad, None, None, None


class Part(nn.Module):

    def __init__(self, counter, forward, backward, inner=None):
        super().__init__()
        self.cost = counter, forward, backward
        self.inner = inner

    def forward(self, x):
        if self.inner is not None:
            x = self.inner.embed(x)
        return Cost.apply(x, *self.cost)

    def embed(self, x):
        return Cost.apply(x, *self.cost)


@pytest.fixture
def step():
    """A step and its meter: a stem in an encoder, a decoder, a loss."""
    counter = [0]
    stem = Part(counter, 1, 2)
    encoder, decoder = Part(counter, 10, 20, stem), Part(counter, 100, 200)

    class Training:
        weight = torch.ones(3, requires_grad=True)

        def head(self, x):
            return dict(loss=Cost.apply(x, counter, 1000, 2000).sum(), extra=None)

        def backward(self, loss):
            loss.backward()
            counter[0] += 30000  # leaves: after the stem, so charged to it

    training = Training()
    places = [
        Place('stem', stem, 'embed'), Place('encoder', encoder, 'forward'),
        Place('decoder', decoder, 'forward'), Place('loss', training, 'head'),
        Place('backward', training, 'backward')]

    def run():
        counter[0] += 5
        loss = training.head(decoder(encoder(training.weight)))['loss']
        training.backward(loss)

    return run, places, StageMeter(lambda: counter[0]), counter


def test_charges_by_hand(step):
    run, places, meter, counter = step
    with metered(meter, places), meter.running():
        run()
    charges = meter.charges()
    assert charges == {
        Label('other'): 5, Label('stem'): 1, Label('encoder'): 10,
        Label('decoder'): 100, Label('loss'): 1000,
        Label('loss', True): 2000, Label('decoder', True): 200,
        Label('encoder', True): 20, Label('stem', True): 30002}
    assert sum(charges.values()) == counter[0]


def test_methods_are_as_before_and_runs_add_up(step):
    run, places, meter, counter = step
    own = lambda x: x  # noqa: E731
    places[1].owner.other = own
    with metered(meter, [*places, Place('x', places[1].owner, 'other')]):
        with meter.running():
            run()
        counter[0] += 10**6  # between the runs
        with meter.running():
            run()
    assert meter.charges()[Label('decoder')] == 200
    assert sum(meter.charges().values()) < 10**6
    assert places[1].owner.other is own
    for place in places:
        assert place.method not in vars(place.owner)


def test_gradients_outside_of_the_backward_pass_are_not_charged(step):
    run, places, meter, _ = step
    with metered(meter, places), meter.running():
        places[2].owner(torch.ones(3, requires_grad=True)).sum().backward()
    assert not set(BACKWARD) & set(meter.charges())
