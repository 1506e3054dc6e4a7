"""Datasets as bytes: their elements, value representations, deflation and pixel data."""
