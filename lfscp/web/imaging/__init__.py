"""Turns stored pixel data into what a screen shows (PS3.3 C.7.6, C.9, C.11; PS3.5 section 8).

`pixel_data` and `object_header` read files. The rest is pure: values and a header in, values out.
"""
