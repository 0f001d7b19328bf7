"""A notice: what people are told, as plain text and as Markdown."""

from __future__ import annotations

from tasks.markdown.text import cell
from tasks.release.people import Occasion
from tasks.release.record import Record

SUBJECT_LIMIT = 200  # characters


class Notice(Record):
    """What people are told on one occasion; it holds no secrets and no rows of anybody's."""

    occasion: Occasion
    subject: str
    facts: tuple[tuple[str, str], ...]  # label and text; a fact without a text is left out
    rollback: str = ""  # the procedure, as Markdown

    @property
    def headline(self) -> str:
        """The subject in one line, such as a header of a mail needs it."""
        line = " ".join("".join(one if one.isprintable() else " " for one in self.subject).split())
        return line if len(line) <= SUBJECT_LIMIT else line[: SUBJECT_LIMIT - 1] + "…"

    @property
    def plain(self) -> str:
        """The facts, a line each."""
        return "\n".join(f"{label}: {' '.join(text.split())}" for label, text in self.facts if text) + "\n"

    @property
    def markdown(self) -> str:
        """The facts and the rollback procedure, for what shows Markdown and takes no attachment."""
        facts = "\n".join(f"- **{label}:** {cell(text)}" for label, text in self.facts if text)
        return f"{facts}\n\n{self.rollback}".strip() + "\n"
