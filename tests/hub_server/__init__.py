"""A small Hugging Face Hub on loopback, for tests: the real client talks to it, and it fails when told to.

``hub`` and ``hub_here`` (fixtures.py) are what a test asks for. What it cannot do: pull requests, multipart
uploads, pagination, gitignore rules, ``expand`` of trees.
"""

from .faults import Access, Alter, CutReply, CutUpload, Fault, Status, Truncate
from .protocol import Token
from .server import HubServer
from .storage import Blob, Commit, Repository

__all__ = [
    "Access",
    "Alter",
    "Blob",
    "Commit",
    "CutReply",
    "CutUpload",
    "Fault",
    "HubServer",
    "Repository",
    "Status",
    "Token",
    "Truncate",
]
