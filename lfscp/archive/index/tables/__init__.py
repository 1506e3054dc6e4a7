"""The tables of the index, and the SQL that databases spell differently."""
