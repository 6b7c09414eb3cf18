"""Where archives and networks are stored: those shipped with the package, and those of the user's searches.

The shipped archive and networks serve the first search. The user's own are in $NAS_ARCHIVE_DIR, or in
the user's data folder.
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
        """The model to use: the user's own if there is one."""
        return self.own_model if self.own_model.exists() else self.shipped / MODEL_FILE

    def archive_to_learn_from(self) -> Archive:
        """Return the shipped and the user's own rows, without the tasks kept to evaluate proposers."""
        archive = read_archive(self.shipped / ARCHIVE_FILE).of(TRAIN)
        return archive.with_rows_of(read_archive(self.own_archive)) if self.own_archive.exists() else archive

    def stale(self, learned_from: str) -> bool:
        """Whether rows were added since a model was fitted to the archive with this checksum."""
        return checksum_of(self.archive_to_learn_from()) != learned_from

    def make_own(self) -> None:
        """Create the user's folder. Raises ConfigError."""
        try:
            self.own.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise ConfigError(
                f"{self.own} cannot be made ({error.strerror}); name another folder by {ARCHIVE_VARIABLE}"
            ) from None


def read_own(library: Library) -> Archive:
    """Return the user's own rows; an empty archive if there are none yet. Raises StateError."""
    try:
        return read_archive(library.own_archive) if library.own_archive.exists() else Archive({}, ())
    except StateError as error:
        raise StateError(f"{error}; move it away to begin a new one") from None
