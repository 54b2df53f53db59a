"""Whether a worker makes progress, from the file that `orka worker --health FILE` rewrites three times per lease.

    python health.py FILE [--silent 30] [--stuck 1800]

Exit 0, or 1 with the reason: no sign of life for `--silent` seconds (the process is gone, or something blocks its event
loop), or tasks in its slots and none of them begun or ended for `--stuck` seconds. A worker without a task is well, and
so is one whose tasks all wait for their branches. Standard library only: it runs every few seconds.
"""

import argparse
import json
import sys
import time
from pathlib import Path


def judge(facts: dict[str, int], now_ms: int, silent: float, stuck: float) -> str:
    """Why the worker is not well; empty when it is."""
    if now_ms - facts["seen_ms"] > silent * 1000:
        return f"no sign of life for {(now_ms - facts['seen_ms']) // 1000} s"
    if facts["running"] and now_ms - facts["progress_ms"] > stuck * 1000:
        return f"{facts['running']} tasks, and none begun or ended for {(now_ms - facts['progress_ms']) // 1000} s"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--silent", type=float, default=30.0, help="seconds; more than two leases")
    parser.add_argument("--stuck", type=float, default=1800.0, help="seconds; more than the longest task takes")
    arguments = parser.parse_args()
    try:
        facts = json.loads(arguments.file.read_bytes())
        why = judge(facts, int(time.time() * 1000), arguments.silent, arguments.stuck)
    except (OSError, ValueError, KeyError) as exc:
        why = f"{type(exc).__name__}: {exc}"
    print(why or "well")
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
