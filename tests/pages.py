"""The blocks of code in the project's own Markdown, for tests that do what a page says."""

import re

from dag import REPO


def blocks(page: str, language: str = "sh") -> list[str]:
    """Returns the blocks of a language on a page of this repository, in their order."""
    text = (REPO / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
