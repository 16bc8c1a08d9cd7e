"""What painting returns: pictures with the notes that paint them again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unclip.painting.notes import Note, join_prompts, latent_note, settings_note
from unclip.painting.settings import Latent, Settings
from unclip.painting.system import Pictures, System
from unclip.pictures.png import as_image, save_png


@dataclass(frozen=True)
class Painted:
    """Painted pictures.

    Attributes:
        images: (..., C, H, W) uint8.
        notes: the note of each picture, in order.
        sheet_note: what a sheet of all of them carries.
    """

    images: Pictures
    notes: list[Note]
    sheet_note: Note

    def __iter__(self) -> Iterator[tuple[Pictures, Note]]:
        """Yields each picture (C, H, W) with its note."""
        return zip(self.images.reshape(-1, *self.images.shape[-3:]), self.notes, strict=True)

    def save(self, folder: str | Path, names: Sequence[str] | None = None) -> int:
        """Writes each picture as a PNG with its note; returns how many files it replaced.

        The folder is made if need be. Files are numbered unless there are names, without ".png".
        """
        names = names or [f"{number:04}" for number in range(len(self.notes))]
        replaced = 0
        for name, (picture, note) in zip(names, self, strict=True):
            path = Path(folder, f"{name}.png")
            earlier = path.read_bytes() if path.is_file() else None
            save_png(as_image(picture), path, note)
            replaced += earlier not in (None, path.read_bytes())
        return replaced


@dataclass(frozen=True)
class Trajectory:
    """How pictures of R prompts come out of noise.

    Attributes:
        moments: (R, M, C, H, W) uint8, x_t at each step, and finally the picture.
        timesteps: the M timesteps; 0 is the picture.
        painted: the R pictures.
    """

    moments: Pictures
    timesteps: list[int]
    painted: Painted


def painted_latents(
    system: System,
    command: str,
    label: str,
    images: Pictures,
    latents: Sequence[Latent],
    settings: Settings,
    descriptions: Sequence[str],
    prompts: Sequence[str] = (),
) -> Painted:
    """Returns pictures (N, C, H, W) of N latents with their notes.

    `label` describes all of them and `descriptions` each; `prompts`, if any, has one for each.
    """
    notes = [
        latent_note(system, latent, settings) | {"command": command, "description": description}
        for latent, description in zip(latents, descriptions, strict=True)
    ]
    sheet = settings_note(system, settings) | {"command": command, "description": label}
    sheet |= {"seeds": " ".join(dict.fromkeys(note["seed"] for note in notes))}
    if prompts:
        sheet |= {"prompts": join_prompts(prompts)}
        notes = [note | {"prompt": prompt} for note, prompt in zip(notes, prompts, strict=True)]
    return Painted(images, notes, sheet)
