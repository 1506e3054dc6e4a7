"""Simulated power cuts: a disk that records, what it may hold after a cut, and who judges that."""
