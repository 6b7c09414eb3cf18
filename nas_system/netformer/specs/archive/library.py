"""Where archives and models lie: what is shipped with the package, and what one's own searches add.

Shipped are the archive and the networks learned from it, so that the first search waits for nothing.
One's own rows and one's own networks are in $NAS_ARCHIVE_DIR, or in the user's data folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas_system.errors import ConfigError, StateError
from nas_system.files import ARCHIVE_FILE, ARCHIVE_VARIABLE, archive_folder, is_disk_full
from nas_system.netformer.specs.archive.archive_file import TRAIN, Archive, checksum_of, read_archive

SHIPPED = Path(__file__).parents[1] / "shipped"
MODEL_FILE = "proposer.weights"
"""Not .pth: those are what a search makes, and no package ships one."""


@dataclass(frozen=True)
class Library:
    """The files of one user."""

    shipped: Path
    own: Path

    @classmethod
    def here(cls) -> Library:
        return cls(SHIPPED, archive_folder())

    @property
    def own_archive(self) -> Path:
        return self.own / ARCHIVE_FILE

    @property
    def own_model(self) -> Path:
        return self.own / MODEL_FILE

    @property
    def model(self) -> Path:
        """The model to use: one's own if there is one."""
        return self.own_model if self.own_model.exists() else self.shipped / MODEL_FILE

    def shipped_archive(self) -> Archive:
        return read_archive(self.shipped / ARCHIVE_FILE)

    def archive_to_learn_from(self) -> Archive:
        """The shipped rows and one's own, without the tasks that are kept to judge proposers."""
        archive = self.shipped_archive().of(TRAIN)
        return archive.with_rows_of(read_archive(self.own_archive)) if self.own_archive.exists() else archive

    def stale(self, learned_from: str) -> bool:
        """Whether rows have come since a model was learned."""
        return checksum_of(self.archive_to_learn_from()) != learned_from

    def make_own(self) -> None:
        """Raises ConfigError if the folder cannot be made."""
        try:
            self.own.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise ConfigError(
                f"{self.own} cannot be made ({error.strerror}); name another folder by {ARCHIVE_VARIABLE}"
            ) from None


def read_own(library: Library) -> Archive:
    """One's own rows; an empty archive if there are none yet."""
    try:
        return read_archive(library.own_archive) if library.own_archive.exists() else Archive({}, ())
    except StateError as error:
        raise StateError(f"{error}; move it away to begin a new one") from None
