"""Reading a statement of SQL word by word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.risk.sql_text import Token


class Reader:
    """Reads a statement word by word."""

    def __init__(self, tokens: Sequence[Token], text: str) -> None:
        self.tokens, self.text, self.place = tokens, text, 0

    def accept(self, *words: str) -> bool:
        """Step over words if they are next."""
        if [token.upper for token in self.tokens[self.place : self.place + len(words)]] != list(words):
            return False
        self.place += len(words)
        return True

    def accept_any(self, words: frozenset[str]) -> str:
        """Step over one of some words; which, or ""."""
        word = self.next_word
        if word not in words or not word:
            return ""
        self.place += 1
        return word

    @property
    def next_word(self) -> str:
        """The keyword or sign that is next; "" for none."""
        return self.tokens[self.place].upper if self.place < len(self.tokens) else ""

    def name(self) -> str:
        """The next name, with its schema as Django would write it; "" where there is none."""
        self.accept("IF", "NOT", "EXISTS") or self.accept("IF", "EXISTS")
        self.accept("ONLY")
        parts: list[str] = []
        while self.place < len(self.tokens) and self.tokens[self.place].kind in ("word", "quoted"):
            parts.append(self.tokens[self.place].name)
            self.place += 1
            if not self.accept("."):
                break
        self.accept("*")
        parts = parts[1:] if len(parts) > 1 and parts[0] == "public" else parts
        return '"."'.join(parts)

    def names(self) -> list[str]:
        """Names with commas in between."""
        found = [self.name()]
        while self.accept(","):
            found.append(self.name())
        return [name for name in found if name]

    def inside(self) -> Sequence[Token]:
        """The tokens of the parenthesis that is next, and step over it."""
        if not self.accept("("):
            return ()
        start, depth = self.place, 1
        while self.place < len(self.tokens) and depth:
            depth += {"(": 1, ")": -1}.get(self.tokens[self.place].upper, 0)
            self.place += 1
        return self.tokens[start : self.place - 1]

    def rest(self) -> Sequence[Token]:
        """The tokens that were not read yet."""
        return self.tokens[self.place :]

    def has(self, *words: str) -> bool:
        """Whether words stand one after the other somewhere in the rest."""
        rest = [token.upper for token in self.rest()]
        return any(rest[start : start + len(words)] == list(words) for start in range(len(rest)))

    def written(self, tokens: Sequence[Token]) -> str:
        """Tokens as they were written."""
        return self.text[tokens[0].start : tokens[-1].end] if tokens else ""

    def parts(self) -> Iterator[Reader]:
        """Readers of what the commas outside of parentheses divide."""
        depth, start = 0, self.place
        for place in range(self.place, len(self.tokens) + 1):
            sign = self.tokens[place].upper if place < len(self.tokens) else ","
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(sign, 0)
            if sign == "," and (depth == 0 or place == len(self.tokens)):
                yield Reader(self.tokens[start:place], self.text)
                start = place + 1
