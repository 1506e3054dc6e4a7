"""Runs processes that do one kind of work for the node, within limits of memory and time.

| file | responsibility |
|---|---|
| forking | the first process, which forks the others |
| forking_server | starts the first, asks it for others, ends them |
| connection | messages between the node and such a process |
| forks | tells objects of a fork |
| memory | limits, measures and gives back the memory of a process |

The work itself is done by a module that the node names.
"""
