from __future__ import annotations

import torch
from torch import nn
from upscale_training.loop.ema import MovingAverage


def test_it_starts_from_the_weights_and_follows_the_formula():
    torch.manual_seed(0)
    network, decay = nn.Conv2d(3, 4, 3), 0.9
    average = MovingAverage(network, decay)
    expected = {key: value.clone().double() for key, value in network.state_dict().items()}
    for key, value in average.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[key], rtol=0, atol=0)
    for _ in range(20):
        for parameter in network.parameters():
            parameter.data += torch.randn_like(parameter)
        average.update(network)
        for key, value in network.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * value.double()
    for key, value in average.state_dict().items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-5, atol=1e-6)


def test_a_decay_of_0_is_the_network_itself():
    network = nn.Linear(3, 2)
    average = MovingAverage(network, 0)
    network.weight.data += 1
    average.update(network)
    assert torch.equal(average.network.weight, network.weight)


def test_it_neither_takes_gradients_nor_shares_memory():
    network = nn.Linear(3, 2)
    average = MovingAverage(network, 0.5)
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    before = average.network.weight.clone()
    network.weight.data += 1
    assert torch.equal(average.network.weight, before)
    assert not average.network.training
