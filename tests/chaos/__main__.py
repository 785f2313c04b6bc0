"""`python -m tests.chaos`: hurt a whole Storyhook in every way we know, then check that nothing is lost."""

from __future__ import annotations

import argparse
import platform
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.report import markdown
from tests.chaos.run import Result, Run


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    run = Run(home, options.seed, options.requests, lambda line: print(line, flush=True))
    try:
        result = run.run()
    except KeyboardInterrupt:
        print(f"ended before its time; what was seen is in {home}", file=sys.stderr)
        return 130
    except BaseException:
        print(run.lab.output()[-8_000:], file=sys.stderr)
        print(f"what was seen is in {home}", file=sys.stderr)
        raise
    finally:
        run.close()
    text = describe(result)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")
    if options.keep or not result.holds_good:
        print(f"\nThe histories are in {home}.", file=sys.stderr)
        return 0 if result.holds_good else 1
    shutil.rmtree(home)
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_500, help="operations of the customers")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="draws all that is drawn")
    parser.add_argument("--keep", action="store_true", help="keep logs and histories of a run that holds")
    parser.add_argument("--out", type=Path, help="write the table to this file")
    options = parser.parse_args()
    if options.requests < 1:
        parser.error("--requests (N) is at least 1")
    return options


def describe(result: Result) -> str:
    """Return the run's table and what was found, as Markdown."""
    found = result.findings
    calls = ", ".join(f"{count} {name}" for name, count in sorted(found.outcomes.items()))
    lines = [
        f"`make chaos N={result.requests} SEED={result.seed}` (Python {platform.python_version()}): "
        f"{'everything holds' if result.holds_good else 'DOES NOT HOLD'}",
        "",
        markdown(result.rows),
        "",
        f"{len(result.injections)} faults in {result.seconds:.0f} s; calls that asked for stories: {calls}; "
        f"{len(found.records)} requests, {len(result.arrivals)} webhook arrivals; "
        f"quiet {result.quiet:.0f} s after the end. `storyhook audit`: {result.audit}.",
    ]
    for title, entries in (
        ("Lost", [f"{name}: {why}" for name, why in found.lost.items()]),
        ("Double-charged", [f"{name}: {why}" for name, why in found.double_charged.items()]),
        ("Wrong", found.wrong),
        ("Duplicates", [f"{each.request_id} at {each.at:.1f}" for each in found.duplicates]),
    ):
        if entries:
            lines += ["", f"{title} ({len(entries)}):", *(f"- {entry}" for entry in entries[:50])]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
