import csv
import math
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from unclip.config.errors import UserError
from unclip.core.seeding import generator
from unclip.models.clip import CLIP
from unclip.training.batches import ShuffledBatches
from unclip.training.ema import EMA
from unclip.training.fit import Hook, fit
from unclip.training.loop import Training
from unclip.training.optim import lr_at, make_optimizers

# Which items make the batch of a step


@pytest.mark.parametrize(("num_items", "batch_size"), [(12, 4), (10, 3), (7, 7), (5, 12), (3, 1)])
def test_every_epoch_sees_each_item_once(num_items, batch_size):
    batches = ShuffledBatches(num_items, batch_size, seed=0, purpose="test")
    stream = torch.cat([batches(step) for step in range(4 * num_items)])
    for epoch in stream[: len(stream) // num_items * num_items].view(-1, num_items):
        assert epoch.sort().values.tolist() == list(range(num_items))


def test_every_batch_is_full():
    batches = ShuffledBatches(10, 4, seed=0, purpose="test")
    assert {tuple(batches(step).shape) for step in range(20)} == {(4,)}


@pytest.mark.parametrize(("num_items", "batch_size"), [(10, 3), (5, 12)])
def test_the_batch_of_a_step_depends_on_nothing_before_it(num_items, batch_size):
    batches = ShuffledBatches(num_items, batch_size, seed=0, purpose="test")
    in_order = [batches(step) for step in range(30)]
    for step in [29, 3, 17, 17, 0]:
        fresh = ShuffledBatches(num_items, batch_size, seed=0, purpose="test")
        assert torch.equal(fresh(step), in_order[step])
        assert torch.equal(batches(step), in_order[step])


def test_epochs_seeds_and_purposes_have_orders_of_their_own():
    orders = [
        ShuffledBatches(50, 50, seed, purpose)(epoch)
        for seed, purpose, epoch in [(0, "a", 0), (0, "a", 1), (1, "a", 0), (0, "b", 0)]
    ]
    assert len({tuple(order.tolist()) for order in orders}) == 4


def test_the_order_of_an_epoch_is_that_of_torchs_own_permutation():
    batches = ShuffledBatches(1000, 1000, seed=3, purpose="test")
    for epoch in (0, 1, 5):
        draw = generator(3, "test order", epoch)
        assert batches(epoch).dtype == torch.int64
        assert torch.equal(batches(epoch), torch.randperm(1000, generator=draw))


# Learning rate


@pytest.mark.parametrize(("train_steps", "warmup_steps"), [(20, 5), (20, 0), (7, 1), (100, 99)])
def test_the_rate_is_a_line_up_and_half_a_cosine_down(train_steps, warmup_steps):
    up = [0.3 * (i + 1) / (warmup_steps + 1) for i in range(warmup_steps)]
    left = train_steps - warmup_steps
    down = [
        0.01 + (0.3 - 0.01) * math.cos(math.pi / 2 * i / max(left - 1, 1)) ** 2 for i in range(left)
    ]
    found = [
        lr_at(i, train_steps=train_steps, lr=0.3, lr_min=0.01, warmup_steps=warmup_steps)
        for i in range(train_steps)
    ]
    assert found == pytest.approx(up + down)


@pytest.mark.parametrize(
    ("step", "train_steps", "warmup_steps", "rate"),
    [
        (0, 10, 0, 1.0),
        (4, 10, 4, 1.0),
        (9, 10, 4, 0.1),
        (0, 10, 4, 0.2),
        (0, 1, 0, 1.0),
        (0, 1, 1, 0.5),
        (9, 10, 10, 10 / 11),
        (50, 10, 4, 0.1),
    ],
)
def test_the_rate_at_its_corners(step, train_steps, warmup_steps, rate):
    schedule = {"train_steps": train_steps, "warmup_steps": warmup_steps}
    assert lr_at(step, lr=1.0, lr_min=0.1, **schedule) == pytest.approx(rate)


# Optimizer


def small_clip() -> CLIP:
    torch.manual_seed(0)
    sizes = {"vision_dim": 8, "vision_depth": 1, "vision_heads": 2, "patch_size": 4}
    sizes |= {"text_dim": 8, "text_depth": 1, "text_heads": 2, "text_length": 8}
    return CLIP(image_size=8, in_channels=1, embed_dim=4, vocab_size=256, dropout=0.0, **sizes)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_only_matrices_decay_and_never_the_logit_scale(optimizer):
    model = small_clip()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for each in make_optimizers(model, optimizer, lr=0.1, weight_decay=0.5):
        each.step()
    for name, parameter in model.named_parameters():
        decays = name.endswith("positions") or (
            name.endswith("weight") and "norm" not in name and "bias" not in name
        )
        expected = before[name] * (1 - 0.1 * 0.5) if decays else before[name]
        assert torch.allclose(parameter, expected, rtol=1e-6, atol=0), name
    assert torch.equal(model.logit_scale, before["logit_scale"])


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_trainable_parameter_is_optimised_once_and_no_frozen_one(optimizer):
    model = small_clip()
    model.text.requires_grad_(False)
    optimizers = make_optimizers(model, optimizer, lr=0.1, weight_decay=0.5)
    found = [id(p) for each in optimizers for group in each.param_groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="'sgd' is not muon or adamw"):
        make_optimizers(small_clip(), "sgd", lr=0.1, weight_decay=0.0)


def test_without_weight_decay_adamw_is_adam():
    ours, theirs = small_clip(), small_clip()
    (adamw,) = make_optimizers(ours, "adamw", lr=0.01, weight_decay=0.0)
    optimizers = adamw, torch.optim.Adam(theirs.parameters(), 0.01)
    for step in range(10):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            draws = generator(0, "gradients", step)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draws)
            optimizer.step()
    for mine, adams in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, adams, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_follows_a_naive_loop(decay):
    model = nn.Linear(3, 2)
    ema, average = EMA(model, decay), None
    for n in range(40):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3, generator=generator(0, "weights", n)))
        ema.update(model)
        weight = model.weight.detach().double()
        rate = min(decay, (1 + n) / (10 + n))
        # The first update is the first trained weights: those drawn at random leave no trace.
        average = weight if average is None else rate * average + (1 - rate) * weight
        assert torch.allclose(ema.module.weight.double(), average, atol=1e-6)


