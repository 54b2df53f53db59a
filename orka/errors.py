"""Every exception that Orka raises on purpose, one tree, by who can fix it.

OrkaError
|-- ConfigError(path, line)      the author of a file or setting can fix it, before any I/O
|   |-- GraphError               faults of a graph file, all of them (`diagnostics`)
|   |-- TemplateError            a template does not compile, or reads what is undefined in strict mode
|   `-- SettingsError            an environment variable or option has a bad value
|-- RunError(run_id, path)       a run failed
|   |-- AgentError               an agent raised, or gave something that is not JSON
|   |-- RouteNotFound            no route fits the decision and there is no fallback
|   |-- BranchError              a branch failed and its join was told to fail with it
|   |-- FailoverExhausted        every child of a failover failed
|   |-- RunTimeout               a node or the run's deadline ran out
|   |-- StepsExceeded            the run took more steps than `max_steps`
|   |-- BudgetExceeded           the run has used up its `budget`
|   |-- RunCancelled             the run was cancelled from outside its process
|   |-- RunNotFound              no such run in the journal
|   |-- RunExists                a run of the id that was asked for is there already
|   |-- RunAlive(holder)         the run is executed by a live process right now
|   |-- LeaseLost                another process took the run over; this one writes nothing more
|   `-- JournalMismatch          the journal holds what this graph or this version cannot have produced
|-- DispatchError                the road to the workers
|   |-- TaskUndecodable          a task is of a newer version, or is none
|   |-- TaskRefused              this worker lacks what the task needs
|   |-- LetterNotFound           no dead letter of this id
|   `-- RetryRefused             a dead letter cannot be tried again: its run does not wait for it
|-- StoreError                   Redis: unreachable, wrong kind, full
|   |-- BackendMissing           the server lacks what is needed (search module, database 0)
|   |-- JournalUnavailable       the journal could not be written for longer than the limit
|   |-- IndexMismatch            memories were indexed with another model or layout
|   |-- RecordRefused            a memory has a value that cannot be stored
|   |-- QueryRefused             a search cannot be done as asked
|   `-- WriteLost(keys)          memories that could not be stored after all attempts
|-- EmbeddingError(index)        a text could not be turned into a vector
|-- LLMError(provider, status)   a model could not be asked, or gave no usable answer
|   |-- LLMTimeout               no answer in time
|   |-- LLMRateLimited           too many questions, after all attempts (`retry_after`)
|   `-- LLMBadAnswer             what came back is no answer
|-- SearchError                  a search engine could not be asked
`-- ServerError(log_tail)        the private server did not start
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from orka.types import Json

if TYPE_CHECKING:
    from orka.results import Usage


class Diagnostic(Protocol):
    """What `GraphError` carries for every fault: see `orka.graph.diagnostics`."""

    @property
    def message(self) -> str: ...
    def render(self) -> str: ...


class OrkaError(Exception):
    """Base of everything Orka raises on purpose."""


class ConfigError(OrkaError):
    """The author can fix it. `path` is the file (or setting) and `line` counts from 1 where known."""

    def __init__(self, message: str, *, path: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


class GraphError(ConfigError):
    """A graph file has faults; `diagnostics` holds all of them, errors and warnings, in file order."""

    def __init__(self, message: str, *, diagnostics: Sequence[Diagnostic] = (), path: str | None = None) -> None:
        super().__init__(message, path=path)
        self.diagnostics = tuple(diagnostics)


class TemplateError(ConfigError):
    """A template does not compile, or reads something undefined in strict mode. `line` is within the template."""


class SettingsError(ConfigError, ValueError):
    """A setting has a bad value; the message names the variable and what it accepts. (A `ValueError` as well: OrKa 0.9 raised
    that for an unknown backend of memories.)"""


class RunError(OrkaError):
    """A run failed. `run_id` and `path` (of the visit) are None where the error is not about one."""

    def __init__(self, message: str, *, run_id: str | None = None, path: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.path = path


class AgentError(RunError):
    """An agent raised, or its value is not JSON. `kind` is the class name of the original error. An agent that has
    something to show although it failed raises one with an `output`: `response` and further keys, as templates and logs
    see them beside the error. `usage`: what it consumed nevertheless."""

    def __init__(
        self,
        message: str,
        *,
        kind: str = "AgentError",
        output: Mapping[str, Json] | None = None,
        usage: Usage | None = None,
        run_id: str | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(message, run_id=run_id, path=path)
        self.kind = kind
        self.output = output
        self.usage = usage


class RouteNotFound(RunError):
    """No route of a router fits the decision and it has no fallback."""


class BranchError(RunError):
    """A branch failed and its join was told to fail with it."""


class FailoverExhausted(RunError):
    """Every child of a failover failed."""


class RunTimeout(RunError):
    """A node's timeout or the run's deadline ran out."""


class StepsExceeded(RunError):
    """The run took more steps than its `max_steps`: most likely a routing cycle."""


class BudgetExceeded(RunError):
    """The run has used up its `budget` and was to go on. With a larger one it can be resumed."""


class RunCancelled(RunError):
    """The run was cancelled by somebody else (`orka cancel`)."""


class RunNotFound(RunError):
    """No run of this id is in the journal (wrong id, other server, or its retention ended)."""


class RunExists(RunError):
    """A new run was to have the id of one that is there already, under way or ended."""


class RunAlive(RunError):
    """The run is being executed. `holder` names the process, `left_ms` how long its lease still lasts."""

    def __init__(self, message: str, *, run_id: str, holder: str, left_ms: int) -> None:
        super().__init__(message, run_id=run_id)
        self.holder = holder
        self.left_ms = left_ms


class LeaseLost(RunError):
    """Another process took the run over. Nothing more is written; never retried."""


class JournalMismatch(RunError):
    """The journal holds a visit that this graph or this version of the interpreter cannot have produced."""


class DispatchError(OrkaError):
    """A task cannot be sent or taken."""


class TaskUndecodable(DispatchError):
    """A task is of a newer version than this worker reads, or is none."""


class TaskRefused(DispatchError):
    """This worker lacks an agent type, a module or a permission that a task needs; another one may have it."""


class LetterNotFound(DispatchError):
    """No dead letter of this id: it was retried or dropped, or its time is over."""


class RetryRefused(DispatchError):
    """A dead letter cannot be tried again, because its run is under way, completed, or gone."""


class StoreError(OrkaError):
    """Redis is unreachable, refuses us, or answers what it should not."""


class BackendMissing(StoreError):
    """The server lacks something that is needed; the message names the ways out."""


class JournalUnavailable(StoreError):
    """The journal could not be written for longer than the limit; the run stops rather than run on unrecorded."""


class IndexMismatch(StoreError):
    """The memories at hand were indexed with another embedding model or layout; the message names the remedy."""


class RecordRefused(StoreError):
    """A memory has a value that cannot be stored. Its neighbours in a batch are."""


class QueryRefused(StoreError):
    """A search cannot be done as asked: a vector of another dimension, a negative limit."""


class WriteLost(StoreError):
    """Memories that could not be stored after all attempts. `keys` are theirs, in the order in which they were accepted."""

    def __init__(self, message: str, *, keys: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class EmbeddingError(OrkaError):
    """A text could not be turned into a vector: the endpoint refuses, or gives what it should not. `index` is the place of
    the text (from 0, of those given) when it alone is refused; None when no single one is to blame."""

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class LLMError(OrkaError):
    """A model could not be asked. `provider` is the endpoint's label; `status` the HTTP status where there was one."""

    def __init__(self, message: str, *, provider: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status


class LLMTimeout(LLMError):
    """The model did not answer in time."""


class LLMRateLimited(LLMError):
    """The endpoint takes no more questions now. `retry_after`: seconds that it wants to be left alone; None: unsaid."""

    def __init__(
        self, message: str, *, provider: str = "", status: int | None = 429, retry_after: float | None = None
    ) -> None:
        super().__init__(message, provider=provider, status=status)
        self.retry_after = retry_after


class LLMBadAnswer(LLMError):
    """What came back is not what the protocol says."""


class SearchError(OrkaError):
    """A search engine could not be asked, or gave what it should not."""


class ServerError(OrkaError):
    """The private server did not start or died. `log_tail` holds the last lines of its log."""

    def __init__(self, message: str, *, log_tail: str = "") -> None:
        super().__init__(message if not log_tail else f"{message}\n--- last lines of the server's log ---\n{log_tail}")
        self.log_tail = log_tail


def sole_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error inside a group (of groups) of one; the first one where there are several."""
    for error in group.exceptions:
        if not isinstance(error, BaseExceptionGroup):
            return error
        return sole_error(cast("BaseExceptionGroup[BaseException]", error))
    return group
