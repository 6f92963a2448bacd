# SPDX-License-Identifier: GPL-2.0-or-later
"""The page and the text: what is in them, and that every link of the real page lands."""

import html.parser
import os
import pathlib
import pty
import subprocess
import sys
import tempfile
import unittest
from xml.etree import ElementTree

from fixture import ROOT, TreeTest, opening
from tour import book, colour, page, pictures, prose, terminal


class Links(html.parser.HTMLParser):
    """All ids and all addresses of a page, and whether what it opens it also closes."""

    EMPTY = {"meta", "link", "path", "rect", "polygon", "br"}

    def __init__(self, text):
        super().__init__()
        self.ids, self.addresses, self.loaded, self.stack = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "a":
            self.addresses.append(attrs["href"])
        self.loaded += [attrs[name] for name in ("src", "srcset", "data") if name in attrs]
        if tag == "link":
            self.loaded.append(attrs["href"])
        if tag not in self.EMPTY:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.EMPTY:
            self.stack.pop()

    def handle_endtag(self, tag):
        begun = self.stack.pop() if self.stack else None
        if begun != tag:
            raise AssertionError(f"</{tag}> ends <{begun}>, line {self.getpos()[0]}")


class RealPage(unittest.TestCase):
    """The tour of this very source."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.file = pathlib.Path(folder.name, "index.html")
        cls.run_tour("--output", cls.file)
        cls.page = cls.file.read_text(encoding="utf-8")
        cls.links = Links(cls.page)

    @staticmethod
    def run_tour(*arguments):
        done = subprocess.run(
            [sys.executable, ROOT / "scripts/tour", "--page-only", *arguments],
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        if done.returncode:
            raise AssertionError(done.stderr)

    def test_ids_are_unique(self):
        self.assertEqual(len(self.links.ids), len(set(self.links.ids)))

    def test_every_link_lands(self):
        ids = set(self.links.ids)
        self.assertGreater(len(self.links.addresses), 500)
        for address in self.links.addresses:
            if address.startswith("#"):
                self.assertIn(address[1:], ids)
                continue
            path, _, line = address.partition("#L")
            file = (self.file.parent / path).resolve()
            self.assertTrue(file.exists(), address)
            if line:
                lines = file.read_text(encoding="utf-8").count("\n")
                self.assertLessEqual(int(line), lines, address)

    def test_it_needs_nothing_else(self):
        self.assertEqual(self.links.loaded, ["data:,"])
        for word in ("http://", "https://", "@import", "url("):
            self.assertNotIn(word, self.page.split("<main>")[0])

    def test_it_is_closed(self):
        self.assertEqual(self.links.stack, ["html"] if "</html>" not in self.page else [])

    def test_the_same_twice(self):
        again = self.file.with_name("again.html")
        self.run_tour("--output", again)
        self.assertEqual(again.read_text(encoding="utf-8"), self.page)

    def test_every_source_is_there(self):
        for file in (ROOT / "src").rglob("*.[chS]"):
            self.assertIn(f"{file.relative_to(ROOT).as_posix()}#L", self.page)


class Escaping(TreeTest):
    """Nothing that a source may contain gets out of hand."""

    def setUp(self):
        super().setUp()
        self.write(
            "src/a.c",
            opening("1.10: A <b> & c", "If a < b && `b<c>`, see [it](x) </pre>.")
            + "\n/*\n * Why </code> it is.\n *\n * Tour 1.20\n */\n"
            + 'static const char *a = "</pre><script>";\n',
        )

    def test_page(self):
        text = page.Page(book.Tour(self.root), "..").text()
        body = text.split("<main>")[1].split("<script>")[0]
        Links(text)
        self.assertIn("A &lt;b&gt; &amp; c", body)
        self.assertIn("a &lt; b &amp;&amp; <code>b&lt;c&gt;</code>", body)
        self.assertIn("&lt;/pre&gt;&lt;script&gt;", body)
        self.assertIn("Why &lt;/code&gt; it is.", body)

    def test_terminal(self):
        text = terminal.Terminal(book.Tour(self.root)).text()
        self.assertIn("1.10  A <b> & c\n", text)
        self.assertIn('   13  static const char *a = "</pre><script>";\n', text)
        self.assertNotIn("\x1b", text)
        self.assertIn("\x1b[", terminal.Terminal(book.Tour(self.root), colours=True).text())

    def test_plain_where_there_is_no_terminal(self):
        status, out, err = self.run_tour()
        self.assertEqual(status, 0)
        self.assertIn("If a < b && b<c>", out)
        self.assertNotIn("\x1b", out)
        self.assertIn("build/tour/index.html", err)

    def test_pager_and_colours_on_a_terminal(self):
        for variable, value, coloured in (("TERM", "xterm", True), ("TERM", "dumb", False),
                                          ("NO_COLOR", "1", False)):
            ours, theirs = pty.openpty()
            shown = self.root / "shown"
            done = subprocess.run(
                [sys.executable, ROOT / "scripts/tour", "--root", self.root],
                stdout=theirs,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TERM": "xterm", "PAGER": f"cat >'{shown}'", variable: value},
                timeout=60,
                check=True,
            )
            os.close(theirs)
            os.close(ours)
            self.assertEqual(done.returncode, 0)
            text = shown.read_text(encoding="utf-8", errors="replace")
            self.assertIn("<b> & c", text)
            self.assertEqual("\x1b[" in text, coloured, variable)

    def test_a_page_that_cannot_be_written(self):
        (self.root / "file").write_text("")
        status, out, err = self.run_tour("--page-only", "--output", self.root / "file/page")
        self.assertEqual((status, out, err.count("\n")), (1, "", 1))
        self.assertIn("cannot write", err)


class Names(TreeTest):
    """Functions and files that the tour shows are links where they are named."""

    def setUp(self):
        super().setUp()
        self.write(
            "src/one/a.c",
            opening("1.10: A", "See b.h, two/b.h and find(); not find(x).")
            + "\n/*\n * Why.\n *\n * Tour 1.11\n */\nint find(int x)\n{\n\treturn find(x);\n}\n",
        )
        self.write("src/one/b.h", opening("1.20: B"))
        self.write("src/two/b.h", opening("1.30: C"))
        self.write(
            "src/two/c.c",
            opening("1.40, 1 item: D", "This b.h is two's.") + "\nint d = find(1) + lost(2);\n",
        )
        self.page = page.Page(book.Tour(self.root), "..").text()

    def test_prose(self):
        self.assertIn('<a href="#1.20"><code>b.h</code></a>', self.page)
        self.assertIn('<a href="#1.30"><code>two/b.h</code></a>', self.page)
        self.assertIn('<a href="#1.11"><code>find()</code></a>; not find(x).', self.page)
        self.assertIn('This <a href="#1.30"><code>b.h</code></a>', self.page)

    def test_code(self):
        self.assertIn('<a href="#1.11">find</a>(', self.page)
        self.assertIn("return</span> find(x);", self.page)
        self.assertIn("lost(", self.page)


class Pointers(TreeTest):
    """"See its header" is not said right behind the header."""

    def blocks(self, of_header, of_source):
        self.write("src/one/a.h", opening(of_header))
        self.write("src/one/a.c", opening(of_source, "A: see a.h.\n *\n * But slowly."))
        tour = book.Tour(self.root)
        return [text for _, text in tour.blocks(tour.sections[-1])]

    def test_right_behind(self):
        self.assertEqual(self.blocks("1.10: A", "1.20"), ["But slowly."])

    def test_elsewhere(self):
        self.write("src/one/b.c", opening("1.15: B"))
        self.assertEqual(self.blocks("1.10: A", "1.20"), ["A: see a.h.", "But slowly."])


class Prose(unittest.TestCase):
    """Comments and Markdown."""

    def test_comment(self):
        blocks = prose.comment_blocks(
            "One\ntwo.\n\nA list:\n\n- a\n  b\n- c\n\nAnd\n\n  x   y\n    z\n\nend.".split("\n")
        )
        self.assertEqual(
            blocks,
            [
                ("p", "One two."),
                ("p", "A list:"),
                ("ul", ["a b", "c"]),
                ("p", "And"),
                ("pre", ["x   y", "  z"]),
                ("p", "end."),
            ],
        )

    def test_markdown(self):
        blocks = prose.markdown_blocks(
            "a\nb\n\n1. x\n2. y\n   z\n\n```\n- no\n```\n![c](d)".split("\n")
        )
        self.assertEqual(
            blocks,
            [("p", "a b"), ("ol", ["x", "y z"]), ("pre", ["- no"]), ("picture", ("d", "c"))],
        )

    def test_spans(self):
        kinds = [
            span[:2]
            for span in prose.spans(
                "a *b* **c** 2 * 3 * 4 `d*e*` f() g.c i_j.k_l() m_n() o_p.c `q()`"
            )
        ]
        self.assertEqual(
            [span for span in kinds if span[0] != "text"],
            [
                ("em", "b"),
                ("strong", "c"),
                ("code", "d*e*"),
                ("function", "f"),
                ("file", "g.c"),
                ("code", "i_j.k_l()"),
                ("function", "m_n"),
                ("file", "o_p.c"),
                ("function", "q"),
            ],
        )


class Colour(unittest.TestCase):
    """Code is cut into pieces, and nothing is lost."""

    def test_all_of_it_is_there(self):
        for file in sorted((ROOT / "src").rglob("*.[chS]")):
            code = file.read_text(encoding="utf-8")
            self.assertEqual("".join(text for _, text in colour.tokens(code)), code)

    def test_kinds(self):
        code = '#define A "x/*y*/" /* c\nd */ u8 f(0x1fu) if (\'"\')'
        kinds = [token for token in colour.tokens(code) if token[0]]
        self.assertEqual(
            kinds,
            [
                ("directive", "#define"),
                ("string", '"x/*y*/"'),
                ("comment", "/* c\nd */"),
                ("type", "u8"),
                ("call", "f"),
                ("number", "0x1fu"),
                ("keyword", "if"),
                ("string", "'\"'"),
            ],
        )
        self.assertEqual(len(list(colour.lines(code))), 2)


class Pictures(unittest.TestCase):
    """Drawings become SVG."""

    SOURCE = """\
