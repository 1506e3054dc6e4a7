"""The index: which instances there are, as rows of a database."""
