"""The peers of jobs: application entities and DICOMweb servers, and how each kind is asked."""
