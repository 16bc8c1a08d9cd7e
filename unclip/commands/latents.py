"""What vary, interpolate, edit and trajectory share: pictures of latents, saved with notes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unclip.commands.common import open_system, save_picture
from unclip.config.strict import one_line
from unclip.params.sections import SampleParams
from unclip.running.progress import progress

if TYPE_CHECKING:
    from unclip.core.device import Machine
    from unclip.painting.notes import Pictures
    from unclip.painting.painter import Latent
    from unclip.painting.system import Settings, System

MOST_IN_STRIP = 11  # of the frames; all of them are in the film
FRAME_TIME, END_TIME = 150, 900  # milliseconds, of a frame and of those at the ends


@dataclass(frozen=True)
class Easel:
    """A system that paints for one command.

    Attributes:
        command: its name.
        system: the networks.
        machine: where it computes.
        settings: how it paints.
        seed: of the first noise.
        out: folder for the pictures.
    """

    command: str
    system: "System"
    machine: "Machine"
    settings: "Settings"
    seed: int
    out: Path

    @classmethod
    def of(cls, command: str, folder: Path, sample: SampleParams, out: Path) -> "Easel":
        """Returns the easel of the networks in a folder.

        Raises:
            UserError: a network is missing, damaged, of another kind or does not fit the others.
        """
        from unclip.painting.system import Settings

        system, machine = open_system(folder, sample.precision)
        return cls(command, system, machine, Settings.of(sample), sample.seed, out)

    def read(self, path: Path) -> "Pictures":
        """Returns a picture file as the networks take it, (C, H, W) uint8."""
        from unclip.pictures.files import read_picture

        channels, size, _ = self.system.picture_shape
        return read_picture(path, size, channels)

    def latent_of(self, picture: "Pictures", *, invert: bool) -> "Latent":
        """Returns the latent of a picture, with its own noise if `invert`."""
        from unclip.painting.latents import latent_of

        return latent_of(self.system, picture, self.seed, self.settings.decoder if invert else None)

    def latent_of_prompt(self, prompt: str) -> "Latent":
        """Returns a latent that the prior draws for a prompt."""
        from unclip.painting.latents import latent_of_prompt

        with self.machine.accelerator.autocast():
            return latent_of_prompt(self.system, prompt, self.seed, self.settings)

    def edited(
        self, latent: "Latent", caption: str, wanted: str, strength: float, frames: int
    ) -> "list[Latent]":
        """Returns latents on the way from what one caption says to what another says."""
        from unclip.painting.latents import edited

        with self.machine.accelerator.autocast():
            return edited(self.system, latent, caption, wanted, strength, frames, self.settings)

    def paint(self, latents: "Sequence[Latent]") -> "Pictures":
        """Returns the pictures (N, C, H, W) of latents."""
        from unclip.painting.latents import paint_each

        with progress("painting", len(latents)) as bar, self.machine.accelerator.autocast():
            return paint_each(self.system, latents, self.settings.decoder, bar.advance)

    def save(
        self, picture: "Pictures", latent: "Latent", name: str, description: str, **said: str
    ) -> bool:
        """Writes a picture with all that paints it again; returns whether it replaced another."""
        from unclip.painting.notes import latent_note

        note = latent_note(self.system, latent, self.settings.decoder, self.machine.precision)
        note |= {"command": self.command, "description": description} | said
        return save_picture(picture, self.out / f"{name}.png", note)

    def sheet_note(self, description: str, seeds: Sequence[int]) -> dict[str, str]:
        """Returns what a sheet of pictures carries."""
        from unclip.painting.notes import provenance

        note = provenance(self.system, self.settings, self.machine.precision)
        note |= {"command": self.command, "description": description}
        return note | {"seeds": " ".join(map(str, seeds))}

    def save_way(
        self,
        pictures: "Pictures",
        latents: "Sequence[Latent]",
        name: str,
        label: str,
        shares: Sequence[float],
        given: "tuple[Pictures | None, Pictures | None]",
    ) -> tuple[Path, int]:
        """Writes a way from one picture to another: each picture, a strip and a film of them.

        Args:
            pictures: (F, C, H, W).
            latents: F of them.
            name: of the files.
            label: what the way is.
            shares: F of them, how far on the way each is.
            given: the pictures between which, or from which, it goes.

        Returns:
            where the strip is, and how many pictures replaced others.
        """
        from unclip.painting.notes import evenly
        from unclip.pictures.gif import save_gif
        from unclip.pictures.png import save_png
        from unclip.pictures.sheets import film, strip

        replaced = sum(
            self.save(picture, latent, f"{name}_{i:02}", f"{label}, {share:.2f} of the way")
            for i, (picture, latent, share) in enumerate(
                zip(pictures, latents, shares, strict=True)
            )
        )
        shown = evenly(len(pictures), MOST_IN_STRIP)
        headings = [f"{share:.2f}" for share in shares]
        sheet = strip(pictures[shown], label, [headings[i] for i in shown], given)
        path = self.out / f"{name}.png"
        save_png(sheet, path, self.sheet_note(label, [self.seed]))
        # There and back again, so that it never jumps.
        order = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)]
        frames = film(pictures[:, None], [label], headings)
        ends = (0, len(pictures) - 1)
        durations = [END_TIME if i in ends else FRAME_TIME for i in order]
        save_gif([frames[i] for i in order], path.with_suffix(".gif"), durations)
        return path, replaced


def title(word: str) -> str:
    """Returns how a prompt or picture file is called: as it is, or by the file's name."""
    from unclip.pictures.files import names_picture

    return one_line(Path(word).name if names_picture(word) else word)
