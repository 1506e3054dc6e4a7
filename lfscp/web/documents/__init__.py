"""Turns objects without pixels into something to read: reports into text, waveforms into curves.

`attributes` reads a few attributes out of a large dataset, `report` and `waveforms` use it. None of
them draws: the page makes text and curves of what they give.
"""
