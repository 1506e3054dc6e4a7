"""The messages of other programs, answered over the API."""
