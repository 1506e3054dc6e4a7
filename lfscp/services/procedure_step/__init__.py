"""The performed procedure steps of modalities: N-CREATE, N-SET and N-GET (PS3.4 annex F)."""
