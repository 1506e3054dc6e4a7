"""Calls plug-ins: Python code of others that decides, is told, or adds to the node.

A plug-in imports all that it needs from here: the mark `hook`, and the types of its arguments.
`specifications.py` has the hooks; config/plugins.md explains them with examples.
"""

from lfscp.plugins.events import (
    AnsweredQuery,
    Arrival,
    CompleteStudy,
    EndedJob,
    PluginQuery,
    Refusal,
    Sending,
    StoredObject,
)
from lfscp.plugins.node import PluginNode
from lfscp.plugins.specifications import Services, hook

__all__ = [
    "AnsweredQuery",
    "Arrival",
    "CompleteStudy",
    "EndedJob",
    "PluginNode",
    "PluginQuery",
    "Refusal",
    "Sending",
    "Services",
    "StoredObject",
    "hook",
]
