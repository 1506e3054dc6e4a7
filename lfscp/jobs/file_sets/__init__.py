"""File-sets (PS3.10 section 8): objects as files with a DICOMDIR, packed into a ZIP."""
