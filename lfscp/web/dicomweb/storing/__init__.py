"""STOW-RS (PS3.18 section 10.5): stores what a request brings, part by part."""
