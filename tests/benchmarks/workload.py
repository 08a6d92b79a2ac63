"""What a workload is to the command line: a name, a sentence, what it measures, and the columns of its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .book import Book
from .peers import Peer
from .places import Place

ALL = ("postgresql", "sqlite-full", "sqlite-normal")
#: The last one only where it is asked for.
EVERYWHERE = (*ALL, "mariadb")
DURABLE = ("postgresql", "sqlite-full")


@dataclass(frozen=True)
class Workload:
    name: str
    says: str
    #: Measures one database, beside these peers, and writes into the book.
    measure: Callable[[Place, Book, Sequence[Peer]], None]
    #: Name of a figure → heading.
    columns: dict[str, str]
    databases: tuple[str, ...] = DURABLE
    #: Measured only where it is asked for by name.
    on_request: bool = False
