"""What routes do to an object on its way out; the stored one stays as it is."""
