from typing import Any


def log_records(events: Any, resource: Any) -> list[Any]:
    return []
