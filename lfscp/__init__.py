"""lfscp: a DICOM SCP whose associations are served by a leader/follower thread pool."""

__version__ = "0.1.0"
