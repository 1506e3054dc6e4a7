"""WADO-RS and WADO-URI: objects, frames, bulk data and pictures (PS3.18 sections 9 and 10.4)."""
