"""Avro's strings: the length of the UTF-8 bytes as an integer, and the bytes."""

from __future__ import annotations

from ftjm.adapters.avro.integers import LONGS, REMEMBERED_MAX

CHARACTERS_MAX = 256
"""Longer texts are not remembered."""


class Texts(dict[str, bytes]):
    """The bytes of texts, which are made when they are first asked for."""

    def __missing__(self, text: str) -> bytes:
        encoded = text.encode()
        made = LONGS[len(encoded)] + encoded
        if len(text) <= CHARACTERS_MAX:
            if len(self) >= REMEMBERED_MAX:
                self.clear()
            self[text] = made
        return made


TEXTS = Texts()
