"""The folder of worklist files, and its items in the index."""
