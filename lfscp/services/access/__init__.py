"""Decides who may associate, and who may do what."""
