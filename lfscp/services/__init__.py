"""The DICOM services of a node as pynetdicom handlers: a folder or module for each."""
