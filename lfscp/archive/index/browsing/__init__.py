"""The index for people: lists a page at a time, what they are filtered by, names and counts."""
