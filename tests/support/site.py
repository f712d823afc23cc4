# SPDX-License-Identifier: BSD-3-Clause
"""What is wrong with a folder of HTML pages: links that lead nowhere, and anything that a page
would load from another host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes whose address a browser loads by itself, whatever the element.
LOADED = ("src", "srcset", "poster", "data", "background")
CSS = re.compile(r"(?:url\(\s*|@import\s+)[\"']?((?:\w+:)?//[^\"')\s;]+)")
SCRIPT = re.compile(
    r"(?:\b(?:fetch|import|importScripts|open|WebSocket|EventSource)\(\s*|\.(?:src|href)\s*=\s*)"
    r"[\"'`]((?:\w+:)?//[^\"'`]+)"
)


@dataclass
class Page(HTMLParser):
    """Anchors of a page, addresses that it links, and those that it loads."""

    text: str
    ids: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)
    inside: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self.loads |= set(CSS.findall(given.get("style", "")))
        for name in LOADED:
            parts = given.get(name, "").split(",") if name == "srcset" else [given.get(name, "")]
            self.loads |= {part.split()[0] for part in parts if part.strip()}
        target = given.get("href")
        if target and tag == "link" and not {"next", "prev"} & set(given.get("rel", "").split()):
            self.loads.add(target)
        elif target and tag != "base":
            self.links.add(target)

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        if self.inside in ("style", "script"):
            self.loads |= set((CSS if self.inside == "style" else SCRIPT).findall(data))


def foreign(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def target(site: Path, page: Path, address: str) -> Path:
    """The file that an address of a page means."""
    path = unquote(urlsplit(address).path)
    there = page if not path else site / path.lstrip("/") if path[0] == "/" else page.parent / path
    return (there / "index.html" if there.is_dir() else there).resolve()


def faults(site: Path) -> Iterator[str]:
    """One line a fault, beginning with the name of its file."""
    site = site.resolve()
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in sorted(page.loads):
            if foreign(address):
                yield f"{name} loads {address}"
            elif not address.startswith("data:") and not target(site, path, address).is_file():
                yield f"{name} loads {address}, which is not there"
        for address in sorted(page.links):
            if urlsplit(address).scheme or address.startswith("//"):
                continue
            there, anchor = target(site, path, address), unquote(urlsplit(address).fragment)
            if not there.is_file() or site not in there.parents:
                yield f"{name} links {address}, which is not there"
            elif anchor and there in pages and anchor not in pages[there].ids:
                yield f"{name} links {address}, an anchor that is not there"
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.js")]):
        pattern = CSS if path.suffix == ".css" else SCRIPT
        for address in pattern.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)} loads {address}"
