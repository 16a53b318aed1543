"""What the Hub keeps: repositories of commits, branches and tags; large files beside Git, by their SHA-256."""

from __future__ import annotations

import fnmatch
import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from .protocol import HubError

LARGE_FILE_BYTES = 10 * 1024 * 1024
LARGE_PATTERNS = ("*.bin", "*.ckpt", "*.npz", "*.onnx", "*.parquet", "*.pt", "*.pth", "*.safetensors", "*.zip")
GITATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE_PATTERNS)


@dataclass(frozen=True)
class Blob:
    """One version of a file. Of a large one Git holds only a pointer."""

    content: bytes
    large: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{self.sha256}", f"size {self.size}")
        return "".join(f"{line}\n" for line in lines).encode()

    @cached_property
    def oid(self) -> str:
        """What ``git hash-object`` prints for the file as Git holds it."""
        stored = self.pointer if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.oid

    def lfs(self, digest_key: str) -> dict[str, int | str]:
        """The pointer as JSON; the Hub names its digest ``oid`` in a tree and ``sha256`` among siblings."""
        return {digest_key: self.sha256, "size": self.size, "pointerSize": len(self.pointer)}


@dataclass(frozen=True)
class Commit:
    """A whole tree and where it came from."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: Mapping[str, Blob]


@dataclass
class Repository:
    """A repository. A commit moves its branch in one step under a lock, or raises and changes nothing."""

    name: str  # "owner/name"
    kind: str  # "model" or "space"
    private: bool = False
    gated: bool = False  # listed for everybody, but files only for the owner and `granted`
    granted: set[str] = field(default_factory=set)
    sdk: str | None = None
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._add("main", {".gitattributes": Blob(GITATTRIBUTES.encode(), False)}, "initial commit", "", "system")

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag or a full commit id names.

        Raises:
            HubError: 404 ``RevisionNotFound``.
        """
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def is_large(self, path: str, size: int, revision: str = "main") -> bool:
        """Whether a file of this name and size belongs in LFS: by ``.gitattributes``, or by its size alone."""
        attributes = self.resolve(revision).files.get(".gitattributes")
        for line in attributes.content.decode("utf-8").splitlines() if attributes else ():
            pattern, *settings = line.split() or [""]
            # As in Git, a pattern without a slash holds in every folder.
            name = path if "/" in pattern else path.rsplit("/", 1)[-1]
            if "filter=lfs" in settings and fnmatch.fnmatchcase(name, pattern):
                return True
        return size > LARGE_FILE_BYTES

    def commit(
        self,
        changes: Mapping[str, Blob | None],
        *,
        title: str,
        message: str = "",
        author: str = "system",
        branch: str = "main",
        parent: str | None = None,
    ) -> Commit:
        """Write (a blob) and delete (None) files on ``branch``, all or none.

        Raises:
            HubError: 412, ``branch`` is no longer at ``parent``; 404, no such branch, or no such file to delete.
        """
        with self.lock:
            if branch not in self.branches:
                raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            head = self.commits[self.branches[branch]]
            if parent is not None and parent != head.oid:
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            files = dict(head.files)
            for path, blob in changes.items():
                if blob is not None:
                    files[path] = blob
                elif files.pop(path, None) is None:
                    raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            return self._add(branch, files, title, message, author)

    def _add(self, branch: str, files: Mapping[str, Blob], title: str, message: str, author: str) -> Commit:
        parent = self.branches.get(branch)
        # The count makes two equal commits in the same millisecond two commits.
        content = [self.name, str(len(self.commits)), str(parent), title, message, author]
        content += [f"{path} {blob.oid}" for path, blob in sorted(files.items())]
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        oid = hashlib.sha1("\n".join(content).encode()).hexdigest()
        commit = Commit(oid, parent, title, message, author, date, dict(files))
        self.commits[oid] = commit
        self.branches[branch] = oid
        return commit

    def push(self, files: Mapping[str, bytes], delete: Iterable[str] = (), *, branch: str = "main") -> str:
        """A commit without any request, as if somebody else had pushed.

        Returns:
            The id of the new commit.
        """
        changes: dict[str, Blob | None] = {
            path: Blob(content, self.is_large(path, len(content), branch)) for path, content in files.items()
        }
        changes |= dict.fromkeys(delete)
        return self.commit(changes, title="a push from elsewhere", author=self.owner, branch=branch).oid

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Every file at ``revision`` with its bytes, without the ``.gitattributes`` that each repository has."""
        tree = self.resolve(revision).files
        return {path: blob.content for path, blob in tree.items() if path != ".gitattributes"}

    def history(self, revision: str = "main") -> list[Commit]:
        """The commits up to ``revision``, newest first."""
        commits, oid = [], self.resolve(revision).oid
        while oid is not None:
            commits.append(self.commits[oid])
            oid = self.commits[oid].parent
        return commits
