"""What becomes of pixels: text that is burned in, rectangles, and bytes that are no pixels."""