# license
title: Two & more

┌────┐   ╭──▶ <far>
│ a ░├───╯
├────┤
│ f()│
└────┘
"""

    def setUp(self):
        self.picture = pictures.read_picture("p.txt", self.SOURCE)

    def test_svg(self):
        text = pictures.svg(self.picture, {"f": "#1.1"}.get)
        root = ElementTree.fromstring(text)
        self.assertEqual([box.get("class") for box in root.iter("rect")], ["tint1"])
        self.assertEqual(
            ["".join(node.itertext()) for node in root.iter("text")], ["<far>", "a", "f()"]
        )
        self.assertEqual([link.get("href") for link in root.iter("a")], ["#1.1"])
        self.assertEqual(len(list(root.iter("polygon"))), 1)

    def test_boxes(self):
        self.assertEqual(list(pictures.find_boxes(self.picture)), [(0, 0, 2, 5), (2, 0, 4, 5)])

    def test_tint_is_of_the_inner_box(self):
        inner = pictures.read_picture(
            "p.txt", "title: Two\n\n┌──────┐\n│ ┌──┐ │\n│ │▓ │ │\n│ └──┘ │\n└──────┘\n"
        )
        self.assertEqual(pictures.find_tints(inner), {(1, 2, 3, 5): 3})

    def test_lines_are_long(self):
        lines = list(pictures.straight_lines(self.picture))
        self.assertIn((1, 1, 11, 1, False), lines)
        self.assertIn((1, 1, 1, 9, False), lines)

    def test_terminal(self):
        self.assertEqual(pictures.plain(self.picture)[0], "┌────┐   ╭──▶ <far>")
        self.assertEqual(pictures.plain(self.picture, unicode=False)[0], "+----+   +--> <far>")

    def test_all_of_them_can_be_drawn(self):
        for file in sorted((ROOT / "docs/pictures").glob("*.txt")):
            picture = pictures.read_picture(file.name, file.read_text(encoding="utf-8"))
            ElementTree.fromstring(pictures.svg(picture))
            self.assertLessEqual(max(map(len, picture.rows)), 78, file.name)


if __name__ == "__main__":
    unittest.main()
