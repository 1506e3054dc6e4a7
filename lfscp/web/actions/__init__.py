"""Functions that pages, API and dtools messages share."""
