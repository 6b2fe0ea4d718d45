"""What the tests that need real parts share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import require_part

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


@pytest.fixture(scope="module")
def chrome() -> "Iterator[Chrome]":
    """A browser that keeps what pages say on the console and ask from the network."""
    from docs.make_screenshots import browser

    chromium, driver = str(require_part("chromium")), str(require_part("chromedriver"))
    with browser(chromium=chromium, driver=driver, logs={"browser": "ALL", "performance": "ALL"}) as made:
        yield made
