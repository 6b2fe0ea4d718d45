from typing import Any


class MetricProjection:
    def __init__(self, info: Any, resource: Any) -> None: ...
    def feed(self, event: Any) -> None: ...
    def due(self, time_ns: int) -> bool:
        return False

    def data(self) -> Any:
        return None
