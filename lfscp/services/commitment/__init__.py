"""Storage Commitment, push model (PS3.4 annex J): requests of peers, and reports on our own."""