def test_the_average_takes_buffers_as_they_are():
    model = nn.BatchNorm1d(3)
    ema = EMA(model, 0.9)
    for n in range(3):
        model(torch.randn(4, 3, generator=generator(0, "data", n)))
        ema.update(model)
    assert torch.equal(ema.module.running_mean, model.running_mean)
    assert torch.equal(ema.module.num_batches_tracked, model.num_batches_tracked)


# The loop and what it keeps


class Toy(nn.Module):
    """A little of everything that training can disturb: dropout, batch norm, a matrix, a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 16)
        self.norm = nn.BatchNorm1d(16)
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        return self.out(self.dropout(torch.tanh(self.norm(self.hidden(x)))))


def batch_of(step: int, purpose: str = "batch"):
    x = torch.randn(16, 4, generator=generator(0, purpose, step))
    return x, x[:, :1] - 2 * x[:, 2:3]


def toy_loss(model, step):
    x, y = batch_of(step)
    return (model(x) - y).square().mean()


def toy_validate(model):
    x, y = batch_of(0, "validation")
    return {"val_loss": float((model(x) - y).square().mean())}


class Log:
    def __init__(self) -> None:
        self.rows = []

    def log_metrics(self, step, metrics):
        self.rows.append((step, dict(metrics)))


def toy_params(**changes) -> SimpleNamespace:
    params = {"seed": 0, "train_steps": 12, "lr": 0.02, "lr_min": 0.0, "warmup_steps": 2}
    params |= {"weight_decay": 0.01, "grad_clip": 1.0, "val_every": 4}
    params |= {"optimizer": "adamw", "ema_decay": None}
    return SimpleNamespace(**(params | changes))


@pytest.fixture
def run(tmp_path):
    """Trains a Toy; keywords change the params or what fit is given."""
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True)

    def run_fit(*, model=None, loss=toy_loss, validate=toy_validate, log=None, **changes):
        options = {"hooks": (), "state": None}
        options |= {key: changes.pop(key) for key in tuple(changes) if key in options}
        if model is None:
            torch.manual_seed(0)
            model = Toy()
        return fit(
            model,
            loss,
            validate,
            toy_params(**changes),
            stage="train_toy",
            accelerator=accelerator,
            log=log or Log(),
            history_path=tmp_path / "history" / "toy.csv",
            **options,
        )

    run_fit.accelerator = accelerator
    run_fit.history = tmp_path / "history" / "toy.csv"
    return run_fit


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_whole_training_equals_a_naive_loop(run):
    torch.manual_seed(0)
    model, naive = (nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)) for _ in range(2))
    naive.load_state_dict(model.state_dict())
    run(model=model, grad_clip=0.3, weight_decay=0.1)

    matrices, vectors = [naive[0].weight, naive[2].weight], [naive[0].bias, naive[2].bias]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=0.02,
    )
    for step in range(12):
        rate = (
            0.02 * (step + 1) / 3 if step < 2 else 0.01 * (1 + math.cos(math.pi * (step - 2) / 9))
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        toy_loss(naive, step).backward()
        gradients = [p.grad for p in (*matrices, *vectors)]
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        for gradient in gradients:
            gradient *= min(1.0, 0.3 / norm)
        optimizer.step()
    for name, tensor in naive.state_dict().items():
        assert torch.allclose(model.state_dict()[name], tensor, atol=1e-5), name


def test_every_step_drops_out_something_else_and_the_same_in_every_run(run):
    def masks():
        found = []

        def loss(model, step):
            found.append(tuple(model.dropout(torch.ones(64)).tolist()))
            return toy_loss(model, step)

        run(loss=loss)
        return found

    first = masks()
    assert len(set(first)) == 12
    assert masks() == first


def test_the_loss_falls(run):
    log = Log()
    run(train_steps=120, val_every=120, log=log)
    losses = [row["train_loss"] for _, row in log.rows if "train_loss" in row]
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


def test_equal_seeds_give_equal_weights(run):
    assert same(run().weights, run().weights)


def test_another_seed_gives_other_weights(run):
    # Same first weights, same batches: only dropout is drawn anew.
    assert not same(run(ema_decay=0.5).weights, run(ema_decay=0.5, seed=1).weights)


def test_what_others_draw_from_the_global_generator_changes_nothing(run):
    def disturb(*_):
        torch.rand(7)
        torch.manual_seed(12345)

    hooks = (Hook(1, disturb),)
    assert same(run(ema_decay=0.5).weights, run(ema_decay=0.5, hooks=hooks).weights)


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_how_often_it_is_validated_changes_nothing(run, ema_decay):
    last = {"ema_decay": ema_decay, "train_steps": 10}
    if ema_decay is None:  # then the best is kept: make every validation the best so far
        falling = iter(range(100, 0, -1))
        last["validate"] = lambda model: toy_validate(model) | {"val_loss": next(falling)}
    assert same(run(val_every=2, **last).weights, run(val_every=5, **last).weights)


def test_networks_learn_in_train_mode_and_are_judged_in_eval_mode(run):
    modes = {"loss": [], "validate": [], "hook": []}

    def loss(model, step):
        modes["loss"].append(model.training)
        return toy_loss(model, step)

    def validate(model):
        modes["validate"].append(model.training)
        return toy_validate(model)

    def act(step, model):
        modes["hook"].append(model.training)

    for ema_decay in (None, 0.9):
        run(loss=loss, validate=validate, hooks=(Hook(3, act),), ema_decay=ema_decay)
    assert set(modes["loss"]) == {True}
    assert set(modes["validate"]) == set(modes["hook"]) == {False}


def test_without_average_the_lowest_validation_loss_is_kept(run):
    seen, scripted = [], iter([3.0, 1.0, 2.0, 1.0])

    def validate(model):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"val_loss": next(scripted), "other": len(seen)}

    fitted = run(validate=validate, train_steps=14, val_every=4)
    assert (fitted.kept_step, fitted.metrics) == (8, {"val_loss": 1.0, "other": 2})
    assert same(fitted.weights, seen[1])


def test_with_average_the_last_one_is_kept_whatever_the_validation_loss(run):
    scripted = iter([1.0, 2.0, 3.0, 4.0])
    weights = []

    def loss(model, step):
        weights.append({k: v.detach().clone() for k, v in model.named_parameters()})
        return toy_loss(model, step)

    torch.manual_seed(0)
    model = Toy()
    fitted = run(
        model=model,
        loss=loss,
        validate=lambda _: {"val_loss": next(scripted)},
        ema_decay=0.5,
        train_steps=14,
    )
    assert (fitted.kept_step, fitted.metrics) == (14, {"val_loss": 4.0})
    trained = [*weights[1:], {k: v.detach() for k, v in model.named_parameters()}]
    average = trained[0]
    for n, latest in enumerate(trained[1:], start=1):
        rate = min(0.5, (1 + n) / (10 + n))
        average = {k: rate * average[k] + (1 - rate) * latest[k] for k in average}
    assert all(torch.allclose(fitted.weights[k], average[k], atol=1e-6) for k in average)


def test_kept_weights_are_a_copy_that_further_training_does_not_touch(run):
    rising = iter([1.0, 2.0, 3.0])
    torch.manual_seed(0)
    model = Toy()
    fitted = run(model=model, validate=lambda _: {"val_loss": next(rising)})
    assert fitted.kept_step == 4
    assert not same(fitted.weights, model.state_dict())


def test_the_kept_weights_are_named_as_the_networks_own(run):
    for ema_decay in (None, 0.9):
        assert run(ema_decay=ema_decay).weights.keys() == Toy().state_dict().keys()


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("train_steps", [12, 800])  # a row of the history each step, or each four
def test_a_loss_that_is_not_finite_names_its_step_and_leaves_nothing(run, broken, train_steps):
    def loss(model, step):
        return toy_loss(model, step) * (broken if step == 4 else 1.0)

    with pytest.raises(UserError, match=rf"^train_toy: loss is {broken} at step 5, .*toy\.lr") as e:
        run(loss=loss, train_steps=train_steps, val_every=train_steps)
    assert "\n" not in str(e.value)
    assert not run.history.exists()


def test_a_gradient_that_is_not_finite_is_named(run):
    def loss(model, step):
        return toy_loss(model, step) + (model.out.bias * 0.0).abs().sum().sqrt()

    with pytest.raises(UserError, match=r"gradient norm is (nan|inf) at step 1,"):
        run(loss=loss)


def test_a_validation_loss_that_is_not_finite_is_named(run):
    with pytest.raises(UserError, match="validation loss is nan at step 4"):
        run(validate=lambda _: {"val_loss": math.nan})


@pytest.mark.parametrize(("grad_clip", "moved"), [(0.5, 0.5), (100.0, 10.0)])
def test_the_gradient_is_clipped_to_its_norm_and_reported_unclipped(
    run, monkeypatch, grad_clip, moved
):
    def plain_descent(model, *_, **__):
        return [torch.optim.SGD(model.parameters(), lr=1.0)]

    monkeypatch.setattr("unclip.training.loop.make_optimizers", plain_descent)
    model = nn.ParameterDict({"a": nn.Parameter(torch.zeros(2)), "b": nn.Parameter(torch.zeros(1))})
    training = Training(
        model,
        lambda m, _: 6 * m["a"].sum() + math.sqrt(28) * m["b"].sum(),  # a gradient of norm 10
        toy_params(train_steps=1, warmup_steps=0, lr=1.0, grad_clip=grad_clip),
        stage="train_toy",
        accelerator=run.accelerator,
    )
    (step,) = training.steps()
    assert float(step.grad_norm) == pytest.approx(10)
    change = torch.cat([p.detach() for p in model.values()])
    assert float(change.norm()) == pytest.approx(moved, rel=1e-4)


def test_a_step_says_the_rate_that_it_used(run):
    log = Log()
    run(log=log)
    schedule = {"train_steps": 12, "lr": 0.02, "lr_min": 0.0, "warmup_steps": 2}
    rates = [row["lr"] for _, row in log.rows if "lr" in row]
    assert rates == pytest.approx([lr_at(i, **schedule) for i in range(12)])


# Curves


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_history_has_a_row_a_step_and_gaps_where_nothing_was_validated(run):
    run(train_steps=7, val_every=3)
    rows = rows_of(run.history)
    assert list(rows[0]) == ["step", "train_loss", "grad_norm", "lr", "val_loss"]
    assert [row["step"] for row in rows] == list("1234567")
    assert [row["step"] for row in rows if row["val_loss"]] == ["3", "6", "7"]
    assert all(float(row["train_loss"]) > 0 for row in rows)


def test_a_long_training_has_about_200_rows_of_averages(run):
    losses = []

    def loss(model, step):
        value = toy_loss(model, step)
        losses.append(float(value.detach()))
        return value

    run(loss=loss, train_steps=405, val_every=405)
    rows = rows_of(run.history)
    assert len(rows) == 203
    first, last = float(rows[0]["train_loss"]), float(rows[-1]["train_loss"])
    assert first == pytest.approx((losses[0] + losses[1]) / 2, rel=1e-5)
    assert last == pytest.approx(losses[-1], rel=1e-5)


def test_a_validation_between_two_rows_has_a_row_of_its_own(run):
    run(train_steps=402, val_every=101)
    rows = {row["step"]: row for row in rows_of(run.history)}
    assert rows["101"]["train_loss"] == ""
    assert float(rows["101"]["val_loss"]) > 0


def test_the_log_is_told_what_the_history_says(run):
    log = Log()
    run(log=log)
    told: dict[int, dict] = {}
    for step, metrics in log.rows:
        told.setdefault(step, {}).update(metrics)
    written = {
        int(row.pop("step")): {k: float(v) for k, v in row.items() if v}
        for row in rows_of(run.history)
    }
    assert told.keys() == written.keys()
    for step, metrics in told.items():
        assert written[step] == pytest.approx(metrics, rel=1e-5)


def test_hooks_act_at_their_interval_and_at_the_end(run):
    acted = []
    run(train_steps=10, hooks=(Hook(4, lambda step, _: acted.append(step)),))
    assert acted == [4, 8, 10]


def test_hooks_are_handed_the_weights_that_would_be_kept(run):
    handed = []
    hook = Hook(12, lambda _, model: handed.append(dict(model.state_dict())))
    fitted = run(ema_decay=0.9, hooks=(hook,))
    assert same(handed[0], fitted.weights)
