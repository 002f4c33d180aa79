"""The tables of a store. The database is the truth: everything else can be computed from it."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

VERSION = 1  # a change of the tables adds a migration
APPLICATION = "bayesal campaign"
KINDS = ("label", "reject", "abstain", "skip")

TABLES = MetaData()
_WHOLE = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts in plain INTEGER keys only

META = Table(
    "meta",
    TABLES,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
)

# The pool: parts of consecutive rows, kept here or, by reference, in an .npy file.
PARTS = Table(
    "parts",
    TABLES,
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("rows", Integer, nullable=False),
    Column("dtype", String, nullable=False),
    Column("shape", String, nullable=False),  # of one example, as JSON
    Column("path", Text),  # of the .npy file; NULL: the numbers are in `data`
    Column("sha256", String, nullable=False),
    Column("data", LargeBinary),
)

# What people see of a row, and what it costs to ask about it.
ITEMS = Table(
    "items",
    TABLES,
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("id", String, nullable=False, unique=True),
    Column("show", Text),  # JSON; NULL: the row's numbers
)

# A round is one `tell` and one `ask`. Its state is a cache: `answers_upto` and `rows` replay it.
ROUNDS = Table(
    "rounds",
    TABLES,
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("answers_upto", _WHOLE, nullable=False),
    Column("rows", Integer, nullable=False),  # of the pool, then
    Column("created", Float, nullable=False),
    Column("report", Text, nullable=False),  # JSON
    Column("capacity", Integer, nullable=False),
    Column("sha256", String),
    Column("state", LargeBinary),
)

ASKS = Table(
    "asks",
    TABLES,
    Column("round", Integer, primary_key=True, autoincrement=False),
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("rank", Integer, nullable=False),
    Column("score", Float),  # NULL: carried over from the round before
    Column("wanted", Integer, nullable=False),  # decisions about the row, in all
    Column("note", Text),  # JSON
)

# Never deleted: an answer counts whenever it comes.
LEASES = Table(
    "leases",
    TABLES,
    Column("token", String, primary_key=True),
    Column("row", Integer, nullable=False, index=True),
    Column("annotator", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("issued", Float, nullable=False),
    Column("until", Float, nullable=False),
)

# Append-only: a correction sets `revoked_by` of the old answer to its own number.
ANSWERS = Table(
    "answers",
    TABLES,
    Column("number", _WHOLE, primary_key=True, autoincrement=False),
    Column("token", String, nullable=False, index=True),
    Column("row", Integer, nullable=False),
    Column("annotator", String, nullable=False),
    Column("round", Integer, nullable=False),
    Column("kind", String, nullable=False),
    Column("value", Text),  # JSON
    Column("seconds", Float),
    Column("at", Float, nullable=False),
    Column("revoked_by", _WHOLE),
)
Index(  # one answer of a person about a row counts, whatever two processes do
    "answers_that_count",
    ANSWERS.c.row,
    ANSWERS.c.annotator,
    unique=True,
    sqlite_where=text("revoked_by IS NULL"),
    postgresql_where=text("revoked_by IS NULL"),
)

ANNOTATORS = Table(
    "annotators",
    TABLES,
    Column("name", String, primary_key=True),
    Column("token_sha256", String, nullable=False, unique=True),
    Column("created", Float, nullable=False),
)

# One row: whoever trains holds `fence`, the number of its turn.
LOCK = Table(
    "lock",
    TABLES,
    Column("name", String, primary_key=True),
    Column("fence", Integer, nullable=False),
    Column("holder", String),
    Column("until", Float, nullable=False),
)
