"""Values of attributes: which the index keeps, their character sets, names, dates and faults."""
