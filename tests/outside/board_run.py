"""What an operator sees: PASS, FAIL, WAIT, a daemon that hangs, one that is started again; on a screen and on a phone."""

import os
import pathlib
import signal
import tempfile

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from station import Station, wait_for

SHOTS = pathlib.Path(os.environ.get("SHOTS") or tempfile.mkdtemp(prefix="linemint-board-"))
SCREEN = {"width": 1920, "height": 1080}
PHONE = {"width": 390, "height": 844}
failed = []


def check(what, holds, seen=""):
    print(f"{'ok     ' if holds else 'FAILED '} {what}{'' if holds else f': {seen}'}", flush=True)
    if not holds:
        failed.append(what)


def shot(page, name):
    # Half the size is enough to be looked at in a document.
    page.screenshot(path=SHOTS / f"{name}.png", scale="css")


def accessible(page, what):
    found = Axe().run(page).response["violations"]
    told = [(it["id"], [node["html"][:80] for node in it["nodes"][:3]]) for it in found]
    check(f"axe-core finds nothing: {what}", not found, told)


def tall(page, word):
    """The height of the largest verdict, in parts of the screen's."""
    # In one go: the page puts new parts in the place of old ones at any time.
    return page.evaluate(
        """word => Math.max(0, ...[...document.querySelectorAll(".nest .word")]
            .filter(it => it.innerText.includes(word)).map(it => it.getBoundingClientRect().height)) / innerHeight""",
        word)


def weigh(page, address):
    page.goto(address)
    page.wait_for_load_state("load")
    sizes = page.evaluate(
        "['navigation', 'resource'].flatMap(it => performance.getEntriesByType(it)).map(it => [it.name, it.decodedBodySize])")
    # The stream of parts is still open, and counts nothing here.
    whole = sum(size for _, size in sizes)
    check(f"page, style and script have less than 100 kB: {whole} bytes", len(sizes) >= 3 and 0 < whole < 100_000, sizes)


def narrow(page):
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def run(browser, station):
    address = f"http://127.0.0.1:{station.board_port}/"
    context = browser.new_context(viewport=SCREEN)
    page = context.new_page()
    troubles = []
    page.on("pageerror", lambda it: troubles.append(str(it)))
    page.on("console", lambda it: troubles.append(it.text) if it.type == "error" else None)
    weigh(page, address)
    page.evaluate("window.same = true")
    expect(page.locator(".nest .text").first).to_have_text("AWAY")

    station.fixture("--nests", "2", "--count", "4", "--seed", "1", "--write-time", "4s")
    expect(page.locator(".nest.wait .text").first).to_have_text("WAIT", timeout=20_000)
    check("WAIT fills a fifth of the screen's height", tall(page, "WAIT") >= 0.2, tall(page, "WAIT"))
    shot(page, "wait")
    station.passed(4)
    expect(page.locator(".nest.pass .text")).to_have_text(["PASS", "PASS"], timeout=20_000)
    check("PASS fills a fifth of the screen's height", tall(page, "PASS") >= 0.2, tall(page, "PASS"))
    check("a screen reader is told", "PASS" in page.locator("#said").inner_text(), page.locator("#said").inner_text())
    check("the last devices are listed", page.locator("#recent tbody tr").count() == 4)
    accessible(page, "PASS")
    station.stop("fixture")

    # The cloud does not answer, and the unit has waited for long enough.
    station.stop("cloud")
    station.fixture("--nests", "2", "--count", "1", "--seed", "2")
    expect(page.locator(".nest.fail .text").first).to_have_text("FAIL", timeout=60_000)
    check("FAIL fills a fifth of the screen's height", tall(page, "FAIL") >= 0.2, tall(page, "FAIL"))
    check("FAIL says what to do", len(page.locator(".nest.fail .todo").inner_text()) > 10)
    check("and has a sign", page.locator(".nest.fail .sign").inner_text() == "✖")
    shot(page, "verdicts")
    accessible(page, "FAIL and PASS")

    page.keyboard.press("Tab")
    check("the keyboard reaches the nests first", page.evaluate("document.activeElement.className") == "skip")
    page.evaluate("document.activeElement.blur()")

    process = station.running["station"]
    process.send_signal(signal.SIGSTOP)
    expect(page.locator("#stale")).to_contain_text("No word from the station", timeout=20_000)
    check("a daemon that hangs: the page is stale and says so", page.evaluate("document.documentElement.className") == "stale")
    accessible(page, "stale")
    shot(page, "stale")
    process.send_signal(signal.SIGCONT)
    expect(page.locator("#stale")).to_have_text("", timeout=30_000)
    check("it goes on, and is not stale any more", True)

    station.stop("station", signal.SIGKILL)
    expect(page.locator("#stale")).to_contain_text("No word from the station", timeout=20_000)
    station.daemon()
    expect(page.locator("#stale")).to_have_text("", timeout=30_000)
    check("a daemon that was killed and started again: the page goes on by itself", page.evaluate("window.same === true"))
    expect(page.locator(".nest.fail .text").first).to_have_text("FAIL", timeout=20_000)
    check("and shows the same verdicts", page.locator(".nest.pass").count() == 1, page.locator(".nest").count())

    station.ask("POST", "/v1/drain", {"reason": "the board is looked at"})
    expect(page.locator("#head .state")).to_contain_text("draining", timeout=20_000)
    shot(page, "draining")
    accessible(page, "draining")

    page.emulate_media(color_scheme="dark")
    accessible(page, "in the dark")
    shot(page, "dark")
    expected = [it for it in troubles if "ERR_" not in it]
    check("the script met no error, the page broke none of its own rules", not expected, expected)

    phone = browser.new_context(viewport=PHONE, device_scale_factor=2, is_mobile=True, has_touch=True).new_page()
    phone.goto(address)
    expect(phone.locator(".nest.fail .text").first).to_have_text("FAIL")
    check("a phone shows all of it without scrolling aside", narrow(phone))
    bottom = phone.evaluate("document.querySelector('.nest .word').getBoundingClientRect().bottom")
    check("the first verdict is on the phone's screen", 0 < bottom <= PHONE["height"], bottom)
    accessible(phone, "on a phone")
    shot(phone, "phone")


def main():
    SHOTS.mkdir(parents=True, exist_ok=True)
    with Station(patience="3s") as station, sync_playwright() as playwright:
        station.daemon()
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"], args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            run(browser, station)
        finally:
            browser.close()
    print(f"pictures: {SHOTS}")
    if failed:
        raise SystemExit(f"the board: {len(failed)} checks failed")
    print("the board: all held")


if __name__ == "__main__":
    main()
