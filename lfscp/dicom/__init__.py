"""Bytes and values of DICOM: nothing here opens a file or a socket."""
