"""C-STORE (PS3.4 annex B)."""
