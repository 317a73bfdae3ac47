"""Line ends of a file that somebody else writes too: what we change in it has them."""

from __future__ import annotations

__all__ = ["with_ends_of"]


def with_ends_of(old: str, new: str) -> str:
    """`new`, the next content of a file that holds `old`, with the line ends of `old`.

    A line that is there already keeps its own, others get what most lines have; the
    last line ends, or does not, as it did.
    """
    if not old:
        return new
    if "\r\n" in old:
        new = _ended(old, new)
    if old.endswith("\n"):
        return new if new.endswith("\n") else new + ("\r\n" if _mostly(old) else "\n")
    return new.removesuffix("\n").removesuffix("\r")


def _mostly(text: str) -> bool:
    """Whether more of its lines end in CR LF than in LF."""
    return 2 * text.count("\r\n") > text.count("\n")


def _ended(old: str, new: str) -> str:
    known: dict[str, bool] = {}
    for line in old.split("\n")[:-1]:
        known.setdefault(line.removesuffix("\r"), line.endswith("\r"))
    usual = _mostly(old)
    *lines, last = (line.removesuffix("\r") for line in new.split("\n"))
    ended = (line + ("\r\n" if known.get(line, usual) else "\n") for line in lines)
    return "".join(ended) + last
