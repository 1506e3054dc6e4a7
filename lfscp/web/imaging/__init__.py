"""From stored pixel data to what a screen shows (PS3.3 sections C.7.6, C.9, C.11; PS3.5 section 8).

`stored_values` reads files and asks codecs. The rest is pure: values and a header in, values out.
"""
