"""Chromium without a window and without a network, and what the tests ask of it."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import pytest
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")

CHROMIUM: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CHROMEDRIVER: Final = shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="chromium and chromedriver are not installed"
)

FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1600,1100",
)
PATIENCE: Final = 60
"""Seconds to wait for a page; two busy cores draw slowly."""

_REDRAWN: Final = (
    StaleElementReferenceException,
    ElementNotInteractableException,
    ElementClickInterceptedException,
)


class Browser:
    """A browser window on one site."""

    def __init__(self, driver: Chrome, site: str = "") -> None:
        self.driver, self.site = driver, site

    def open(self, address: str) -> None:
        """Go to a path of the site, or to a whole address."""
        self.driver.get(self.site + address)

    def wait(self, what: str, probe: Callable[[], T | None]) -> T:
        """What ``probe`` finds, asked again while the page is being drawn."""
        try:
            patient = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=_REDRAWN)
            return cast(T, patient.until(lambda _: probe()))
        except TimeoutException:
            raise AssertionError(f"the page never showed {what}; it shows:\n{self.text()}") from None

    def text(self) -> str:
        """All text that can be read on the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def read(self, *expected: str) -> str:
        """The text of the page, once all that is expected can be read on it."""
        return self.wait(
            f"{expected}",
            lambda: text if all(part in (text := self.text()) for part in expected) else None,
        )

    def click(self, button: str) -> None:
        """Press the button whose label begins with this text, once it can be pressed."""

        def press() -> bool:
            for found in self.driver.find_elements(
                By.XPATH, f"//button[starts-with(normalize-space(.), '{button}')]"
            ):
                if found.is_displayed() and found.is_enabled():
                    found.click()
                    return True
            return False

        self.wait(f"a button {button!r}", press)

    def find(self, css: str) -> list[WebElement]:
        """The elements that match, once there is one."""
        return self.wait(css, lambda: self.driver.find_elements(By.CSS_SELECTOR, css))

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        events = (json.loads(entry["message"])["message"] for entry in self._log("performance"))
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """Errors of the page's scripts since the last call."""
        return [entry["message"] for entry in self._log("browser") if entry["level"] == "SEVERE"]

    def _log(self, name: str) -> list[dict[str, Any]]:
        return list(self.driver.get_log(name))  # type: ignore[no-untyped-call]

    def picture(self, path: Path) -> None:
        """Save what can be seen."""
        self.driver.save_screenshot(str(path))


@contextmanager
def browsing(profile: Path, site: str = "") -> Iterator[Browser]:
    """A browser with a fresh profile."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(CHROMEDRIVER))
    try:
        yield Browser(driver, site)
    finally:
        driver.quit()
