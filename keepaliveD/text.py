"""Text that comes from other programs, made harmless for a terminal and a log line."""


def printable(text: str) -> str:
    """The same text with everything escaped that could move a cursor, end a line or hide itself.

    Line breaks, escapes, bidirectional overrides, and surrogates from undecodable bytes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def quoted(text: str) -> str:
    """Printable text as one word: in quotes if it could be taken for more than a name."""
    text = printable(text)
    if text and all(c.isalnum() or c in "._-/@+" for c in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
