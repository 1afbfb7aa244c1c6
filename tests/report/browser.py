"""Debian's chromium, headless, for pages on the disk: started without any service of its own, its logs kept."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = os.environ.get("SKECG_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
DRIVER = os.environ.get("SKECG_CHROMEDRIVER") or shutil.which("chromedriver") or "/usr/bin/chromedriver"
_QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
)


def why_not() -> str:
    """Return why no browser can be started here; empty where one can."""
    if importlib.util.find_spec("selenium") is None:
        return "needs selenium (tox run -e browser installs it)"
    missing = [path for path in (CHROMIUM, DRIVER) if not Path(path).is_file()]
    return f"needs {' and '.join(missing)} (Debian: apt install chromium chromium-driver)" if missing else ""


@contextmanager
def chromium(profile: Path, width: int = 1400, height: int = 1000) -> Iterator[Any]:
    """Yield a driver of a fresh browser whose profile lies in a folder; the browser ends with the block."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = CHROMIUM
    for argument in (*_QUIET, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_script_timeout(120)
        yield driver
    finally:
        driver.quit()


def paints(driver: Any) -> dict[str, float]:
    """Return the times of the page's first paints, s after the navigation began."""
    code = "return performance.getEntriesByType('paint').map((one) => [one.name, one.startTime])"
    found = driver.execute_script(code)
    return {name: time / 1000 for name, time in found}


def errors(driver: Any) -> list[str]:
    """Return what the page wrote to its console that is a warning or worse, since this was last asked."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def requests(driver: Any) -> list[str]:
    """Return the addresses that were asked for, by the browser's own record, since this was last asked.

    What the page's policy stopped before it went out is none of them.
    """
    found, stopped = {}, set()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        method, given = message["method"], message["params"]
        if method == "Network.requestWillBeSent":
            found[given["requestId"]] = given["request"]["url"]
        elif method == "Network.webSocketCreated":
            found[given["requestId"]] = given["url"]
        elif method == "Network.loadingFailed" and given.get("blockedReason") == "csp":
            stopped.add(given["requestId"])
    return [url for number, url in found.items() if number not in stopped]
