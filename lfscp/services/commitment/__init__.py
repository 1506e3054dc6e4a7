"""Storage Commitment, push model, as the SCP (PS3.4 annex J)."""
