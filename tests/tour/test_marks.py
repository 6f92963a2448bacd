# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be wrong with marks, and that each of it is told with file and line."""

import unittest

from fixture import LICENSE, TreeTest, opening
from tour import book, marks


class Failures(TreeTest):
    """One thing is wrong in each."""

    def expect(self, *lines):
        self.assertEqual(self.troubles(), list(lines))

    def test_all_is_well(self):
        self.write("src/a.c", opening("1.10: A"))
        self.expect()

    def test_file_without_a_mark(self):
        self.write("src/a.c", opening("1.10: A"))
        self.write("src/deep/b.h", LICENSE + "/*\n * Nobody reads this.\n */\n")
        self.expect(f"src/deep/b.h:2: {marks.NO_MARK}")

    def test_words_that_are_no_marks(self):
        self.write("src/a.c", opening("1.10: A", "A guided\n * tour of\n * a detour, 4.10."))
        self.expect()

    def test_file_in_another_encoding(self):
        (self.root / "src/a.c").write_bytes(opening("1.10: A", "Gr\xfc\xdfe").encode("latin-1"))
        self.expect("src/a.c:1: is not UTF-8")

    def test_file_without_a_comment(self):
        for name in ("a.c", "b.h", "c.S", "d.asl", "e.ld"):
            self.write(f"src/{name}", LICENSE + "int a;\n")
        self.write("src/notes.txt", "no source\n")
        self.expect(
            *(
                f"src/{name}:1: in no chapter: there is no opening comment"
                for name in ("a.c", "b.h", "c.S", "d.asl", "e.ld")
            )
        )

    def test_mark_only_further_down(self):
        self.write(
            "src/a.c",
            LICENSE
            + "/*\n * What this is.\n */\n\n/*\n * Why.\n *\n * Tour 1.10: A\n */\nint a;\n",
        )
        self.expect(f"src/a.c:2: {marks.NO_MARK}")

    def test_out_of_order(self):
        self.write(
            "src/a.c",
            opening("1.20: A") + "\n/*\n * Why.\n *\n * Tour 1.11: B\n */\nint a;\n",
        )
        self.expect("src/a.c:11: out of order: 1.11 comes after 1.20 of line 5")

    def test_chapter_out_of_order(self):
        self.write(
            "src/a.c",
            opening("2.10: A") + "\n/*\n * Why.\n *\n * Tour 1.99: B\n */\nint a;\n",
        )
        self.expect("src/a.c:11: out of order: 1.99 comes after 2.10 of line 5")

    def test_duplicate_in_two_files(self):
        self.write("src/a.c", opening("1.10: A"))
        self.write("src/b.c", opening("1.10: B"))
        self.expect("src/b.c:5: duplicate: 1.10 is at src/a.c:5 as well")

    def test_duplicate_in_one_file(self):
        self.write(
            "src/a.c",
            opening("1.10: A") + "\n/*\n * Why.\n *\n * Tour 1.10: B\n */\nint a;\n",
        )
        self.expect("src/a.c:11: duplicate: 1.10 is at src/a.c:5 as well")

    def test_unknown_chapter(self):
        self.write("src/a.c", opening("3.10: A"))
        self.expect("src/a.c:5: 3.10: no chapter 3; docs/tour has 1 to 2")

    def test_malformed(self):
        for mark in (
            "1.10 A",  # no colon
            "1.10:",  # no title behind it
            "1.10:A",
            "1: A",
            "one.ten: A",
            "1.10, two items: A",
            "1.10, 2 pages: A",
            "1.10, 0 items: A",
        ):
            with self.subTest(mark):
                self.write("src/a.c", opening(mark))
                found = self.troubles()
                self.assertEqual(len(found), 1, found)
                self.assertIn("src/a.c:5: malformed: ", found[0])

    def test_mark_is_not_last(self):
        self.write("src/a.c", LICENSE + "/*\n * Tour 1.10: A\n *\n * What this is.\n */\n")
        self.assertIn("src/a.c:3: malformed: ", self.troubles()[0])

    def test_two_marks_in_a_comment(self):
        self.write("src/a.c", opening("1.10: A\n * Tour 1.20: B"))
        self.assertIn("src/a.c:5: malformed: ", self.troubles()[0])

    def test_mark_without_prose(self):
        self.write("src/a.c", opening("1.10: A") + "\n/*\n * Tour 1.20: B\n */\nint a;\n")
        self.expect("src/a.c:9: malformed: this mark has no prose above it")

    def test_mark_inside_a_function(self):
        self.write(
            "src/a.c",
            opening("1.10: A") + "\nvoid f(void)\n{\n\t/* Why.\n\t * Tour 1.11: B */\n}\n",
        )
        self.expect("src/a.c:11: a mark ends a comment that begins in the first column")

    def test_nothing_to_show(self):
        self.write("src/a.c", opening("1.10: A") + "\n/*\n * Why.\n *\n * Tour 1.11: B\n */\n")
        self.expect("src/a.c:11: nothing comes after this mark that it could show")

    def test_extent_beyond_the_end(self):
        self.write("src/a.c", opening("1.10, 3 items: A") + "\nint a;\n\nint b;\n")
        self.expect("src/a.c:5: 3 items, but the file ends before that")

    def test_extent_beyond_the_item(self):
        self.write("src/a.c", opening("1.10, 3 lines: A") + "\nint a;\nint b;\n\nint c;\n")
        self.expect("src/a.c:5: 3 lines, but the item below has 2")

    def test_mark_inside_what_another_shows(self):
        self.write(
            "src/a.c",
            opening("1.10, 2 items: A")
            + "\nint a;\n\n/*\n * Why.\n *\n * Tour 1.11: B\n */\nint b;\n",
        )
        self.expect("src/a.c:13: 1.11 lies in what 1.10 of line 5 shows already")

    def test_all_that_is_wrong_is_told(self):
        self.write("src/a.c", opening("7.10: A"))
        self.write("src/b.c", opening("1.10 B"))
        self.assertEqual(len(self.troubles()), 2)
        for option in ("--check", "--page-only"):
            status, out, err = self.run_tour(option)
            self.assertEqual((status, out, err.splitlines()), (1, "", self.troubles()))
        self.assertFalse((self.root / "build").exists())

    def test_broken_chapters(self):
        self.write("src/a.c", opening("1.10: A"))
        self.write("docs/tour/2-two.md", "# Two\n\n## Later\n")
        self.expect('docs/tour/2-two.md:3: a part is "## NUMBER: Title"')
        self.write("docs/tour/2-two.md", "# Two\n\n## 20: Later\n\n## 10: Sooner\n")
        self.expect("docs/tour/2-two.md:5: part 10 is out of order")
        self.write("docs/tour/2-two.md", "# Two\n\n![A cat](../pictures/cat.txt)\n")
        self.assertIn("docs/tour/2-two.md:1: ", self.troubles()[0])
        self.write("docs/pictures/cat.txt", "title: A cat\n\n\t=^.^=\n")
        self.assertIn("docs/pictures/cat.txt", self.troubles()[0])


