import copy

import pytest
import torch
from torch import nn

from unclip.core.seeding import generator
from unclip.training.muon import Muon, orthogonalise
from unclip.training.optim import make_optimizers


def gradients(shape, step: int) -> torch.Tensor:
    """Returns a gradient whose directions differ in strength a hundredfold."""
    draws = torch.randn(shape, generator=generator(0, "gradients", step)).flatten(1)
    u, _, vh = torch.linalg.svd(draws, full_matrices=False)
    return (u * torch.logspace(0, -2, u.shape[1]) @ vh).view(shape)


def by_singular_values(matrix: torch.Tensor) -> torch.Tensor:
    """Returns what the iterations make of a matrix, by its singular value decomposition."""
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ vh


@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (7, 7), (1, 5), (5, 1)])
def test_the_iterations_act_on_singular_values_alone(shape):
    matrices = torch.stack([gradients(shape, step) for step in range(3)])
    for mine, matrix in zip(orthogonalise(matrices), matrices, strict=True):
        assert torch.allclose(mine.double(), by_singular_values(matrix), atol=1e-4)


def test_all_directions_come_out_about_equally_strong():
    values = torch.linalg.svdvals(orthogonalise(gradients((16, 40), 0)[None]))
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.25


def test_a_gradient_of_zero_moves_nothing():
    assert torch.equal(orthogonalise(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_a_step_is_that_of_a_naive_loop(shape):
    weight = nn.Parameter(gradients(shape, 100))
    naive, average = weight.detach().double().clone(), torch.zeros(shape, dtype=torch.float64)
    muon = Muon([weight], lr=0.02, weight_decay=0.3, momentum=0.9)
    for step in range(6):
        weight.grad = gradients(shape, step)
        muon.step()
        gradient = weight.grad.double()
        average = 0.9 * average + 0.1 * gradient
        direction = by_singular_values(0.9 * average + 0.1 * gradient)
        naive = naive - 0.02 * 0.3 * naive - 0.02 * 0.2 * 10**0.5 * direction
        assert torch.allclose(weight.double(), naive, atol=1e-5)


def test_on_matrices_it_is_torchs_muon_but_for_its_bf16():
    ours, theirs = ([nn.Parameter(gradients((8, 12), 9))] for _ in range(2))
    options = {"lr": 0.01, "weight_decay": 0.1}
    pairs = (
        (ours, Muon(ours, **options)),
        (
            theirs,
            torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **options),
        ),
    )
    before = ours[0].detach().clone()
    for step in range(5):
        for (weight,), optimizer in pairs:
            weight.grad = gradients((8, 12), step)
            optimizer.step()
    moved = (ours[0] - before).norm()
    assert (ours[0] - theirs[0]).norm() < 0.03 * moved


def test_a_kernel_counts_as_the_matrix_of_its_filters():
    kernel, matrix = nn.Parameter(gradients((6, 4, 3, 3), 9)), nn.Parameter(gradients((6, 36), 9))
    optimizers = Muon([kernel], lr=0.1), Muon([matrix], lr=0.1)
    for step in range(3):
        kernel.grad, matrix.grad = gradients((6, 4, 3, 3), step), gradients((6, 36), step)
        for optimizer in optimizers:
            optimizer.step()
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)


def test_weights_of_one_shape_do_not_mix():
    together = [nn.Parameter(gradients((5, 8), i)) for i in range(3)]
    alone = copy.deepcopy(together)
    optimizer, others = Muon(together, lr=0.1), [Muon([weight], lr=0.1) for weight in alone]
    for step in range(3):
        for i, pair in enumerate(zip(together, alone, strict=True)):
            for weight in pair:
                weight.grad = gradients((5, 8), 10 * step + i)
        for each in (optimizer, *others):
            each.step()
    for mine, own in zip(together, alone, strict=True):
        assert torch.allclose(mine, own, atol=1e-6)


def test_a_weight_without_a_gradient_stays():
    weights = [nn.Parameter(torch.ones(3, 4)) for _ in range(2)]
    weights[0].grad = gradients((3, 4), 0)
    Muon(weights, lr=0.1, weight_decay=0.5).step()
    assert torch.equal(weights[1], torch.ones(3, 4))
    assert not torch.equal(weights[0], torch.ones(3, 4))


@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (32, 16, 3, 3)])
def test_the_entries_of_a_step_have_a_fifth_of_the_rate_whatever_the_shape(shape):
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = gradients(shape, 0)
    Muon([weight], lr=1e-3).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2e-3, rel=0.2)


def test_in_bf16_it_moves_as_far_to_a_few_percent_and_keeps_float32_weights():
    pair = [nn.Parameter(torch.zeros(6, 8)) for _ in range(2)]
    for weight, dtype in zip(pair, (torch.float32, torch.bfloat16), strict=True):
        weight.grad = gradients((6, 8), 0)
        Muon([weight], lr=0.1, dtype=dtype).step()
    exact, rounded = pair
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match=r"not a \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)


def test_a_closure_computes_the_gradients():
    weight = nn.Parameter(torch.ones(3, 4))

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert Muon([weight], lr=0.1).step(closure).item() == 12
    assert not torch.equal(weight, torch.ones(3, 4))


def test_layers_go_to_muon_and_the_rest_to_adamw():
    model = nn.ModuleDict(
        {"conv": nn.Conv2d(3, 4, 3), "linear": nn.Linear(4, 5), "norm": nn.GroupNorm(1, 4)}
    )
    model["embedding"] = nn.Embedding(7, 4)
    muon, adamw = make_optimizers(model, "muon", lr=0.1, weight_decay=0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        sorted(names[id(p)] for group in each.param_groups for p in group["params"])
        for each in (muon, adamw)
    ]
    assert isinstance(muon, Muon)
    assert found[0] == ["conv.weight", "linear.weight"]
    others = ["conv.bias", "embedding.weight", "linear.bias", "norm.bias", "norm.weight"]
    assert found[1] == others
