"""System checks: what is wrong with a project before a run finds out. `apps` imports this, which registers them.

| id | what is wrong |
|---|---|
| `canx_flow.E001` | `CANX_FLOW` is not a dict |
| `canx_flow.E002` | `CANX_FLOW` has an unknown key |
| `canx_flow.E003` | a value of `CANX_FLOW` has the wrong type |
| `canx_flow.E004` | a number in `CANX_FLOW` is out of range |
| `canx_flow.E005` | `CANX_FLOW["RETRY"]` are no keywords of `Retry`, or bad ones |
| `canx_flow.E006` | `CANX_FLOW["DATABASE"]` is not in `DATABASES` |
| `canx_flow.E007` | `CANX_FLOW["REDACT"]` is not the dotted path of a function that takes what it is called with |
| `canx_flow.E008` | `USE_TZ` is off: a local time that occurs twice cannot order timers |
| `canx_flow.E009` | the database is none of SQLite, PostgreSQL, MariaDB and MySQL |
| `canx_flow.E010` | PostgreSQL is reached through psycopg2, not psycopg 3 |
| `canx_flow.E011` | MariaDB or MySQL is too old for SKIP LOCKED (asks the database) |
| `canx_flow.E012` | the routers keep tables of canx_flow out of `CANX_FLOW["DATABASE"]` |
| `canx_flow.E013` | a connection pool together with `CONN_MAX_AGE` |
| `canx_flow.E014` | the database stores local times of a zone with summer time |
| `canx_flow.E015` | `AUTOCOMMIT` is off for the database |
| `canx_flow.E016` | `CANX_FLOW["ADMIN_URL"]` is not the whole address of the admin |
| `canx_flow.E017` | a limit in `CANX_FLOW["LIMITS"]` is badly declared |
| `canx_flow.E018` | `CANX_FLOW["QUEUES"]` has a bad name, a bad option or a bad limit |
| `canx_flow.E019` | `TASKS` has a `DurableBackend`, and `canx_flow.contrib.tasks` is not in `INSTALLED_APPS` |
| `canx_flow.W001` | SQLite begins its transactions without the write lock |
| `canx_flow.W002` | the SQLite file is not in WAL mode (asks the database) |
| `canx_flow.W003` | the routers send queries or migrations of canx_flow elsewhere than `CANX_FLOW["DATABASE"]` |
| `canx_flow.W004` | with a second database, `start()` is in no transaction with the project's own rows |
| `canx_flow.W005` | the connection pool is smaller than a worker with the default `--concurrency` needs |
| `canx_flow.W006` | the body of a workflow calls what gives another value on every replay |
| `canx_flow.W007` | the body of a workflow sleeps and holds its slot |
| `canx_flow.W008` | the body of an `async def` workflow does not await what it asks its context for |
| `canx_flow.W009` | the body of a workflow writes rows, sends mail or makes HTTP calls |

Ids are never given to anything else. Those that ask the database are made by `check --database ALIAS`, by `migrate`,
by test runners, and by a worker at its start.
"""

from . import bodies, databases, routing, settings

__all__ = ["bodies", "databases", "routing", "settings"]
