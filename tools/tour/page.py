# SPDX-License-Identifier: GPL-2.0-or-later
"""The tour as one page of HTML that needs nothing but itself.

Addresses inside: #chapter-4, #part-4.100, #4.120 for a section. Lines of files are linked to
where the files are, seen from the page (`sources`).
"""

import html
import pathlib

from . import colour, pictures, prose

HERE = pathlib.Path(__file__).parent
TITLE = "lguest: a tour of the source"


class Page:
    """Writes the page, piece by piece."""

    def __init__(self, tour, sources):
        self.tour = tour
        self.sources = sources  # where src/ and docs/ are, as a URL: "../.."

    def text(self):
        """All of it."""
        page = (HERE / "page.html").read_text(encoding="utf-8")
        for name, text in (
            ("title", TITLE),
            ("style", self.style()),
            ("script", (HERE / "page.js").read_text(encoding="utf-8")),
            ("contents", self.contents()),
            ("tour", "\n".join(map(self.chapter, self.tour.chapters))),
        ):
            page = page.replace(f"{{{{{name}}}}}", text)
        return page

    @staticmethod
    def style():
        """The style sheet, in which {{dark}} stands twice for the same colours."""
        style = (HERE / "page.css").read_text(encoding="utf-8")
        before, _, rest = style.partition("/* dark */\n")
        dark, _, after = rest.partition("/* end of dark */\n")
        return (
            f"{before}@media (prefers-color-scheme: dark) {{\n"
            f":root:not([data-theme=light]) {{\n{dark}}}\n}}\n"
            f":root[data-theme=dark] {{\n{dark}}}\n{after}"
        )

    def contents(self):
        """The table of contents: chapters that open, with their parts and titles."""
        out = ["<ol>"]
        for chapter in self.tour.chapters:
            address = f"#chapter-{chapter.number}"
            out.append(
                f'<li><details data-chapter="{chapter.number}"><summary>'
                f'<a href="{address}"><b>{chapter.number}</b> {html.escape(chapter.title)}</a>'
                "</summary>"
            )
            for part, sections in self.tour.parts(chapter):
                if part.title:
                    out.append(
                        f'<p><a href="#part-{chapter.number}.{part.number}">'
                        f"{html.escape(part.title)}</a></p>"
                    )
                titled = [section for section in sections if section.title]
                if titled:
                    out.append("<ul>")
                    out += [
                        f'<li><a href="#{section.name}">{self.inline(section.title, None)}</a></li>'
                        for section in titled
                    ]
                    out.append("</ul>")
            out.append("</details></li>")
        return "\n".join(out + ["</ol>"])

    def chapter(self, chapter):
        """A chapter."""
        out = [
            f'<section class="chapter" id="chapter-{chapter.number}">',
            f"<h2><span>Chapter {chapter.number}</span> {html.escape(chapter.title)}</h2>",
        ]
        for part, sections in self.tour.parts(chapter):
            if part.title:
                out.append(
                    f'<h3 id="part-{chapter.number}.{part.number}">{html.escape(part.title)}</h3>'
                )
            if part.blocks:
                out.append('<div class="intro">')
                out.append(self.blocks(part.blocks, None))
                out.append("</div>")
            out += map(self.section, sections)
        out += [self.turn_pages(chapter), "</section>"]
        return "\n".join(out)

    def turn_pages(self, chapter):
        """The way to the chapters before and behind this one."""
        at = self.tour.chapters.index(chapter)
        out = ['<nav class="turn" aria-label="Chapters">']
        for index, relation, text in ((at - 1, "prev", "← {}"), (at + 1, "next", "{} →")):
            if 0 <= index < len(self.tour.chapters):
                other = self.tour.chapters[index]
                name = text.format(f"{other.number}. {html.escape(other.title)}")
                out.append(f'<a rel="{relation}" href="#chapter-{other.number}">{name}</a>')
        return "\n".join(out + ["</nav>"])

    def section(self, section):
        """A mark: title, where it is, prose, code, what is left out."""
        kind = "opening" if section.is_opening else "piece"
        out = [f'<section class="{kind}" id="{section.name}">']
        if section.title:
            level = "h4" if section.is_opening else "h5"
            out.append(
                f'<{level}><a class="self" href="#{section.name}">{section.name}</a> '
                f"{self.inline(section.title, section)}</{level}>"
            )
        line = section.comment[0]
        shown = section.path if section.is_opening else f"{section.path}:{line}"
        out.append(f'<p class="place">{self.line_link(section.path, line, shown)}</p>')
        out.append(self.blocks(self.tour.blocks(section), section))
        if section.code:
            out.append(self.code(section))
        if section.left_out:
            first, last = section.left_out
            lines = f"line {first}" if first == last else f"lines {first}–{last}"
            link = self.line_link(section.path, first, f"{section.path}, {lines}")
            out.append(f'<p class="left">{link}, not in the tour</p>')
        return "\n".join(out + ["</section>"])

    def line_link(self, path, line, text):
        """A link to a line of a file, outside of the page."""
        return f'<a href="{self.sources}/{path}#L{line}">{html.escape(text)}</a>'

    def code(self, section):
        """Lines of a file: numbered, coloured, and with links where a name is known."""
        first, last = section.code
        source = "\n".join(self.tour.sources[section.path][first - 1 : last])
        out = [f'<pre class="code" style="--first:{first - 1}"><code>']
        for line in colour.lines(source):
            text = "".join(self.token(kind, piece, section) for kind, piece in line)
            out.append(f"<i>{text}\n</i>")
        return "".join(out) + "</code></pre>"

    def token(self, kind, text, section):
        """A piece of code."""
        escaped = html.escape(text, quote=False)
        if kind == "call":
            target = self.tour.names.function(text, section.path)
            if target and target is not section:
                return f'<a href="#{target.name}">{escaped}</a>'
            return escaped
        if kind is None or not text.strip():
            return escaped
        return f'<span class="{kind}">{escaped}</span>'

    def blocks(self, blocks, section):
        """Prose."""
        out = []
        for kind, content in blocks:
            if kind == "p":
                out.append(f"<p>{self.inline(content, section)}</p>")
            elif kind in ("ul", "ol"):
                items = "".join(f"<li>{self.inline(item, section)}</li>" for item in content)
                out.append(f"<{kind}>{items}</{kind}>")
            elif kind == "picture":
                out.append(self.picture(*content))
            else:
                text = html.escape("\n".join(content), quote=False)
                out.append(f"<pre><code>{text}</code></pre>")
        return "\n".join(out)

    def picture(self, name, caption):
        """A drawing, which a small screen may move sideways."""
        drawing = pictures.svg(self.tour.pictures[name], self.address_of_function)
        caption = self.inline(caption, None)
        return f"<figure><div>{drawing}</div><figcaption>{caption}</figcaption></figure>"

    def address_of_function(self, name):
        """Where the page shows a function, or None."""
        section = self.tour.names.function(name)
        return f"#{section.name}" if section else None

    def inline(self, text, section):
        """A text with its spans."""
        return "".join(self.span(*span, section) for span in prose.spans(text))

    def span(self, kind, text, target, section):
        """A span; names of functions and files become links if the tour has them."""
        escaped = html.escape(text, quote=False)
        path = section.path if section else None
        if kind == "text":
            return escaped
        if kind in ("function", "file"):
            known = getattr(self.tour.names, kind)(text, path)
            escaped += "()" if kind == "function" else ""
            if known and known is not section:
                return f'<a href="#{known.name}"><code>{escaped}</code></a>'
            return f"<code>{escaped}</code>"
        if kind == "link":
            return f'<a href="{html.escape(self.target(target))}">{self.inline(text, section)}</a>'
        return f"<{kind}>{escaped}</{kind}>"

    def target(self, target):
        """A link of docs/tour/, as it is written there, seen from the page."""
        if target.startswith("#") or "://" in target:
            return target
        parts = ["docs", "tour"]
        for part in target.split("/"):
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        return f"{self.sources}/{'/'.join(parts)}"
