"""Pictures for people: the grid of prompts × seeds, and the note that every saved picture carries.

A note is text in the PNG: all that is needed to paint the picture again, on the same machine to the
last bit. It has no time, host or commit: pictures that are DVC outs would change. Rounding depends
on the batch that a picture is painted in. So the note of a picture of a prompt states the whole
call; pictures of latents are painted alone, and state their latent.
"""

import base64
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unclip.config.errors import UserError
from unclip.config.strict import Strict, checked
from unclip.data.prepared import Prepared
from unclip.diffusion.reverse import Solver
from unclip.painting.painter import Latent
from unclip.painting.system import Settings, System
from unclip.params.sections import Candidates, Count, Guidance, Index, Probability, Sampler, Seed

Pictures = npt.NDArray[np.uint8]


def paint_rows(
    system: System, prompts: Sequence[str], seeds: Sequence[int], settings: Settings, **how: Any
) -> Pictures:
    """Returns pictures (R, N, C, H, W) uint8, a row for each prompt and a column for each seed."""
    every_prompt = [prompt for prompt in prompts for _ in seeds]
    every_seed = [seed for _ in prompts for seed in seeds]
    embeds = system.sample_prior(every_prompt, every_seed, settings)
    painted = system.decode(
        embeds, every_prompt, every_seed, settings.decoder, settings.batch_size, **how
    )
    return painted.reshape(len(prompts), len(seeds), *painted.shape[1:])


def real_pictures(data: Prepared, prompts: Sequence[str]) -> Pictures | None:
    """Returns the first test picture of each prompt, (R, C, H, W), if every prompt has one."""
    test = data.split("test")
    found = []
    for prompt in prompts:
        if prompt not in data.captions:
            return None
        rows = (test.caption_index == data.captions.index(prompt)).nonzero()
        if len(rows) == 0:
            return None
        found.append(test.gather(rows[0]).numpy()[0])
    return np.stack(found)


