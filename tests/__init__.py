"""The tests. This file only makes `tests.support` importable from the project's root."""
