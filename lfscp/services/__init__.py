"""The DICOM services of a node as pynetdicom handlers over the archive: a folder or module each."""
