# Copyright (c) mmeffmae developers. Licensed under the Apache License 2.0.
"""Decorrelated back-propagation in plain torch (arXiv 2510.14657, 2405.02385).

A layer computes y = W (R x) + b. W and b learn by back-propagation through
the constant R; after their step R learns from the same inputs, by a rule of
its own, to make z = R x uncorrelated and of unit variance.
"""
import torch
from torch.nn import functional as F


def layer(x, weight, bias, matrix):
    """``(n, d)`` to ``(n, out)``; the decorrelated input is formed."""
    return F.linear(F.linear(x, matrix), weight, bias)


def statistics(matrix, x, kappa):
    """G: off-diagonal moments of z, and deviations of its variances from 1."""
    z = x @ matrix.T
    moments = z.T @ z / len(z)
    correlations = moments - torch.diag(torch.diag(moments))
    variances = torch.diag(torch.diag(moments) - 1)
    return (1 - kappa) * correlations + kappa * variances


def update(matrix, x, eta, kappa, guard=float('inf')):
    """R after its update; the step is bounded by ``guard / |G|``."""
    gradient = statistics(matrix, x, kappa)
    step = min(eta, guard / gradient.norm().item())
    return matrix - step * gradient @ matrix


def train_step(x, target, weights, biases, matrices, lr, eta, kappa, guard):
    """One step of a two-layer perceptron under the squared error.

    Returns the loss, the gradients, and the parameters and matrices after it.
    """
    parameters = [p.clone().requires_grad_() for p in (*weights, *biases)]
    (w1, w2), (b1, b2) = parameters[:2], parameters[2:]
    hidden = F.gelu(layer(x, w1, b1, matrices[0]))
    loss = F.mse_loss(layer(hidden, w2, b2, matrices[1]), target)
    gradients = torch.autograd.grad(loss, parameters)
    stepped = [(p - lr * g).detach() for p, g in zip(parameters, gradients)]
    inputs = x, hidden.detach()
    learned = [update(r, z, eta, kappa, guard) for r, z in zip(matrices, inputs)]
    return loss.detach(), gradients, stepped[:2], stepped[2:], learned


def fold(weight, matrix):
    """The weight of the ordinary layer that computes the same."""
    return weight @ matrix
