"""What the server and the client of DICOMweb share: media types, and bodies in parts (PS3.18)."""