CODE = """\
/* Not told. */
static int zero;

/*
 * Why there is a one.
 *
 * Tour 1.11: One
 */
static int one(void)
{
	const char *brace = "}"; /* { */

	return '{' + brace[0];
}

#define TWO 2

/*
 * Why there are three
 * and a table.
 *
 * Tour 1.12, 2 items
 */
struct three {
	int a;

	int b;
};

static const int table[] = {
	1,

	2,
};

/*
 * Why not all of it.
 *
 * Tour 1.13, 2 lines: Some
 */
enum {
	A,
	B,
	C,
};
"""


class Extents(TreeTest):
    """What a mark shows, and what is left out."""

    def sections(self):
        self.write("src/a.c", opening("1.10: A") + CODE)
        return book.Tour(self.root).sections

    def text(self, extent):
        lines = (self.root / "src/a.c").read_text().split("\n")
        return "\n".join(lines[extent[0] - 1 : extent[1]])

    def test_opening_shows_no_code(self):
        first = self.sections()[0]
        self.assertTrue(first.is_opening)
        self.assertIsNone(first.code)
        self.assertEqual(first.prose, ["What this is."])
        self.assertEqual(self.text(first.left_out), "/* Not told. */\nstatic int zero;")

    def test_function(self):
        one = self.sections()[1]
        self.assertEqual(one.prose, ["Why there is a one."])
        self.assertTrue(self.text(one.code).startswith("static int one(void)\n{"))
        self.assertTrue(self.text(one.code).endswith("return '{' + brace[0];\n}"))
        self.assertEqual(self.text(one.left_out), "#define TWO 2")

    def test_items(self):
        three = self.sections()[2]
        self.assertIsNone(three.title)
        self.assertEqual(three.prose, ["Why there are three", "and a table."])
        self.assertTrue(self.text(three.code).startswith("struct three {"))
        self.assertTrue(self.text(three.code).endswith("\t2,\n};"))
        self.assertIsNone(three.left_out)

    def test_lines(self):
        some = self.sections()[3]
        self.assertEqual(self.text(some.code), "enum {\n\tA,")
        self.assertEqual(self.text(some.left_out), "\tB,\n\tC,\n};")

    def test_every_line_is_shown_or_left_out(self):
        sections = self.sections()
        lines = (self.root / "src/a.c").read_text().split("\n")
        told = {1}
        for section in sections:
            told.update(range(section.shown[0], section.shown[1] + 1))
            if section.left_out:
                told.update(range(section.left_out[0], section.left_out[1] + 1))
        for number, line in enumerate(lines, 1):
            self.assertTrue(number in told or not line.strip(), f"{number}: {line}")

    def test_opening_with_code(self):
        self.write("src/b.h", opening("1.20, 1 item: B") + "#ifndef B\n#define B\n\nint b;\n")
        section = book.Tour(self.root).sections[0]
        self.assertEqual(section.code, (7, 8))


class Order(TreeTest):
    """Reading order is the order of numbers, not of files."""

    def test_numbers_decide(self):
        self.write("src/a.c", opening("2.60: Third"))
        self.write("src/b.c", opening("1.100: Second"))
        self.write("src/c.c", opening("1.20: First") + CODE.replace("1.1", "2.1"))
        tour = book.Tour(self.root)
        self.assertEqual(
            [section.name for section in tour.sections],
            ["1.20", "1.100", "2.11", "2.12", "2.13", "2.60"],
        )
        parts = [
            (part.title, [section.name for section in sections])
            for part, sections in tour.parts(tour.chapters[1])
        ]
        self.assertEqual(parts, [(None, ["2.11", "2.12", "2.13"]), ("Later", ["2.60"])])


if __name__ == "__main__":
    unittest.main()
