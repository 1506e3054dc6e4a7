"""Finds the words that tell of people, and cleans text of them."""
