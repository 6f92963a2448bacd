# SPDX-License-Identifier: GPL-2.0-or-later
"""Small trees of sources to make a tour of, for the tests beside this file."""

import pathlib
import subprocess
import sys
import tempfile
import textwrap
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tools"))

from tour import book  # noqa: E402 - it is found only now

LICENSE = "/* SPDX-License-Identifier: GPL-2.0-or-later */\n"


def opening(mark, prose="What this is."):
    """How a file begins that has this mark."""
    return f"{LICENSE}/*\n * {prose}\n *\n * Tour {mark}\n */\n"


class TreeTest(unittest.TestCase):
    """A test with a tree of its own. Two chapters, and no sources yet."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.write("docs/tour/1-one.md", "# One\n\nIt begins.\n")
        self.write("docs/tour/2-two.md", "# Two\n\nIt goes on.\n\n## 50: Later\n\nMuch later.\n")
        (self.root / "src").mkdir()

    def write(self, path, text):
        """A file of the tree."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")

    def run_tour(self, *arguments):
        """scripts/tour on the tree: (exit status, standard output, standard error)."""
        done = subprocess.run(
            [sys.executable, ROOT / "scripts/tour", "--root", self.root, *arguments],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def troubles(self):
        """What is wrong with the tree, line by line."""
        try:
            book.Tour(self.root)
        except book.Broken as why:
            return str(why).splitlines()
        return []
