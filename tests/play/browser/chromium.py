"""See to it that there is a Chromium for the tests of the page: the machine's, or else Playwright's, which is fetched.

Where neither can be had, it says why, and the tests that need one are skipped with that reason.

python -m tests.play.browser.chromium
"""

import shutil
import subprocess
import sys

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def on_this_machine() -> str | None:
    """The path of an installed Chromium."""
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


if __name__ == "__main__":
    if found := on_this_machine():
        print(f"browser: {found}")
    else:
        fetched = subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], timeout=300, check=False)
        if fetched.returncode:
            print(
                "browser: none installed, and Playwright's cannot be fetched from here; tests that need one are skipped"
            )
