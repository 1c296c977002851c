"""Words from outside, made fit to be printed."""

from __future__ import annotations


def one_line(text: object) -> str:
    """A label, name or reason with a space for each control character, which would break a line or colour a terminal.

    Markup is left: what escapes that belongs to each printer.
    """
    return "".join(c if c.isprintable() else " " for c in str(text))
