"""Takes out of an object what tells whose it is (PS3.15 annex E); knows no sockets and no SQL."""
