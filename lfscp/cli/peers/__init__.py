"""The commands that ask another node: `echo`, `find`, `get`, `move`, `send`, `commit`.

`echo`, `find`, `get` and `send` ask a DICOMweb server as well, if they are given its URL. The
options are those of DCMTK's tools. Results go to standard output, progress and problems to
standard error. The exit code is 0 when all is done, 1 after a failure, 130 after Ctrl-C and 143
after SIGTERM (then the peer gets a C-CANCEL).
"""
