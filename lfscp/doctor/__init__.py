"""Looks at a node, its machine and its peers, and says what to do about what is wrong."""
