"""Which prompts training showed, and what to say of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from heapq import nlargest

from unclip.config.strict import one_line
from unclip.data.text import fold, split_words

NEVER_TRAINED = "(never trained)"
NEAREST = 3  # captions in a warning


@dataclass(frozen=True)
class Known:
    """What training showed.

    Attributes:
        captions: of the training pictures; only some if there were many.
        words: of the training captions.
        has_all: whether `captions` are all.
    """

    captions: list[str]
    words: frozenset[str]
    has_all: bool

    @cached_property
    def _as_read(self) -> set[tuple[str, ...]]:
        return {tuple(split_words(caption)) for caption in self.captions}

    def is_new(self, prompt: str) -> bool:
        """Returns whether no training caption reads so, or if not all are known, has its words."""
        words = split_words(prompt)
        if not self.has_all:
            return not self.words.issuperset(words)
        return bool(words) and tuple(words) not in self._as_read

    def labels(self, prompts: Sequence[str]) -> list[str]:
        """Returns prompts as they stand beside their pictures: new ones are marked."""
        return [f"{each} {NEVER_TRAINED}" if self.is_new(each) else each for each in prompts]

    def nearest(self, prompt: str) -> list[str]:
        """Returns the captions that share most words with a prompt, then most characters."""
        words, matcher = set(split_words(prompt)), SequenceMatcher(b=fold(prompt))

        def likeness(caption: str) -> tuple[float, float]:
            others = set(split_words(caption))
            matcher.set_seq1(fold(caption))
            return 2 * len(words & others) / (len(words) + len(others)), matcher.ratio()

        return nlargest(NEAREST, self.captions, likeness)

    def warning(self, prompt: str) -> str:
        """Returns a line about a prompt that training never showed, or ""."""
        if not self.is_new(prompt):
            return ""
        strangers = dict.fromkeys(w for w in split_words(prompt) if w not in self.words)
        why = f" (no caption has {', '.join(strangers)})" if strangers else ""
        nearest = ", ".join(f"'{caption}'" for caption in self.nearest(prompt))
        return f"never trained: '{one_line(prompt)}'{why}; nearest known captions: {nearest}"
