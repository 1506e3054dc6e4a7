"""The web page and the JSON API of a node. Nothing here is imported by a node without HTTP."""
