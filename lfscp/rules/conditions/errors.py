"""What is wrong with a condition of the configuration."""

from __future__ import annotations


class ConditionError(ValueError):
    """A condition that cannot be.

    Args:
        path: the keys that lead to it inside the condition, such as `("any", "0", "Modality")`.
        value: what stands there.
        expected: what was expected, with or without the word "expected" before it.
    """

    def __init__(self, path: tuple[str, ...], value: object, expected: str) -> None:
        expected = expected.removeprefix("expected ")  # errors of dates and times begin with it
        super().__init__(f"{'.'.join(path)}: expected {expected}")
        self.path = path
        self.value = value
        self.expected = expected
