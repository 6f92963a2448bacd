# SPDX-License-Identifier: GPL-2.0-or-later
"""The tour for a terminal, or for a file: plain text, with colours if somebody can see them."""

import re
import textwrap

from . import colour, pictures, prose

WIDTH = 80

ESCAPES = {
    "title": "1",
    "chapter": "1;7",
    "place": "2",
    "number": "2",
    "strong": "1",
    "em": "3",
    "code": "36",
    "comment": "32",
    "string": "33",
    "directive": "35",
    "keyword": "1",
    "type": "36",
    "call": None,
}


class Terminal:
    """Writes the tour, line by line, to a list."""

    def __init__(self, tour, colours=False, unicode=True):
        self.tour = tour
        self.colours = colours
        self.unicode = unicode
        self.out = []

    def paint(self, kind, text):
        """A text in the colour of its kind."""
        escape = ESCAPES.get(kind)
        return f"\x1b[{escape}m{text}\x1b[0m" if self.colours and escape and text else text

    def text(self):
        """All of it."""
        for chapter in self.tour.chapters:
            self.chapter(chapter)
        return "\n".join(self.out) + "\n"

    def chapter(self, chapter):
        """A chapter, in its parts."""
        if self.out:
            self.out += ["", ""]
        self.out += [self.paint("chapter", f"{chapter.number}. {chapter.title}"), ""]
        for part, sections in self.tour.parts(chapter):
            if part.title:
                self.out += [self.paint("title", part.title.upper()), ""]
            self.blocks(part.blocks)
            for section in sections:
                self.section(section)

    def section(self, section):
        """A mark's title, prose, code, and what is left out behind it."""
        place = f"{section.path}:{section.comment[0]}"
        if section.title:
            self.out.append(self.paint("title", f"{section.name}  {section.title}"))
        self.out += [self.paint("place", place), ""]
        self.blocks(self.tour.blocks(section))
        if section.code:
            self.code(section)
        if section.left_out:
            first, last = section.left_out
            self.out += [self.paint("place", f"[{section.path}, {lines_of(first, last)}]"), ""]

    def code(self, section):
        """Lines of a file, with their numbers."""
        first, last = section.code
        source = "\n".join(self.tour.sources[section.path][first - 1 : last])
        for number, line in enumerate(colour.lines(source), first):
            column, text = 0, ""
            for kind, piece in line:
                expanded = expand(piece, column)
                column += len(expanded)
                text += self.paint(kind, expanded)
            self.out.append((self.paint("number", f"{number:5}") + "  " + text).rstrip())
        self.out.append("")

    def blocks(self, blocks):
        """Prose."""
        for kind, content in blocks:
            if kind == "p":
                self.out += self.wrap(content, "", "")
            elif kind in ("ul", "ol"):
                for number, item in enumerate(content, 1):
                    bullet = "- " if kind == "ul" else f"{number}. "
                    self.out += self.wrap(item, bullet, " " * len(bullet))
            elif kind == "picture":
                picture = self.tour.pictures[content[0]]
                self.out += ["  " + row for row in pictures.plain(picture, self.unicode)]
            else:
                self.out += ["    " + line for line in content]
            self.out.append("")

    def wrap(self, text, first, rest):
        """A paragraph as lines. Spans are painted word by word, once it is known how they lie."""
        words = []
        for kind, piece, target in prose.spans(text):
            if kind == "function":
                piece, kind = piece + "()", "code"
            elif kind == "link" and not target.startswith("#"):
                piece = f"{piece} ({target})"
            words.append((kind, piece))
        plain = "".join(piece for _, piece in words)
        kinds = [kind for kind, piece in words for _ in piece]
        out, at = [], 0
        for line in textwrap.wrap(
            plain, WIDTH - len(first), break_long_words=False, break_on_hyphens=False
        ):
            at = plain.index(line.split(" ")[0], at)
            painted = ""
            for found in re.finditer(r"\S+|\s+", line):
                begin = at + found.start()
                painted += self.paint_word(found[0], kinds[begin : begin + len(found[0])])
            at += len(line)
            out.append((rest if out else first) + painted)
        return out

    def paint_word(self, word, kinds):
        """A word whose letters may be of several kinds."""
        text, begin = "", 0
        for at in range(1, len(word) + 1):
            if at == len(word) or kinds[at] != kinds[begin]:
                text += self.paint(kinds[begin], word[begin:at])
                begin = at
        return text


def expand(text, column):
    """Tabs as spaces, where the text begins at that column."""
    return (" " * (column % 8) + text).expandtabs(8)[column % 8 :]


def lines_of(first, last):
    """Words for lines that are left out."""
    return f"line {first} is left out" if first == last else f"lines {first}-{last} are left out"
