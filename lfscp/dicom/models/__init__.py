"""Datasets as documents: as a tree of elements, as DICOM JSON, as XML."""
