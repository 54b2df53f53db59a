"""What an answer cost: list prices of the providers, and of a model that runs on one's own machine its electricity and its
share of the hardware. Workflow-format 9.1."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from ipaddress import ip_address
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import anyio.to_thread

from orka.llm.address import OLLAMA
from orka.llm.base import Endpoint
from orka.results import Usage

RATES: Final = {"US": 0.16, "EU": 0.28, "UK": 0.33, "JP": 0.24, "KR": 0.13, "CN": 0.09, "CA": 0.12, "AU": 0.25}
"""US dollars for a kWh, by region: rough household prices, for want of `ORKA_ELECTRICITY_RATE_USD_KWH`."""
_GPU_LOAD, _CPU_LOAD = 0.8, 0.3
"""How busy they are while a model answers."""
_LIFE_HOURS = 3 * 365 * 24
"""Of the hardware, over which its price is spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCost:
    """Estimates, unless the environment says better."""

    policy: Literal["calculate", "null_fail", "zero_legacy"] = "calculate"
    """`null_fail`: unknown; `zero_legacy`: nothing."""
    rate: float = RATES["US"]
    """US dollars for a kWh."""
    hardware: float = 2000.0
    """US dollars."""
    gpu_watts: float = 200.0
    cpu_watts: float = 65.0

    def of(self, latency_ms: float) -> float:
        """US dollars of an answer that took so long."""
        hours = latency_ms / 3_600_000
        watts = self.gpu_watts * _GPU_LOAD + self.cpu_watts * _CPU_LOAD
        return hours * (watts / 1000 * self.rate + self.hardware / _LIFE_HOURS)


class Prices:
    """The price list comes with the library `genai-prices`; what is in it when it is installed is what counts."""

    def __init__(self, local: LocalCost) -> None:
        self._local = local
        self._known: dict[tuple[str | None, str], tuple[Decimal, Decimal] | None] = {}

    async def cost(self, endpoint: Endpoint, model: str, usage: Usage, latency_ms: float) -> float | None:
        """US dollars; None when nobody knows."""
        if is_local(endpoint):
            match self._local.policy:
                case "calculate":
                    return round(self._local.of(latency_ms), 9)
                case "zero_legacy":
                    return 0.0
                case "null_fail":
                    return None
        key = (endpoint.url, model)
        if key not in self._known:
            if len(self._known) >= 1000:
                self._known.clear()
            self._known[key] = await anyio.to_thread.run_sync(_prices_of, endpoint, model)
        price = self._known[key]
        if price is None:
            return None
        return round(float(usage.prompt_tokens * price[0] + usage.completion_tokens * price[1]), 9)


def is_local(endpoint: Endpoint) -> bool:
    """It runs on a machine of one's own: nobody sends a bill."""
    if endpoint.url is None:
        return endpoint.provider == OLLAMA
    host = urlsplit(endpoint.url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:  # a name
        return host.endswith((".local", ".localhost", ".internal")) or "." not in host


def _prices_of(endpoint: Endpoint, model: str) -> tuple[Decimal, Decimal] | None:
    """Dollars for one token of the prompt and of the answer. Blocking: the first look reads the whole list."""
    try:
        import genai_prices
    except ImportError:
        return None
    places: list[dict[str, Any]] = [{"provider_api_url": endpoint.url}] if endpoint.url else []
    places += [{"provider_id": endpoint.provider}, {}]
    for place in places:
        try:
            prices = [
                genai_prices.calc_price(genai_prices.Usage(**tokens), model, **place).total_price
                for tokens in ({"input_tokens": 1000, "output_tokens": 0}, {"input_tokens": 0, "output_tokens": 1000})
            ]
            return prices[0] / 1000, prices[1] / 1000
        except (LookupError, ValueError):
            continue
    return None
