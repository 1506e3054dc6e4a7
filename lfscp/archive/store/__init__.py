"""Stored objects: DICOM files in a folder, or in a bucket."""
