#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The tour's page in headless Chromium, as a reader meets it: no error on the console, every
link lands, nothing is wider than the screen, both themes can be read.

    tests/tour/browser.py [FOLDER]    screenshots go there (build/check/tour)

Debian's own Python runs this, because Debian's python3-selenium is for that one.
"""

import pathlib
import subprocess
import sys
import tempfile

from selenium import webdriver
from selenium.webdriver.common.by import By

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --hide-scrollbars"
).split()

SIZES = {"phone": (390, 844), "small": (360, 640), "desktop": (1280, 900)}

# What a reader sees at these places says more than the top of the page.
VIEWS = {
    "top": "",
    "memory": "part-2.100",
    "request": "chapter-4",
    "pop": "4.43",
    "block": "chapter-6",
    "next": "6.72",
    "end": "part-8.300",
}

# WCAG 2, "Contrast (Minimum)": for text of this size.
CONTRAST = 4.5

LANDS = """
const ids = new Set(Array.from(document.querySelectorAll("[id]"), (one) => one.id));
return Array.from(document.querySelectorAll("a[href^='#']"), (a) => a.getAttribute("href"))
	.filter((href) => !ids.has(decodeURIComponent(href.slice(1))));
"""

TOO_WIDE = """
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth <= width)
	return [];
return Array.from(document.querySelectorAll("main *"))
	.filter((one) => one.getBoundingClientRect().right > width + 1 && !one.closest("pre, figure div"))
	.map((one) => one.outerHTML.slice(0, 100)).concat(["the page itself"]);
"""

COLOURS = """
const seen = {};
function background(one) {
	for (; one; one = one.parentElement) {
		const colour = getComputedStyle(one).backgroundColor;
		if (!/, 0\\)$/.test(colour))
			return colour;
	}
	return "rgb(255, 255, 255)";
}
const texts = "main p, main a, main span, main h4, figcaption, #contents a";
for (const one of document.querySelectorAll(texts))
	if (one.checkVisibility ? one.checkVisibility() : true)
		seen[getComputedStyle(one).color + " on " + background(one)] = one.outerHTML.slice(0, 80);
return seen;
"""

failures = []


def check(is_well, what):
    """One line for each thing that was looked at."""
    print(f"{'ok' if is_well else 'FAIL'}: {what}")
    if not is_well:
        failures.append(what)


def browser(folder):
    """A Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={folder}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options)


def brightness(colour):
    """Relative luminance of "rgb(1, 2, 3)", as WCAG 2 has it."""
    channels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (
        value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
        for value in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(pair):
    """The contrast of "COLOUR on COLOUR"."""
    one, two = sorted(map(brightness, pair.split(" on ")))
    return (two + 0.05) / (one + 0.05)


def resize(driver, size):
    """The page's own size, which is not the window's on a phone."""
    width, height = size
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700},
    )


def set_theme(driver, theme):
    """What the system says it prefers."""
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": theme}]},
    )


def look(driver, address, shots):
    """All of it, at every size and in both themes."""
    for theme in ("light", "dark"):
        set_theme(driver, theme)
        for name, size in SIZES.items():
            resize(driver, size)
            driver.get(address)
            check(not driver.execute_script(LANDS), f"{name} {theme}: every link lands")
            wide = driver.execute_script(TOO_WIDE)
            check(not wide, f"{name} {theme}: no wider than the screen {wide[:3] or ''}")
            for view, anchor in VIEWS.items():
                driver.get(f"{address}#{anchor}")
                driver.save_screenshot(str(shots / f"{name}-{theme}-{view}.png"))
        driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
        colours = driver.execute_script(COLOURS)
        check(len(colours) > 5, f"{theme}: {len(colours)} pairs of colours")
        for pair, where in colours.items():
            check(contrast(pair) >= CONTRAST, f"{theme}: {pair}: {contrast(pair):.1f} in {where}")


def use(driver, address):
    """What can be clicked on."""
    resize(driver, SIZES["desktop"])
    set_theme(driver, "light")
    driver.get(address)
    paper = "return getComputedStyle(document.documentElement).backgroundColor"
    light = driver.execute_script(paper)
    button = driver.find_element(By.ID, "theme")
    button.click()
    check(driver.execute_script(paper) == light, "theme: light where light was preferred")
    button.click()
    dark = driver.execute_script(paper)
    check(dark != light, "theme: dark where light was preferred")
    driver.get(address)
    check(driver.execute_script(paper) == dark, "theme: remembered")
    driver.find_element(By.ID, "theme").click()
    check(driver.execute_script(paper) == light, "theme: back to what is preferred")
    driver.find_element(By.CSS_SELECTOR, "#contents summary a[href='#chapter-4']").click()
    top = driver.execute_script(
        "return document.getElementById('chapter-4').getBoundingClientRect().top"
    )
    check(0 <= top < 200, f"contents: a click leads to chapter 4 (it is at {top:.0f})")


def main():
    """What to exit with."""
    shots = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/check/tour")
    shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(folder, "index.html")
        subprocess.run(
            [sys.executable, ROOT / "scripts/tour", "--page-only", "--output", page], check=True
        )
        driver = browser(pathlib.Path(folder, "profile"))
        try:
            look(driver, page.as_uri(), shots)
            use(driver, page.as_uri())
            log = driver.get_log("browser")
            check(not log, f"console: {log or 'silent'}")
        finally:
            driver.quit()
    print(f"{len(failures)} failed; screenshots are in {shots}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
