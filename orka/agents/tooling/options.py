"""Keys of a file about tools."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from orka.agents.function import REFERENCE
from orka.agents.tooling.base import NAME
from orka.agents.tooling.spec import ServerSpec
from orka.graph.values import shape
from orka.settings import endpoint_fault

_Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), shape("the name of an environment variable")]
_Reference = Annotated[str, Field(pattern=REFERENCE), shape("'module:name', both without a leading underscore")]
_Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$"), shape("a name of letters, digits, '_' and '-', at most 64")]


class ServerKeys(BaseModel):
    """`mcp` of a tool entry."""

    model_config = ConfigDict(extra="ignore")

    command: str | None = Field(
        default=None,
        min_length=1,
        description="Program that is started and speaks over its standard streams; `python` is the interpreter that runs "
        "Orka.",
    )
    args: list[str] = Field(default=[], description="Its arguments.")
    env: dict[str, str] = Field(default={}, description="Variables that it gets, beside `PATH`, `HOME` and the like.")
    env_from: list[_Variable] = Field(
        default=[], description="Variables of this process that it gets, too: secrets are no part of a graph."
    )
    cwd: str | None = Field(default=None, description="Its working directory; without it, that of this process.")
    url: str | None = Field(default=None, description="Address of a server (streamable HTTP), in place of `command`.")
    token_env: _Variable | None = Field(
        default=None, description="Variable whose value is sent as `Authorization: Bearer ...`."
    )
    headers_env: dict[str, _Variable] = Field(
        default={}, description="Headers to the variables that hold their values."
    )
    open_timeout: float = Field(default=30.0, gt=0, le=600, description="Seconds until it must have told its tools.")

    @field_validator("url")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is not None and (fault := endpoint_fault(url)):
            raise ValueError(f"the address {fault}")
        return url

    @model_validator(mode="after")
    def _either(self) -> ServerKeys:
        if (self.command is None) == (self.url is None):
            raise ValueError("give either `command` or `url`")
        other = ("token_env", "headers_env") if self.url is None else ("args", "env", "env_from", "cwd")
        if given := [name for name in other if getattr(self, name)]:
            kind = "started by `command`" if self.url is None else "at a `url`"
            raise ValueError(f"a server {kind} takes no {', '.join(f'`{name}`' for name in given)}")
        return self

    def spec(self) -> ServerSpec:
        return ServerSpec(
            command=self.command,
            args=tuple(self.args),
            env=tuple(sorted(self.env.items())),
            env_from=tuple(sorted(self.env_from)),
            cwd=self.cwd,
            url=self.url,
            token_env=self.token_env,
            headers_env=tuple(sorted(self.headers_env.items())),
            open_timeout=self.open_timeout,
        )


class ToolEntry(BaseModel):
    """One of `tools`. A text is `function` when it has a colon, else `tool`."""

    model_config = ConfigDict(extra="ignore")

    function: _Reference | None = Field(
        default=None, description="`module:name` of a function, which this process must permit."
    )
    tool: str | None = Field(default=None, description="Name of a tool that Python code has registered.")
    mcp: ServerKeys | None = Field(default=None, description="An MCP server, all of whose tools are offered.")
    name: _Name | None = Field(default=None, description="What the model is told that a function is called.")
    description: str | None = Field(default=None, description="What it is told of it, in place of its docstring.")
    only: list[str] | None = Field(default=None, description="Tools of a server that are offered.")
    prefix: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-]{0,32}$", description="Before the names of a server's tools."
    )
    timeout: float | None = Field(default=None, gt=0, description="Seconds for one call, in place of `tool_timeout`.")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: object) -> object:
        if isinstance(value, str):
            return {"function" if ":" in value else "tool": value}
        return value

    @model_validator(mode="after")
    def _one(self) -> ToolEntry:
        if sum(source is not None for source in (self.function, self.tool, self.mcp)) != 1:
            raise ValueError("give one of `function`, `tool` and `mcp`")
        if self.mcp is None and (self.only is not None or self.prefix):
            raise ValueError("`only` and `prefix` are for `mcp` servers")
        if self.mcp is not None and (self.name is not None or self.description is not None):
            raise ValueError("the tools of a server have names and descriptions of their own: use `only` and `prefix`")
        return self
