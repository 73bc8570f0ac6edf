"""Work around a command that cron runs: hooks before and after it, and figures for Prometheus.

Invariants
    `before` hooks run once the command line is valid, before anything is opened. If one fails, the command does not begin.
    `after` hooks run however the command ended, as soon as a `before` hook has begun. A file system that the first hook
    mounted is thus unmounted even if the second hook failed or a signal came. If the command failed, `on_failure` follows.
    A dry run runs no hook and writes no figures. The result is on stdout before any of this can spoil it.
"""

import os
import time
from typing import TYPE_CHECKING

from drtool.errors import DrtoolError, worst_exit

if TYPE_CHECKING:
    from drtool.cli.core.call import Call
    from drtool.plans.hooks import Outcome

_HOOKED = ("backup", "verify", "prune")
_GOOD = {"backup": (0, 5), "verify": (0, 5), "prune": (0,)}
"""Exit codes after which the work is done, or `repair` completes it. All others run `on_failure` and send no ping of
`after`.
"""


class CommandHooks:
    """The hooks and figures of one run of one command."""

    def __init__(self, call: "Call", command: str) -> None:
        self._call = call
        self._command = command
        self._began_s = time.time()
        self._failure = ""
        """The `after` hooks that failed, with reasons."""

    def begin(self) -> None:
        """Run the `before` hooks. Raise DrtoolError if one fails."""
        hooks = self._hooks("before")
        if hooks:
            outcome = self._run(f"before_{self._command}", hooks, None, stop_at_failure=True)
            if outcome.failed:
                raise DrtoolError(
                    f"{outcome.failed[0]}, so {self._command} did not begin",
                    hint="fix the hook, or remove it from `hooks:`",
                )

    def end(self, code: int) -> int:
        """Run the `after` hooks and those for a failure, and write the figures. Return the final exit code."""
        done = code in _GOOD.get(self._command, (0,))
        failed = False
        if self._hooks("after"):
            outcome = self._run(f"after_{self._command}", self._hooks("after"), code, pings=done)
            failed = bool(outcome.failed)
            self._failure = "; ".join(outcome.failed)
        code = worst_exit(code, 1) if failed else code
        on_failure = self._call.settings.config.hooks.on_failure if self._command in _HOOKED else ()
        if on_failure and (failed or not done):
            self._run("on_failure", on_failure, code)
        return worst_exit(code, 1) if not self._write_metrics(code) else code

    def _hooks(self, which: str) -> tuple[tuple[str, ...], ...]:
        if self._command not in _HOOKED:
            return ()
        found: tuple[tuple[str, ...], ...] = getattr(self._call.settings.config.hooks, f"{which}_{self._command}")
        return found

    def _run(
        self,
        name: str,
        hooks: tuple[tuple[str, ...], ...],
        code: int | None,
        *,
        stop_at_failure: bool = False,
        pings: bool = True,
    ) -> "Outcome":
        from drtool.plans.channels import Channels
        from drtool.plans.hooks import Occasion, run_hooks

        call = self._call
        occasion = Occasion(
            hook=name,
            command=self._command,
            config=str(call.settings.config_path or ""),
            exit_code=code,
            snapshots=call.screen.stored,
            message=self._reason(code),
        )
        timeout_s = call.settings.config.hooks.timeout
        outcome = run_hooks(
            hooks,
            occasion,
            os.environ,
            timeout_s=timeout_s,
            stop_at_failure=stop_at_failure,
            pings=pings,
            tell=Channels(call.settings.config.notify).tell,
        )
        for text in (*outcome.unanswered, *(() if stop_at_failure else outcome.failed)):
            call.screen.complain(text)
        return outcome

    def _reason(self, code: int | None) -> str:
        """Return in one line why the command did not end with 0."""
        from drtool.cli.core.reasons import reason_of

        if not code:
            return ""
        found = self._call.screen.failure or reason_of(self._command, self._call.document)
        return "; ".join(text for text in (found, self._failure) if text)

    def _write_metrics(self, code: int) -> bool:
        """Write the figures if any are wanted. Return whether that succeeded."""
        call = self._call
        path = call.metrics_file
        if path is None:
            return True
        from drtool.cli.core.call import make_private
        from drtool.reports.metrics import Owner, publish, run_of

        document = call.document
        if self._command == "prune" and isinstance(document, dict):
            document = document.get("prune", document)
        settings = call.settings
        owner = Owner(
            config=settings.config_name,
            repository=settings.config.repository,
            host=settings.host,
            sources=frozenset(settings.config.sources),
            file=path.absolute(),
            configured=call.configured_metrics_file,
        )
        run = run_of(
            self._command, document, exit_code=code, began_s=self._began_s, ended_s=time.time(), host=settings.host
        )
        try:
            make_private(settings.state_dir)
            publish(settings.state_dir, owner, self._command, run)
        except OSError as error:
            call.screen.complain(f"the figures cannot be written to {path}: {error.strerror}")
            return False
        return True
