"""Optimizers and learning rate of every training stage."""

import math

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from unclip.training.muon import Muon


def make_optimizers(
    model: nn.Module,
    optimizer: str,
    *,
    lr: float,
    weight_decay: float,
    dtype: torch.dtype = torch.float32,
) -> list[Optimizer]:
    """Returns the optimizers of a network; each parameter belongs to one of them.

    "adamw" is AdamW (Loshchilov & Hutter 2019), which is plain Adam when weight_decay is 0. "muon"
    is Muon for the weights of all linear and convolutional layers, and AdamW for the rest. (Jordan
    et al. 2024 leave the first and the last layer to AdamW; here Muon trains these as well, and no
    list of names is needed.) Only matrices and kernels decay, not biases, norms and scalars such as
    CLIP's `logit_scale`.

    Args:
        model: the network, on the device that trains it.
        optimizer: "muon" or "adamw".
        lr: learning rate, about equally effective in both.
        weight_decay: decoupled from the gradient.
        dtype: of Muon's products.

    Raises:
        ValueError: an unknown optimizer.
    """
    if optimizer not in ("muon", "adamw"):
        raise ValueError(f"optimizer: {optimizer!r} is not muon or adamw")
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    of_muon = [m.weight for m in layers if m.weight.requires_grad] if optimizer == "muon" else []
    is_muons = {id(weight) for weight in of_muon}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in is_muons]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = []
    if of_muon:
        optimizers.append(Muon(of_muon, lr, weight_decay, dtype=dtype))
    if groups := [group for group in groups if group["params"]]:
        fused = all(p.device.type in ("cpu", "cuda") for p in others)
        optimizers.append(AdamW(groups, lr=lr, fused=fused))
    return optimizers


def lr_at(step: int, *, train_steps: int, lr: float, lr_min: float, warmup_steps: int) -> float:
    """Returns the learning rate of a step: linear warm-up, then a cosine down to `lr_min`.

    Args:
        step: 0 is the first.
        train_steps: step train_steps - 1 has `lr_min`, unless the warm-up lasts as long.
        lr: the highest rate, reached at step `warmup_steps`.
        lr_min: the lowest rate of the cosine.
        warmup_steps: 0 is none.
    """
    if step < warmup_steps:
        return lr * (step + 1) / (warmup_steps + 1)
    span = max(1, train_steps - 1 - warmup_steps)
    fraction = min(1.0, (step - warmup_steps) / span)
    return lr_min + (lr - lr_min) * 0.5 * (1.0 + math.cos(math.pi * fraction))
