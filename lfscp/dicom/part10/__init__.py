"""DICOM files as bytes: preamble, file meta information, and the dataset behind them (PS3.10)."""
