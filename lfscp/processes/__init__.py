"""Processes that do one kind of work for the node, each within a limit of memory and one of time.

| file | responsibility |
|---|---|
| forking | the first process, which forks the others |
| forking_server | starts the first, asks it for others, ends them |
| connection | messages between the node and such a process |
| memory | limits, measures and gives back the memory of a process |

They know nothing of the work: a module that the node names does it.
"""
