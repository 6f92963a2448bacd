// SPDX-License-Identifier: GPL-2.0-or-later
//
// The page reads well without this. It lets the reader choose a theme, and opens the contents where
// the reader is.
"use strict";

const root = document.documentElement;
const button = document.getElementById("theme");
const themes = ["auto", "light", "dark"];

// A page from a file may not be allowed to remember anything.
function remembered() {
	try {
		return localStorage.getItem("theme");
	} catch {
		return null;
	}
}

function setTheme(theme) {
	if (theme === "auto")
		delete root.dataset.theme;
	else
		root.dataset.theme = theme;
	button.textContent = "Theme: " + theme;
	button.dataset.now = theme;
	try {
		localStorage.setItem("theme", theme);
	} catch {
		// Then it is for this visit.
	}
}

setTheme(themes.includes(remembered()) ? remembered() : "auto");
button.hidden = false;
button.addEventListener("click", () => {
	setTheme(themes[(themes.indexOf(button.dataset.now) + 1) % themes.length]);
});

// The chapter that is being read is open in the contents, where those stand beside it. Where they
// stand above it, nothing may move there.
const beside = matchMedia("(min-width: 64rem)");
const entries = new Map();
for (const details of document.querySelectorAll("#contents details"))
	entries.set("chapter-" + details.dataset.chapter, details);

let current = null;
const watcher = new IntersectionObserver((seen) => {
	for (const one of seen) {
		if (!one.isIntersecting || current === one.target.id || !beside.matches)
			continue;
		if (current) {
			entries.get(current).classList.remove("current");
			entries.get(current).open = false;
		}
		current = one.target.id;
		entries.get(current).classList.add("current");
		entries.get(current).open = true;
	}
}, { rootMargin: "-20% 0px -79% 0px" });
for (const chapter of document.querySelectorAll(".chapter"))
	watcher.observe(chapter);

// A click on a chapter's name goes there; the mark beside it opens its contents.
for (const link of document.querySelectorAll("#contents summary a"))
	link.addEventListener("click", () => {
		location.hash = link.hash;
		link.closest("details").open = true;
	});
