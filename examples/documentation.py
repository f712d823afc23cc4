# SPDX-License-Identifier: BSD-3-Clause
"""A text that is on every machine with Python: the language reference inside CPython."""


def documentation() -> str:
    """The language reference as plain text; each paragraph once, common ASCII characters only.

    Topics overlap: without dropping repeats the held-out end would have been seen in training.
    Raises ImportError where a system has left the texts out of its Python.
    """
    from pydoc_data.topics import topics

    paragraphs: dict[str, str] = {}
    for topic in topics.values():
        for paragraph in topic.split("\n\n"):
            paragraphs.setdefault(" ".join(paragraph.split()), paragraph.strip("\n"))
    text = "\n\n".join(paragraphs.values())
    text = text.translate(str.maketrans("\u201c\u201d\u2018\u2019\u2013\u2014", "\"\"''--"))
    return "".join(c for c in text if c == "\n" or " " <= c <= "~")
