"""Decides whether an object meets a condition: who sent it, and what its attributes say."""
