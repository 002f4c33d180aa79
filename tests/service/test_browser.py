"""A person in a real browser: headless Chromium against a server that may be killed."""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bayesal import campaign

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
from selenium.common.exceptions import WebDriverException  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no Chromium here (Debian: apt install chromium-driver)"
    ),
]
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
DIGITS = load_digits()
RECIPE = {
    "question": "Which digit is this?",
    "classes": [str(digit) for digit in range(10)],
    "size": 10,
    "posterior": {"call": "posteriors.logistic", "args": [10]},
}
SERVE = """
import sys
from bayesal import service
service.serve(sys.argv[1], port=int(sys.argv[2]), people=sys.argv[3:])
"""


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "digits.db"
    made = campaign.create(path, np.float32(DIGITS.images / 16), RECIPE)
    made.store.engine.dispose()  # all of it is in the file
    return path


class Server:
    """`serve` in a process of its own, and the links that it prints."""

    def __init__(self, store, port=0, people=("ann", "bob")):
        command = [sys.executable, "-c", SERVE, str(store), str(port), *people]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = [self.process.stdout.readline() for _ in people or [""]]
        self.links = dict(line.strip().split(": ", 1) for line in lines if "#token=" in line)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(begun, tmp_path):
    store = Path(shutil.copy(begun, tmp_path / "digits.db"))
    running = Server(store)
    running.store = store
    yield running
    running.kill()


@pytest.fixture
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    with tempfile.TemporaryDirectory() as folder:
        for flag in [*FLAGS.split(), f"--user-data-dir={folder}", "--window-size=1100,900"]:
            options.add_argument(flag)
        service = webdriver.chrome.service.Service(DRIVER)
        try:
            driver = webdriver.Chrome(options=options, service=service)
        except WebDriverException as error:
            pytest.skip(f"Chromium does not start here: {error.msg}")
        driver.set_page_load_timeout(60)
        yield driver
        driver.quit()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except WebDriverException:
            pass
        time.sleep(0.02)
    raise AssertionError("it did not come")


def press(browser, key):
    ActionChains(browser).send_keys(key).perform()


def answers(store):
    return [r for r in campaign.open(store).export() if r["kind"] != "skip"]


def label(browser, store, count):
    """Answer by keys, one after the other, each as soon as an item is shown."""
    before = len(answers(store))
    script = "return document.querySelector('.item img')?.src"
    for number in range(count):
        shown = until(lambda: browser.execute_script(script))
        press(browser, str(number % 10))
        until(
            lambda shown=shown: (
                browser.execute_script(script) not in (None, shown)
                or len(answers(store)) == before + count
            )
        )
    until(lambda: len(answers(store)) == before + count)


def test_thirty_digits_by_keys_with_an_undo_and_a_reload(server, browser):
    browser.get(server.links["ann"])
    label(browser, server.store, 5)
    press(browser, "u")
    until(lambda: browser.execute_script("return document.querySelector('.item img')?.src"))
    time.sleep(0.3)
    press(browser, "9")
    until(lambda: any(r["label"] == "9" for r in answers(server.store)))
    assert len(answers(server.store)) == 5  # corrected, not added
    browser.refresh()
    label(browser, server.store, 25)
    kept = answers(server.store)
    assert len(kept) == 30 == len({r["row"] for r in kept})
    assert campaign.open(server.store).due().round >= 2
    faults = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert not faults


def test_two_people_at_once_see_different_items(server, browser):
    browser.get(server.links["ann"])
    label(browser, server.store, 2)
    browser.execute_script("window.open('about:blank')")
    first, second = browser.window_handles
    browser.switch_to.window(second)
    browser.get(server.links["bob"])
    label(browser, server.store, 2)
    browser.switch_to.window(first)
    label(browser, server.store, 2)
    kept = answers(server.store)
    assert len(kept) == 6 == len({r["row"] for r in kept})
    assert {a["annotator"] for r in kept for a in r["answers"]} == {"ann", "bob"}


def test_a_server_that_is_killed_between_click_and_answer(server, browser):
    browser.get(server.links["ann"])
    label(browser, server.store, 2)
    port = int(server.links["ann"].split(":")[2].split("/")[0])
    until(lambda: browser.execute_script("return document.querySelector('.item img')?.src"))
    server.kill()
    press(browser, "7")  # nobody hears it
    time.sleep(0.5)
    again = Server(server.store, port, people=())  # the links of before work
    try:
        until(lambda: len(answers(server.store)) == 3)
        kept = answers(server.store)
        assert len({r["row"] for r in kept}) == 3
        assert sum(len(r["answers"]) for r in kept) == 3
    finally:
        again.kill()


def test_a_phone_has_no_sideways_scrolling(server, browser):
    browser.set_window_size(360, 740)
    for page in ("", "progress.html"):
        browser.get(server.links["ann"].replace("/#", f"/{page}#"))
        until(lambda: browser.execute_script("return document.querySelector('main') !== null"))
        time.sleep(0.5)
        wide = browser.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide <= 0
