"""The note of a painted picture: all that it takes to paint it again, bit for bit.

A note is text in the PNG. It has no time, host or commit, which would change pictures that are DVC
outs. Rounding depends on the batch, so the note of a picture of a prompt states the whole call;
pictures of latents are painted alone, and state their latent.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from unclip.config.errors import UserError
from unclip.diffusion.reverse import Solver
from unclip.diffusion.samplers import SAMPLERS, SPACINGS
from unclip.painting.settings import Latent, Settings
from unclip.painting.system import Pictures, System

Note = dict[str, str]
SOLVER_KEYS = ("sampler", "steps", "eta", "guidance", "spacing")


def settings_note(system: System, settings: Settings) -> Note:
    """Returns what pictures of prompts, and sheets, carry: settings and checkpoints."""
    prior = _solver_note("prior", settings.prior)
    prior |= {"prior.candidates": str(settings.prior_candidates)}
    return prior | _decoder_note(system, settings)


def call_note(
    system: System, prompts: Sequence[str], seeds: Sequence[int], settings: Settings
) -> Note:
    """Returns what all pictures of one call of `System.paint` carry."""
    return settings_note(system, settings) | {
        "prompts": join_prompts(prompts),
        "seeds": " ".join(map(str, seeds)),
        "batch_size": str(settings.batch_size),
    }


def picture_notes(call: Note, prompts: Sequence[str], seeds: Sequence[int]) -> list[Note]:
    """Returns the note of each picture of one call of `System.paint`, first prompt first.

    `call` is what all of them carry.
    """
    every = [(prompt, seed) for prompt in prompts for seed in seeds]
    return [
        call | {"prompt": prompt, "seed": str(seed), "index": str(index)}
        for index, (prompt, seed) in enumerate(every)
    ]


def latent_note(system: System, latent: Latent, settings: Settings) -> Note:
    """Returns what a picture of `System.paint_latent` carries: latent, solver and checkpoints.

    The latent is float32, little-endian, in base64.
    """
    note = _decoder_note(system, settings)
    note |= {"seed": str(latent.seed), "image_embed": _pack(latent.image_embed)}
    return note | ({} if latent.x_T is None else {"x_T": _pack(latent.x_T)})


def join_prompts(prompts: Sequence[str]) -> str:
    """Returns prompts as one text, a line each; a backslash or line break in one is escaped."""
    return "\n".join(p.replace("\\", "\\\\").replace("\n", "\\n") for p in prompts)


def split_prompts(text: str) -> list[str]:
    """Returns the prompts that `join_prompts` has joined."""
    parts = (line.split("\\\\") for line in text.split("\n"))
    return ["\\".join(part.replace("\\n", "\n") for part in line) for line in parts]


def repaint(system: System, note: Mapping[str, str]) -> Pictures:
    """Returns the picture (C, H, W) uint8 that a note describes, painted again.

    On the machine that painted it, with the same settings, every bit is the same.

    Raises:
        UserError: the note is not of a single picture, is damaged, or names other checkpoints than
            those of the system.
    """
    if "image_embed" in note:
        return _repaint_latent(system, note)
    if "index" in note:
        return _repaint_prompt(system, note)
    raise UserError(
        "the picture carries no note that says how to paint it again; expected a single picture "
        "that this project painted; take one of those saved beside a sheet"
    )


def _repaint_latent(system: System, note: Mapping[str, str]) -> Pictures:
    _require_checkpoints(system, note, ("decoder",))
    with _parsing():
        x_T = _unpack(note["x_T"], system.picture_shape) if "x_T" in note else None
        shape = (system.clip.image_projection.out_features,)
        latent = Latent(_unpack(note["image_embed"], shape), int(note["seed"]), x_T)
        solver = _solver(note, "decoder")
        settings = Settings(solver, solver, 1, 1, _precision(note))
    return system.paint_latent(latent, settings)


def _repaint_prompt(system: System, note: Mapping[str, str]) -> Pictures:
    _require_checkpoints(system, note, ("clip", "prior", "decoder"))
    with _parsing():
        prompts = split_prompts(note["prompts"])
        seeds = [int(seed) for seed in note["seeds"].split()]
        row, column = divmod(int(note["index"]), len(seeds))
        if not 0 <= row < len(prompts):
            raise ValueError(f"index: {note['index']} is none of the pictures")
        settings = Settings(
            _solver(note, "prior"),
            _solver(note, "decoder"),
            int(note["prior.candidates"]),
            int(note["batch_size"]),
            _precision(note),
        )
    return system.paint(prompts, seeds, settings)[row, column]


@contextmanager
def _parsing() -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, ArithmeticError) as error:
        raise UserError(
            f"the note of the picture is damaged or of another version ({error}); expected it "
            "unchanged; paint the picture anew"
        ) from None


def _solver(note: Mapping[str, str], name: str) -> Solver:
    sampler, steps, eta, guidance = (note[f"{name}.{key}"] for key in SOLVER_KEYS[:4])
    if sampler not in SAMPLERS:
        raise ValueError(f"{name}.sampler: {sampler!r} is none of {', '.join(SAMPLERS)}")
    spacing = note.get(f"{name}.spacing", "uniform")  # a note from before it was noted
    if spacing not in SPACINGS:
        raise ValueError(f"{name}.spacing: {spacing!r} is none of {', '.join(SPACINGS)}")
    return Solver(sampler, int(steps), float(eta), float(guidance), spacing)


def _precision(note: Mapping[str, str]) -> str:
    if note["precision"] not in ("fp32", "bf16"):
        raise ValueError(f"precision: {note['precision']!r}")
    return note["precision"]


def _require_checkpoints(system: System, note: Mapping[str, str], kinds: Sequence[str]) -> None:
    for kind in kinds:
        named = note.get(f"checkpoint.{kind}", "none")
        if named != system.hashes[kind]:
            raise UserError(
                f"checkpoint.{kind}: the picture was painted by {named[:12]!r}, but this {kind} is "
                f"{system.hashes[kind][:12]!r}; name the folder or revision that has the other one"
            )


def _solver_note(name: str, solver: Solver) -> Note:
    return {f"{name}.{key}": str(getattr(solver, key)) for key in SOLVER_KEYS}


def _decoder_note(system: System, settings: Settings) -> Note:
    hashes = {f"checkpoint.{kind}": value for kind, value in system.hashes.items()}
    decoder = _solver_note("decoder", settings.decoder)
    return decoder | hashes | {"precision": settings.precision}


def _pack(numbers: Tensor) -> str:
    return base64.b64encode(numbers.cpu().numpy().astype("<f4").tobytes()).decode("ascii")


def _unpack(text: str, shape: tuple[int, ...]) -> Tensor:
    numbers = np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(shape)
    return torch.from_numpy(numbers.astype(np.float32))
