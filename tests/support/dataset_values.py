"""Other values in a dataset that a test starts from."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset


def with_values(dataset: Dataset, values: dict[str, Any]) -> Dataset:
    """With other values by keyword; None takes the attribute away."""
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset
