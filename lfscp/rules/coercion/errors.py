"""What is wrong with a coercion of the configuration."""

from __future__ import annotations


class CoercionError(ValueError):
    """A coercion that cannot be.

    Args:
        path: the keys that lead to it, such as `("set", "PatientID")`.
        value: what stands there.
        expected: what was expected, in words that follow "expected".
    """

    def __init__(self, path: tuple[str, ...], value: object, expected: str) -> None:
        super().__init__(f"{'.'.join(path)}: expected {expected}")
        self.path = path
        self.value = value
        self.expected = expected
