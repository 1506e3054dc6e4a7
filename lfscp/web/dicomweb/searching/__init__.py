"""QIDO-RS: searches for studies, series and instances (PS3.18 section 10.6)."""
