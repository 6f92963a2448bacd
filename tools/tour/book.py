# SPDX-License-Identifier: GPL-2.0-or-later
"""The tour as a whole: chapters and pictures from docs/, sections from src/, in reading order."""

import pathlib
import re

from . import marks, pictures, prose


class Broken(Exception):
    """The tour cannot be put together. One line for each thing that is wrong."""


class Tour:
    """What page.py and terminal.py show. All paths are relative to the root."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.troubles = []
        self.chapters = self.read_chapters()
        self.sections, troubles = marks.read_sources(
            self.root, {chapter.number for chapter in self.chapters} or {0}
        )
        self.troubles += map(str, troubles)
        self.sources = {path: self.lines(path) for path in marks.source_files(self.root)}
        self.names = marks.Names(self.sections, self.sources)
        self.pictures = self.read_pictures()
        if self.troubles:
            raise Broken("\n".join(self.troubles))

    def lines(self, path):
        """The lines of a file."""
        return (self.root / path).read_text(encoding="utf-8", errors="replace").split("\n")

    def read_chapters(self):
        """docs/tour/N-*.md, by number."""
        chapters = []
        for file in sorted((self.root / "docs/tour").glob("[0-9]*.md")):
            path = file.relative_to(self.root).as_posix()
            try:
                chapters.append(prose.read_chapter(path, file.read_text(encoding="utf-8")))
            except ValueError as why:
                self.troubles.append(str(why))
        return sorted(chapters, key=lambda chapter: chapter.number)

    def read_pictures(self):
        """The pictures that chapters show, by the names that those use for them."""
        found = {}
        for chapter in self.chapters:
            for part in chapter.parts:
                for kind, content in part.blocks:
                    if kind != "picture" or content[0] in found:
                        continue
                    try:
                        found[content[0]] = self.read_picture(chapter, content[0])
                    except (OSError, ValueError) as why:
                        self.troubles.append(f"{chapter.path}:1: {why}")
        return found

    def read_picture(self, chapter, name):
        """One picture, whose name is relative to its chapter."""
        path = (self.root / chapter.path).parent / name
        shown = f"docs/pictures/{path.name}"
        return pictures.read_picture(shown, path.read_text(encoding="utf-8"))

    def parts(self, chapter):
        """The parts of a chapter, each with its sections."""
        ends = [part.number for part in chapter.parts[1:]] + [None]
        for part, end in zip(chapter.parts, ends):
            yield part, [
                section
                for section in self.sections
                if section.chapter == chapter.number
                and section.number >= part.number
                and (end is None or section.number < end)
            ]

    def blocks(self, section):
        """The prose of a section. Where a file says "see its header" and the story has just come
        from there, it need not be said again."""
        blocks = prose.comment_blocks(section.prose)
        at = self.sections.index(section)
        before = self.sections[at - 1].path if at else ""
        header = pathlib.PurePosixPath(section.path).with_suffix(".h").as_posix()
        if section.is_opening and before == header and blocks:
            pointer = rf"[^.]*: see {re.escape(pathlib.PurePosixPath(header).name)}\."
            if blocks[0][0] == "p" and re.fullmatch(pointer, blocks[0][1]):
                return blocks[1:]
        return blocks


def words(tour):
    """How many words of prose, and how many lines of code, there are to read."""
    count = sum(
        len(re.findall(r"\S+", " ".join(section.prose))) for section in tour.sections
    )
    shown = sum(
        section.code[1] - section.code[0] + 1 for section in tour.sections if section.code
    )
    return count, shown
