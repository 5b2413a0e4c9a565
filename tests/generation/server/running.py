"""Starts the server of `app.py` and talks to it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

APP = Path(__file__).with_name("app.py")


class Running:
    """A server process; leave the context to end it."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        path = folder / "spec.json"
        path.write_text(json.dumps(spec))
        self.process = subprocess.Popen(
            [sys.executable, str(APP), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("port "), f"the server said {line!r}"
        self.url = f"http://127.0.0.1:{line.split()[1]}"

    def control(self, **values: Any) -> None:
        """Set how it behaves, and forget what it has seen."""
        whole = {"bad": {}, "per_event": 1, "delay_s": 0, "pause_at": 0, "key": None}
        whole |= {"strict": False, **values}
        request = urllib.request.Request(
            f"{self.url}/control", json.dumps(whole).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            answer.read()

    def seen(self) -> list[dict[str, Any]]:
        """The requests since the last `control`."""
        with urllib.request.urlopen(f"{self.url}/seen") as answer:
            return json.load(answer)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
