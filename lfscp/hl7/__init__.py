"""Fills the worklist from HL7 version 2 messages of a hospital, over MLLP."""
