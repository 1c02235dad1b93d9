from typing import Any


def to_layers(model: Any) -> Any: ...
