"""C-FIND on the modality worklist (PS3.4 annex K)."""
