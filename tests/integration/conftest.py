"""What the tests that need real parts share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import require_part

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.support.collector import Collector
    from tests.support.jaeger import Jaeger


@pytest.fixture(scope="module")
def chrome() -> "Iterator[Chrome]":
    """A browser that keeps what pages say on the console and ask from the network."""
    from docs.make_screenshots import browser

    chromium, driver = str(require_part("chromium")), str(require_part("chromedriver"))
    with browser(chromium=chromium, driver=driver, logs={"browser": "ALL", "performance": "ALL"}) as made:
        yield made


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Jaeger]":
    """The real one, for all tests of a module; each has a service of its own in it."""
    from tests.support.jaeger import Jaeger

    with Jaeger(require_part("jaeger"), tmp_path_factory.mktemp("jaeger")) as running:
        yield running


@pytest.fixture(scope="module")
def collector(jaeger: "Jaeger", tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Collector]":
    """The real one before it, with the configuration that is shipped."""
    from tests.support.collector import Collector

    folder = tmp_path_factory.mktemp("collector")
    with Collector(require_part("otelcol"), folder / "collector", jaeger=jaeger.otlp) as running:
        yield running
