"""Storage Commitment, push model (PS3.4 annex J): as its SCP, and the reports to what we asked."""