def evenly(count: int, most: int) -> list[int]:
    """Returns at most `most` of the indices below `count`, evenly spread, both ends among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def provenance(system: System, settings: Settings, precision: str) -> dict[str, str]:
    """Returns what every picture of a prompt carries: settings and checkpoints.

    Args:
        system: what paints.
        settings: how it paints.
        precision: as the machine resolved it, fp32 or bf16.
    """
    prior = _solver_note("prior", settings.prior)
    prior |= {"prior.candidates": str(settings.prior_candidates)}
    return prior | _decoder_note(system, settings.decoder, precision)


def call_note(prompts: Sequence[str], seeds: Sequence[int], batch_size: int) -> dict[str, str]:
    """Returns what the pictures of one `paint_rows` carry beside their provenance."""
    return {
        "prompts": join_prompts(prompts),
        "seeds": " ".join(map(str, seeds)),
        "batch_size": str(batch_size),
    }


def picture_notes(
    call: Mapping[str, str], prompts: Sequence[str], seeds: Sequence[int]
) -> list[list[dict[str, str]]]:
    """Returns the note of each picture of one `paint_rows`: a row for each prompt.

    Args:
        call: what all of them carry, `provenance` and `call_note` among it.
        prompts: of the call.
        seeds: likewise.
    """
    index = itertools.count()
    return [
        [{**call, "prompt": prompt, "seed": str(seed), "index": str(next(index))} for seed in seeds]
        for prompt in prompts
    ]


def latent_note(system: System, latent: Latent, solver: Solver, precision: str) -> dict[str, str]:
    """Returns what a picture of `paint_latent` carries: its latent, the solver and checkpoints.

    Numbers of the latent are float32, the least significant byte first, in base64.
    """
    note = _decoder_note(system, solver, precision)
    note |= {"seed": str(latent.seed), "image_embed": _pack(latent.image_embed)}
    return note | ({} if latent.x_T is None else {"x_T": _pack(latent.x_T)})


def join_prompts(prompts: Sequence[str]) -> str:
    """Returns prompts as one text, a line each; a backslash or line break in one is escaped."""
    return "\n".join(p.replace("\\", "\\\\").replace("\n", "\\n") for p in prompts)


def split_prompts(text: str) -> list[str]:
    """Returns the prompts that `join_prompts` has joined."""
    parts = (line.split("\\\\") for line in text.split("\n"))
    return ["\\".join(part.replace("\\n", "\n") for part in line) for line in parts]


def repaint(system: System, text: Mapping[str, str]) -> Pictures:
    """Returns the picture (C, H, W) uint8 that a note describes, painted again.

    Where the machine and its settings are those that painted it, every bit is the same.

    Args:
        system: with the checkpoints that the note names.
        text: the note of a single picture, as `png.read_png_text` reads it.

    Raises:
        UserError: the note is of no single picture, is damaged, or names other checkpoints.
    """
    if "image_embed" in text:
        return _repaint_latent(system, text)
    if "index" in text:
        return _repaint_prompt(system, text)
    raise UserError(
        "the picture carries no note that says how to paint it again; expected a single picture "
        "that the command line saved; of a sheet, take the pictures saved beside it"
    )


def _repaint_latent(system: System, text: Mapping[str, str]) -> Pictures:
    raw = _section(text, ("image_embed", "x_T", "precision")) | _numbers(text, ("seed",))
    note = _checked(_LatentNote, raw | {"decoder": _solver(text, "decoder")})
    _require_checkpoints(system, text, ("decoder",))
    x_T = None if note.x_T is None else _unpack(note.x_T, system.picture_shape, "x_T")
    embed = _unpack(note.image_embed, (system.embed_dim,), "image_embed")
    with _in_precision(system, note.precision):
        return system.paint_latent(Latent(embed, note.seed, x_T), note.decoder.solver())


def _repaint_prompt(system: System, text: Mapping[str, str]) -> Pictures:
    raw = _section(text, ("precision",)) | _numbers(text, ("batch_size", "index"))
    raw |= {"prompts": split_prompts(text.get("prompts", ""))}
    raw |= {"seeds": [_number(seed) for seed in text.get("seeds", "").split()]}
    solvers = {name: _solver(text, name) for name in ("prior", "decoder")}
    note = _checked(_CallNote, raw | solvers)
    count = len(note.prompts) * len(note.seeds)
    if note.index >= count:
        raise _damaged(f"index: {note.index} is not one of {count} pictures")
    _require_checkpoints(system, text, ("clip", "prior", "decoder"))
    settings = Settings(
        note.prior.solver(), note.decoder.solver(), note.prior.candidates, note.batch_size
    )
    with _in_precision(system, note.precision):
        rows = paint_rows(system, note.prompts, note.seeds, settings)
    return rows.reshape(-1, *rows.shape[2:])[note.index]


class _SolverNote(Strict):
    """How one network was sampled."""

    sampler: Sampler
    steps: Count
    eta: Probability
    guidance: Guidance

    def solver(self) -> Solver:
        return Solver(self.sampler, self.steps, self.eta, self.guidance)


class _PriorNote(_SolverNote):
    candidates: Candidates


class _LatentNote(Strict):
    """What is read of the note of a latent."""

    decoder: _SolverNote
    precision: Literal["fp32", "bf16"]
    seed: Seed
    image_embed: str
    x_T: str | None = None


class _CallNote(Strict):
    """What is read of the note of a picture of a prompt."""

    decoder: _SolverNote
    prior: _PriorNote
    precision: Literal["fp32", "bf16"]
    prompts: list[str]
    seeds: list[Seed]
    batch_size: Count
    index: Index


AnyNote = TypeVar("AnyNote", _LatentNote, _CallNote)


def _checked(model: type[AnyNote], raw: dict[str, Any]) -> AnyNote:
    """Returns what was read of a note as a model of it.

    Raises:
        UserError: it is not.
    """
    try:
        return checked(model, raw)
    except ValueError as error:
        raise _damaged(str(error)) from None


def _section(text: Mapping[str, str], keys: Sequence[str]) -> dict[str, Any]:
    return {key: text[key] for key in keys if key in text}


def _numbers(text: Mapping[str, str], keys: Sequence[str]) -> dict[str, Any]:
    return {key: _number(value) for key, value in _section(text, keys).items()}


def _solver(text: Mapping[str, str], name: str) -> dict[str, Any]:
    """Returns what a note says under `name`.…, by the rest of the key."""
    keys = [key for key in text if key.startswith(f"{name}.")]
    return {key.partition(".")[2]: value for key, value in _numbers(text, keys).items()}


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _damaged(what: str) -> UserError:
    return UserError(
        f"the note of the picture is damaged or of another version ({what}); expected it as it was "
        "saved; paint the picture anew"
    )


def _require_checkpoints(system: System, text: Mapping[str, str], kinds: Sequence[str]) -> None:
    for kind in kinds:
        named = text.get(f"checkpoint.{kind}", "none")
        if named != system.hashes[kind]:
            raise UserError(
                f"checkpoint.{kind}: the picture was painted by {named[:12]!r}, and this {kind} is "
                f"{system.hashes[kind][:12]!r}; name the folder or revision that has the other one"
            )


def _in_precision(system: System, precision: str) -> torch.autocast:
    """Returns the context in which the machine paints in a precision."""
    device = torch.device(system.device).type
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


def _solver_note(name: str, solver: Solver) -> dict[str, str]:
    keys = ("sampler", "steps", "eta", "guidance")
    return {f"{name}.{key}": str(getattr(solver, key)) for key in keys}


def _decoder_note(system: System, solver: Solver, precision: str) -> dict[str, str]:
    hashes = {f"checkpoint.{kind}": value for kind, value in system.hashes.items()}
    return _solver_note("decoder", solver) | hashes | {"precision": precision}


def _pack(numbers: Tensor) -> str:
    return base64.b64encode(numbers.cpu().numpy().astype("<f4").tobytes()).decode("ascii")


def _unpack(text: str, shape: tuple[int, ...], key: str) -> Tensor:
    """Returns the float32 tensor of a shape that `_pack` has packed.

    Raises:
        UserError: it has not.
    """
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(shape)
    except ValueError:
        raise _damaged(f"{key}: does not hold {' × '.join(map(str, shape))} numbers") from None
    if not np.isfinite(numbers).all():
        raise _damaged(f"{key}: holds numbers that are not finite")
    return torch.from_numpy(numbers.astype(np.float32))
