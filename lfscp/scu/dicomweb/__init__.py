"""Asks DICOMweb servers what the rest of `scu/` asks application entities (PS3.18)."""
