"""Actions in real runs: outputs are asserted, waited for and shown, and a secret stays out of the journal."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from action_world import CANARY, run_context

from drtool.plans.actions.registry import Actions
from drtool.plans.approvals import Approver
from drtool.plans.evidence.objectives import Measures
from drtool.plans.language import load_plan
from drtool.plans.language.values import Moment
from drtool.plans.language.variables import resolve_vars
from drtool.plans.running.facts import Given
from drtool.plans.running.secrets import read_secrets, redactor
from drtool.plans.running.session import Run, carry_out, preview

HEAD = "version: 1\nid: t\ntitle: a test\n"


def made(tmp_path, text, **world):
    (tmp_path / "state").mkdir(mode=0o700)
    file = tmp_path / "plan.yaml"
    file.write_text(HEAD + text)
    plan = load_plan(file)
    now = Moment(time.time_ns())
    secrets = read_secrets(plan.secrets, {"TOKEN": CANARY})
    folder = tmp_path / "state/runs/20260101-000000-aaaa"
    own = run_context(
        folder,
        plan=plan,
        state_dir=tmp_path / "state",
        redact=redactor(secrets),
        **({"ask": Approver(folder, at_terminal=lambda: False).ask} | world),
    )
    given = Given(run=own.run, scope=plan.scope, started=now, vars=resolve_vars(plan, (), now), secrets=secrets)
    return Run(plan=plan, given=given, context=own, actions=Actions(), host="h", user="u", live=True, variables={})


def carried_out(run):
    resolution = preview(run)
    assert not resolution.cannot, [row.status for row in resolution.rows]
    result = carry_out(run, resolution, lambda plan, events: Measures(values={}), lambda: "")
    ended = {event.key: event for event in result.events if type(event).__name__ == "Ended"}
    return result, ended


def test_outputs_are_asserted_and_waited_for(tmp_path):
    run = made(
        tmp_path,
        """
steps:
  - {id: count, uses: run, with: {argv: [echo, seven], changes: nothing}, outputs: {word: stdout, code: exit_code}}
  - {id: ready, uses: wait, needs: [count], with: {until: "steps.count.outputs.code == 0", every: 100ms}}
  - {id: good, uses: assert, needs: [ready], with: {that: ["steps.count.outputs.word == 'seven'", "ran('count')"]}}
  - id: bad
    uses: assert
    needs: [good]
    with: {that: ["steps.count.outputs.word == 'eight'"]}
    on_failure: continue
""".replace("needs: [good]", "needs: [good, count]").replace("needs: [ready]", "needs: [ready, count]"),
    )
    result, ended = carried_out(run)
    assert [ended[key].status for key in ("count", "ready", "good", "bad")] == ["passed", "passed", "passed", "failed"]
    assert "steps.count.outputs.word = seven" in ended["bad"].detail
    assert result.conclusion.exit_code == 1


@pytest.mark.parametrize(("yes", "status", "code"), [(True, "passed", 0), (False, "aborted", 1)])
def test_an_approval_shows_what_was_found_and_is_answered_by_another_process(tmp_path, yes, status, code):
    seen = []
    run = made(
        tmp_path,
        """
steps:
  - {id: look, uses: run, with: {argv: [echo, three rows], changes: nothing}}
  - {id: go, uses: approve, needs: [look], with: {prompt: Go?, show: [look]}, timeout: 20s}
""",
    )
    own = run.context.ask
    object.__setattr__(run.context, "ask", lambda *words: seen.append(words) or own(*words))
    script = (
        "import sys, time; from pathlib import Path; from drtool.plans.approvals import answer; "
        "folder = Path(sys.argv[1])\n"
        "while not folder.exists(): time.sleep(0.05)\n"
        f"answer(folder, 'go', yes={yes})"
    )
    with subprocess.Popen([sys.executable, "-c", script, run.context.folder]):
        result, ended = carried_out(run)
    assert ended["go"].status == status
    assert ended["go"].human_s >= 0
    assert "  stdout: three rows" in seen[0][2]
    assert (result.conclusion.exit_code != 0) == (code != 0)


def test_a_secret_is_in_the_environment_and_nowhere_else(tmp_path):
    run = made(
        tmp_path,
        f"""
secrets: {{token: {{env: TOKEN}}}}
steps:
  - id: leak
    uses: run
    with: {{argv: [sh, -c, 'echo "$T" | tee {tmp_path}/seen; exit 1'], env: {{T: "${{{{ secrets.token }}}}"}}, changes: nothing}}
    outputs: {{text: stdout}}
    on_failure: continue
  - id: ask
    uses: probe
    with: {{type: command, argv: [sh, -c, 'echo "$T" >&2'], env: {{T: "${{{{ secrets.token }}}}"}}}}
""",
    )
    result, ended = carried_out(run)
    assert (tmp_path / "seen").read_text().strip() == CANARY
    assert (ended["leak"].status, ended["ask"].status) == ("failed", "passed")
    written = b"".join(path.read_bytes() for path in Path(run.context.folder).rglob("*") if path.is_file())
    assert CANARY.encode() not in written
    assert CANARY not in repr(result)


def test_a_false_precondition_is_reported_before_anything_runs(tmp_path):
    run = made(
        tmp_path,
        f"""
preconditions:
  - {{id: port, uses: probe, with: {{type: tcp, host: 127.0.0.1, port: 9}}}}
  - {{id: tool, uses: run, with: {{argv: [no-such-tool], changes: nothing}}}}
  - {{id: file, uses: probe, with: {{type: file, path: {tmp_path}/gone}}}}
steps:
  - {{id: touch, uses: run, with: {{argv: [touch, {tmp_path}/made], changes: scratch}}}}
""",
    )
    resolution = preview(run)
    assert [row.id for row in resolution.cannot] == ["port", "tool", "file"]
    assert not (tmp_path / "made").exists()
