"""Side-by-side benchmark of DICOM SCP servers (see README.md)."""
